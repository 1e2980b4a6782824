"""Checkpoints: what was saved comes back to the bit; what does not fit or is damaged is named; nothing is executed."""

import dataclasses
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from wavesynth import storage
from wavesynth.config import TrainingConfig
from wavesynth.errors import UserError
from wavesynth.training import checkpoints
from wavesynth.training.checkpoints import States, flatten, publish, read_weights, unflatten
from wavesynth.training.state import TrainState, create, make_optimizer

PARAMS = {
    "front": np.arange(12, dtype=np.float32).reshape(3, 4),
    "layers": {"0": {"w": np.ones((2, 2), np.float32)}, "1": {"w": np.zeros((5,), np.float32)}},
}


def state_of(params: Any, optimizer: str = "adamw", step: int = 7) -> TrainState:
    """A state that has taken some steps: nothing in it is as it was made."""
    made = create(jax.tree.map(jnp.asarray, params), make_optimizer(TrainingConfig(optimizer=optimizer)))  # type: ignore[arg-type]
    moved = jax.tree.map(lambda leaf: leaf + 3, made)
    return dataclasses.replace(moved, step=jnp.int32(step))


def template_of(state: TrainState) -> Any:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), state)


def save(run: Path, state: TrainState, meta: dict[str, Any] | None = None, keep: int = 2) -> None:
    states = States(run / "states", keep)
    states.save(state, meta or {"best": 1.5}, wait=True)
    states.close()


def restore(run: Path, template: Any) -> tuple[TrainState, dict[str, Any]]:
    states = States(run / "states", keep=2)
    try:
        return states.restore(template)
    finally:
        states.close()


# Training states.


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_state_comes_back_to_the_bit(optimizer: str, tmp_path: Path):
    state = state_of(PARAMS, optimizer)
    save(tmp_path, state, {"best": float("inf")})
    found, meta = restore(tmp_path, template_of(state))
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert meta == {"best": float("inf")}


def test_a_state_that_is_written_behind_is_the_one_that_was_given(tmp_path: Path):
    # The loop donates a state's memory to the next step while it is still being written.
    params = {"w": np.zeros((500, 500), np.float32)}
    optimizer = make_optimizer(TrainingConfig())
    advance = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = create(jax.tree.map(jnp.asarray, params), optimizer)
    template = template_of(state)
    states = States(tmp_path / "states", keep=100)
    for _ in range(10):
        state = advance(state)
        states.save(state, {"best": 0.0})
    states.close()
    states = States(tmp_path / "states", keep=100)
    for step in range(1, 11):
        wanted = states._ocp.args.Composite(state=states._ocp.args.StandardRestore(template))
        found = states._manager.restore(step, args=wanted)["state"]
        assert all((np.asarray(leaf) == step).all() for leaf in jax.tree.leaves(found))
    states.close()


def test_only_the_latest_few_are_kept(tmp_path: Path):
    states = States(tmp_path / "states", keep=2)
    assert states.latest is None
    for step in (5, 10, 15, 20):
        states.save(state_of(PARAMS, step=step), {"best": 1.0})
    states.save(state_of(PARAMS, step=20), {"best": 1.0}, wait=True)  # once more: nothing happens
    assert states.latest == 20
    states.close()
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["15", "20"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"front": np.zeros((3, 5), np.float32)}, r"ema.front is \[3, 4\], the model's is \[3, 5\]: .*config.json"),
        ({"front": np.zeros((12,), np.float32)}, r"ema.front is \[3, 4\], the model's is \[12\]"),
        ({"more": np.zeros((2,), np.float32)}, r"lacks ema.more \[2\]"),
        ({"layers": {"0": PARAMS["layers"]["0"]}}, r"holds ema.layers.1.w \[5\], which the model does not have"),
    ],
)
def test_a_state_that_does_not_fit_is_named(change: dict, message: str, tmp_path: Path):
    save(tmp_path, state_of(PARAMS))
    with pytest.raises(UserError, match=message):
        restore(tmp_path, template_of(state_of(PARAMS | change)))


def test_a_state_of_another_optimizer_is_named(tmp_path: Path):
    save(tmp_path, state_of(PARAMS, "adamw"))
    with pytest.raises(UserError, match=r"states/7 (holds|lacks) optimizer\..*config.json"):
        restore(tmp_path, template_of(state_of(PARAMS, "muon")))


def test_a_damaged_state_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture):
    params = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    save(tmp_path, state_of(params, step=6))
    save(tmp_path, state_of(params, step=7))
    largest = max((tmp_path / "states" / "7").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8] = b"\xff" * 8
    largest.write_bytes(content)
    with pytest.raises(
        UserError, match=r"state 7 is damaged .*delete its folder to continue from the previous one"
    ) as error:
        restore(tmp_path, template_of(state_of(params)))
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""

    shutil.rmtree(tmp_path / "states" / "7")
    assert int(restore(tmp_path, template_of(state_of(params)))[0].step) == 6


def test_the_checksum_depends_on_places():
    state = state_of({"w": np.arange(8, dtype=np.float32), "v": np.ones(3, np.float32)})
    w, v = state.params["w"], state.params["v"]
    changes = [{"w": w[::-1]}, {"w": -w}, {"v": v.at[0].set(w[2]), "w": w.at[2].set(v[0])}]
    sums = [checkpoints._checksum(dataclasses.replace(state, params=state.params | change)) for change in changes]
    assert len({checkpoints._checksum(state), *sums}) == 4


def test_without_a_failure_nothing_global_stays_changed(tmp_path: Path):
    absl = logging.getLogger("absl")
    before = absl.level, sys.unraisablehook
    states = States(tmp_path / "states", keep=1)
    states.save(state_of(PARAMS), {})
    states.close()
    assert (absl.level, sys.unraisablehook) == before


def test_after_a_failure_only_what_orbax_abandons_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    passed_on: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", passed_on.append)
    save(tmp_path, state_of(PARAMS))
    for path in (tmp_path / "states" / "7").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(UserError, match="damaged"):
            restore(tmp_path, template_of(state_of(PARAMS)))

    class Careless:
        def __del__(self) -> None:
            raise ValueError("mine")

    del passed_on[:]
    Careless()
    assert [str(unraisable.exc_value) for unraisable in passed_on] == ["mine"]


def abandoned(code: str, file: str, named: bool) -> SimpleNamespace:
    """What `sys.unraisablehook` gets when a coroutine of a file raises. named: it names the coroutine (before Python 3.14)."""
    made: dict[str, Any] = {}
    exec(compile(code, file, "exec"), made)
    coroutine = made["read"]()
    try:
        coroutine.send(None)
    except ValueError as error:
        trace = None if named else error.__traceback__
        return SimpleNamespace(object=coroutine if named else None, exc_value=error, exc_traceback=trace)
    raise AssertionError


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("file", "passed"), [("/x/orbax/serialization.py", 0), ("/x/mine/orbax.py", 1)])
def test_a_coroutine_is_silent_if_its_code_is_in_orbax(file: str, passed: int, named: bool):
    passed_on: list[Any] = []
    hook = checkpoints._WithoutAbandoned(passed_on.append)
    hook(abandoned("async def read(): raise ValueError('failed')", file, named))
    assert len(passed_on) == passed


@pytest.mark.parametrize(
    ("error", "passed"), [(RuntimeError("Event loop is closed"), 0), (ValueError("Event loop is closed"), 1)]
)
def test_only_a_closed_event_loop_is_silent_wherever_it_is_raised(error: Exception, passed: int):
    passed_on: list[Any] = []
    unraisable = SimpleNamespace(object=None, exc_value=error, exc_traceback=None)
    checkpoints._WithoutAbandoned(passed_on.append)(unraisable)
    assert len(passed_on) == passed


def test_what_a_killed_save_left_is_neither_read_nor_kept(tmp_path: Path):
    save(tmp_path, state_of(PARAMS, step=3))
    left = tmp_path / "states" / "4.orbax-checkpoint-tmp"
    left.mkdir()
    (left / "half").write_bytes(b"x" * 100)
    assert int(restore(tmp_path, template_of(state_of(PARAMS)))[0].step) == 3
    assert not left.exists()


# Published weights.


def test_weights_come_back_to_the_bit(tmp_path: Path):
    publish(tmp_path, PARAMS, {"step": 3})
    found = read_weights(tmp_path, PARAMS)
    assert jax.tree.structure(found) == jax.tree.structure(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, found, PARAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@given(
    st.recursive(
        st.integers(0, 9),
        lambda tree: st.dictionaries(st.text("abc0_", min_size=1, max_size=3), tree, min_size=1),
        max_leaves=8,
    ).filter(lambda tree: isinstance(tree, dict))
)
def test_flatten_and_unflatten_are_inverse(tree: dict):
    assert unflatten(flatten(tree, asarray=False)) == tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"front": np.zeros((4, 3), np.float32)}, r"front is \[4, 3\], the model's is \[3, 4\]: .*config.json"),
        ({"front": np.zeros((3, 4), np.float16)}, "front is float16, the model's is float32"),
        ({"more": np.zeros((2,), np.float32)}, r"holds more \[2\], which the model does not have"),
        ({"layers": {"0": PARAMS["layers"]["0"]}}, r"lacks layers.1.w \[5\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict, message: str, tmp_path: Path):
    publish(tmp_path, PARAMS | change, {})
    with pytest.raises(UserError, match=f"model.safetensors:? {message}"):
        read_weights(tmp_path, PARAMS)


def test_no_weights_yet(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"has no model.safetensors: its training has not published weights yet.*--resume"
    ):
        read_weights(tmp_path, PARAMS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_damaged_weights_are_a_user_error_or_numbers(data: st.DataObject, tmp_path: Path):
    publish(tmp_path, PARAMS, {})
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "model.safetensors").write_bytes(content)
    message, found = None, PARAMS
    try:
        found = read_weights(tmp_path, PARAMS)
    except UserError as error:
        message = str(error)
    assert message is None or ("model.safetensors" in message and "\n" not in message)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, PARAMS)


class Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_opened(tmp_path: Path):
    trap = tmp_path / "sprung"
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Exploit(trap)))
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path, PARAMS)
    assert not trap.exists()
    saved = state_of(PARAMS)
    save(tmp_path / "run", saved)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        path.write_bytes(pickle.dumps(Exploit(trap)))
        with suppress(UserError):
            restore(tmp_path / "run", template_of(saved))
        path.write_bytes(content)
    assert not trap.exists()


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish(tmp_path, PARAMS, {"step": 1})
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path, PARAMS, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_weights_are_read_where_training_is_not_installed(tmp_path: Path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "model.safetensors", metadata={"wavesynth": json.dumps({})})
    program = (
        "import sys; sys.modules['orbax'] = None\n"
        "from pathlib import Path; import numpy as np\n"
        "from wavesynth.training.checkpoints import read_weights\n"
        "print(read_weights(Path(sys.argv[1]), {'a': np.zeros(3, np.float32)}))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The loop: it learns, validates, saves and publishes; it stops at a NaN; resumed it is as if it had never stopped."""

import dataclasses
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import wavesynth
from tests.tolerances import assert_close
from wavesynth import api
from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.training import checkpoints, journal, loop
from wavesynth.training.likelihood import Likelihood
from wavesynth.training.state import Pace

TAPS, CROP = 8, 256
EPS = float(np.finfo(np.float32).eps)
TRAINING = TrainingConfig(
    steps=12,
    batch_size=4,
    crop_seconds=0.016,
    warmup=1,
    validate_every=4,
    save_every=3,
    preview_every=5,
    learning_rate=1e-2,
)


def log_prob(params: Any, batch: Any) -> jax.Array:
    """A linear prediction with Gaussian errors: the smallest model that learns anything."""
    samples = batch["samples"][:, 0]
    past = jnp.stack([samples[:, k : k - TAPS] for k in range(TAPS)], axis=-1)
    errors = samples[:, TAPS:] - past @ params["w"]
    return -0.5 * jnp.square(errors) * jnp.exp(-2 * params["scale"]) - params["scale"] - 0.5 * math.log(2 * math.pi)


class Recorder:
    """Runs the loop with that model, and keeps what it hands out."""

    def __init__(
        self, run: Path, shards: Path, training: TrainingConfig = TRAINING, batches: type[Batches] = Batches,
        objective: type[Likelihood] = Likelihood,
    ) -> None:  # fmt: skip
        self.run, self.training = run, training
        opened = Shards.open(shards)
        self.objective = objective(log_prob, training)
        self.learned = batches(opened, "train", training.batch_size, CROP, TAPS, training.seed)
        self.held_out = Batches(opened, "valid", training.batch_size, CROP, TAPS, training.seed, limit=10)
        self.published: list[tuple[int, float, Any]] = []
        self.previewed: list[int] = []

    def train(self, rehearse: bool = False, measure: bool = False) -> Any:
        self.run.mkdir(exist_ok=True)
        params = {"w": jnp.zeros(TAPS), "scale": jnp.zeros(())}
        states = checkpoints.States(self.run / "states", keep=2)
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        state, history = self.objective.init(params), loop.History()
        if states.latest is not None:
            template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), state)
            state, meta = states.restore(template)
            history = loop.History(**meta)
        records = journal.Journal(self.run / "journal.jsonl", int(state.step))
        try:
            work = loop.Loop(
                self.objective, self.training, self.learned, self.held_out, states, records,
                publish=lambda params, step, value: self.published.append((step, value, jax.device_get(params))),
                preview=lambda _, step: self.previewed.append(step), history=history, progress=False,
            )  # fmt: skip
            self.began = history
            if measure:
                state, self.speed, _ = work.measure(state, 0.0)
            state = work.run(work.rehearse(state) if rehearse else state)
            self.history = work.history
            return state
        finally:
            records.close()
            states.close()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return journal.read(self.run / "journal.jsonl")

    @property
    def saved(self) -> list[int]:
        return sorted(int(path.name) for path in (self.run / "states").iterdir())


def test_what_happens_when(tmp_path: Path, tiny_shards: Path):
    recorder = Recorder(tmp_path / "run", tiny_shards)
    state = recorder.train()
    assert int(state.step) == 12
    assert [line["step"] for line in recorder.lines if "bits" in line] == [10, 12]
    values = {line["step"]: line["valid_bits"] for line in recorder.lines if "valid_bits" in line}
    assert list(values) == [4, 8, 12]
    assert recorder.saved == [9, 12]
    assert recorder.previewed == [5, 10, 12]
    seconds = [line["seconds"] for line in recorder.lines]
    assert seconds == sorted(seconds)
    best, expected = math.inf, []
    for step, value in values.items():
        if value < best:
            expected.append(step)
            best = value
    assert [step for step, _, _ in recorder.published] == expected
    jax.tree.map(np.testing.assert_array_equal, recorder.published[-1][2], jax.device_get(state.ema))


def test_validation_is_the_mean_over_samples(tmp_path: Path, tiny_shards: Path):
    recorder = Recorder(tmp_path, tiny_shards)
    params = {"w": jnp.zeros(TAPS).at[-1].set(0.9), "scale": jnp.float32(-2.0)}
    evaluate = jax.jit(recorder.objective.evaluate)
    place = loop.placement(recorder.training.batch_size)
    value = loop.validate(evaluate, params, recorder.held_out, place, "bits")
    bits, count = 0.0, 0
    for batch in recorder.held_out.held_out():
        each = -np.asarray(log_prob(params, batch), np.float64) / math.log(2)
        bits, count = bits + each[batch["real"]].sum(), count + int(batch["real"].sum())
    assert not all(batch["real"].all() for batch in recorder.held_out.held_out())  # so that the weights matter
    # float32: each batch's mean is rounded, and is a sum of up to batch * crop terms in a tree
    assert value == pytest.approx(bits / count, rel=EPS * math.log2(4 * 256))


class Poisoned(Batches):
    """One NaN in the batch of step 7."""

    def batch(self, step: int) -> dict[str, np.ndarray]:
        batch = super().batch(step)
        if step == 6:
            batch["samples"][1, 0, 20] = np.nan
        return batch


def test_a_nan_stops_the_run_with_the_last_good_state(tmp_path: Path, tiny_shards: Path):
    recorder = Recorder(tmp_path / "run", tiny_shards, batches=Poisoned)
    with pytest.raises(UserError, match=r"the loss of step 7 is not finite.*step 6 is saved.*--resume.*learning rate"):
        recorder.train()
    assert recorder.saved == [3, 6]
    assert [step for step, _, _ in recorder.published] == [4]
    assert recorder.lines[-1] == {
        "step": 7,
        "seconds": recorder.lines[-1]["seconds"],
        "bits": None,
        "gradient_norm": None,
    }

    repaired = Recorder(tmp_path / "run", tiny_shards)
    straight = Recorder(tmp_path / "straight", tiny_shards)
    jax.tree.map(np.testing.assert_array_equal, repaired.train(), straight.train())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(repaired.published[-1][2])))


def test_a_nan_before_the_first_validation_keeps_weights_too(tmp_path: Path, tiny_shards: Path):
    late = dataclasses.replace(TRAINING, validate_every=100, save_every=100)
    recorder = Recorder(tmp_path / "run", tiny_shards, late, batches=Poisoned)
    with pytest.raises(UserError, match="the loss of step 7"):
        recorder.train()
    assert recorder.saved == [6]
    ((step, value, params),) = recorder.published
    assert step == 6
    assert math.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_learning_rate_out_of_all_measure(tmp_path: Path, tiny_shards: Path):
    wild = dataclasses.replace(TRAINING, save_every=1, validate_every=1)
    for name in ("learning_rate", "clip"):  # more than a config may have
        object.__setattr__(wild, name, 1e30)
    recorder = Recorder(tmp_path, tiny_shards, wild)
    with pytest.raises(UserError, match=r"the loss of step 3 is not finite.*delete states/2 to continue from the one"):
        recorder.train()
    assert recorder.saved == [1, 2]
    assert [step for step, _, _ in recorder.published] == [1]

    # Step 2 was the one too far: what it left is finite, and useless. Follow the message.
    shutil.rmtree(tmp_path / "states" / "2")
    calm = Recorder(tmp_path, tiny_shards)
    assert int(calm.train().step) == 12
    assert math.isfinite(calm.lines[-1]["valid_bits"])


@pytest.mark.parametrize("stop_at", [3, 10])
def test_stopped_and_resumed_is_never_stopped(
    stop_at: int, tmp_path: Path, tiny_config, tiny_run: Path, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
):
    run, real = tmp_path / "run", Batches.batch

    def batch(self: Batches, step: int) -> Any:
        if step == stop_at + 1:  # made ahead, while step `stop_at` is taken or before it
            signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        with pytest.raises(
            KeyboardInterrupt, match=r"stopped at step \d+ of 20; the state is saved: continue with --resume"
        ) as stop:
            wavesynth.train(tiny_shards, run, tiny_config, progress=False)
    stopped = int(str(stop.value).split()[3])
    assert 1 <= stopped <= stop_at + 1
    wavesynth.load(run)
    wavesynth.train(tiny_shards, run, resume=True, progress=False)

    def entries(folder: Path) -> list[dict[str, Any]]:
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in journal.read(folder / "journal.jsonl")]
        return [line for line in lines if line["step"] != stopped or stopped % 10 == 0]

    assert entries(run) == entries(tiny_run)
    config = api.config_of(run)
    family = wavesynth.load(run).family
    template = jax.tree.map(
        api._on_first_device, jax.eval_shape(family.objective(config.training).init, family.shapes())
    )
    restored = []
    for folder in (run, tiny_run):
        states = checkpoints.States(folder / "states", keep=2)
        restored.append(states.restore(template))
        states.close()
    (state, meta), (expected, expected_meta) = restored
    assert int(state.step) == 20
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    if stopped > 5:  # a stop before the first validation makes one more, so that there is something to discriminate to
        assert meta == expected_meta


def test_it_learns_a_sine(tmp_path: Path, tiny_config, compile_cache: None):
    time = np.arange(16_000) / 16_000
    for i in range(2):
        folder = tmp_path / "sounds"
        folder.mkdir(exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * (440 + i) * time) + 0.01 * np.random.default_rng(i).standard_normal(16_000)
        soundfile.write(folder / f"{i}.wav", tone, 16_000)
    training = dataclasses.replace(tiny_config.training, steps=100, validate_every=10, save_every=100, ema=0.9)
    wavesynth.prepare(folder, tmp_path / "shards", workers=1, progress=False)
    config = dataclasses.replace(tiny_config, training=training)
    synth = wavesynth.train(tmp_path / "shards", tmp_path / "run", config, progress=False)
    lines = journal.read(tmp_path / "run" / "journal.jsonl")
    values = [line["valid_bits"] for line in lines if "valid_bits" in line]
    assert values[-1] < values[0] - 0.05
    assert min(values) == values[-1]
    # The noise alone, which nobody can predict: log2(32768 * 0.01 * sqrt(2 pi e)) = 10.4 bits.
    floor = math.log2(32_768 * 0.01 * math.sqrt(2 * math.pi * math.e))
    assert floor - 0.1 < values[-1] < floor + 1.5
    assert synth.bits_per_sample(tone.astype(np.float32)) == pytest.approx(values[-1], abs=0.5)


DEVICES = """
import sys
from pathlib import Path
import jax
from wavesynth.config import DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.families.wavenet import WaveNetFamily
from wavesynth.models.wavenet import WaveNetConfig
from wavesynth.training.loop import Loop
from wavesynth.training.checkpoints import States
from wavesynth.training.journal import Journal

shards = Shards.open(sys.argv[1])
dataset = DatasetInfo(shards.sample_rate, shards.labels, True, 1.0)
model = WaveNetConfig(stacks=1, layers_per_stack=2, channels=4, skip_channels=4, head_channels=4, taps=8, mixtures=2)
family = WaveNetFamily(WaveNetFamily.adapt(model, dataset), dataset)
training = TrainingConfig(steps=10, batch_size=8, crop_seconds=0.016, warmup=1, validate_every=5)
learned = Batches(shards, "train", 8, 256, family.context, 0, align=family.align)
held_out = Batches(shards, "valid", 8, 256, family.context, 0, align=family.align, limit=16)
objective = family.objective(training)
params = family.init(jax.random.key(0), learned.batch(0))
used, all_devices = [], jax.devices()
for count in (1, 8):
    jax.devices = lambda: all_devices[:count]
    run = Path(sys.argv[2], str(count))
    run.mkdir()
    journal, states = Journal(run / "journal.jsonl"), States(run / "states", keep=1)
    loop = Loop(
        objective, training, learned, held_out, states, journal, publish=lambda *_: None, preview=lambda *_: None,
        progress=False,
    )
    state = loop.run(objective.init(jax.tree.map(lambda leaf: leaf.copy(), params)))
    journal.close()
    states.close()
    used.append(len(state.params["front"].sharding.device_set))
print(used)
"""


def test_eight_devices_learn_what_one_does(tmp_path: Path, tiny_shards: Path, child_environment: dict[str, str]):
    command = [sys.executable, "-c", DEVICES, str(tiny_shards), str(tmp_path)]
    environment = child_environment | {"JAX_NUM_CPU_DEVICES": "8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1, 8]\n"
    one, eight = (journal.read(tmp_path / count / "journal.jsonl") for count in ("1", "8"))
    assert [line["step"] for line in one] == [line["step"] for line in eight] == [5, 10, 10]
    # Sums over 8 * 256 samples in another order, in each of 10 steps.
    tolerance = 10 * EPS * math.sqrt(8 * 256)
    for a, b in zip(one, eight):
        for name in a.keys() - {"seconds"}:
            assert a[name] == pytest.approx(b[name], rel=tolerance * (10 if name == "gradient_norm" else 1)), name


def test_devices_that_cannot_share_a_batch_are_an_error(monkeypatch: pytest.MonkeyPatch):
    batch = {"samples": np.arange(6, dtype=np.float32).reshape(3, 2)}
    np.testing.assert_array_equal(loop.placement(3)(batch, batched=True)["samples"], batch["samples"])
    assert loop.devices() == "1 × cpu"
    monkeypatch.setattr(jax, "devices", lambda: [jax.local_devices()[0]] * 3)
    with pytest.raises(UserError, match="batch_size is 4, which does not divide evenly among 3 devices: choose 3 or 6"):
        loop.check_devices(4)
    with pytest.raises(UserError, match=r"batch_size is 2, .*: choose 3$"):
        loop.check_devices(2)


def test_another_plan_is_the_same_program(tiny_shards: Path):
    batches = Batches(Shards.open(tiny_shards), "train", TRAINING.batch_size, CROP, TAPS, 0)
    longer = dataclasses.replace(TRAINING, steps=400, warmup=30, ema=0.5)
    step, own = loop.compiled(Likelihood(log_prob, TRAINING)), Likelihood(log_prob, longer)
    params = {"w": jnp.zeros(TAPS), "scale": jnp.zeros(())}
    state, expected = own.init(params), own.init(params)
    for index in range(3):
        pace = jax.tree.map(jnp.asarray, Pace.of(TRAINING if index == 2 else longer))
        batch = jax.tree.map(jnp.asarray, batches.batch(index))
        if index < 2:
            expected, _ = jax.jit(own.step)(expected, batch)
        state, _, healthy = step(state, batch, jnp.asarray(True), 0, pace)
        if index == 1:
            assert_close(state.params["w"], expected.params["w"], terms=4 * 256, scale=1.0)
            assert_close(state.ema["w"], expected.ema["w"], terms=4 * 256, scale=1.0)
    assert healthy
    assert step._cache_size() == 1  # type: ignore[attr-defined]


def test_measuring_takes_some_steps_of_each_phase_and_keeps_none(tmp_path: Path, tiny_shards: Path):
    measured, straight = (
        Recorder(tmp_path / name, tiny_shards, objective=InPhases) for name in ("measured", "straight")
    )
    states = measured.train(measure=True), straight.train()
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert set(measured.speed) == {0, 1}
    assert all(0 < seconds < 60 for seconds in measured.speed.values())


class InPhases(Likelihood):
    """The same objective, whose last phase does not fit."""

    def other_aim(self, phase: int) -> bool:
        return True

    def phase(self, step: int) -> int:
        return int(step >= 0.75 * self.training.steps)

    def step(self, state: Any, batch: Any, phase: int = 0) -> Any:
        if phase and self.training.seed:
            raise MemoryError("it does not fit")
        return super().step(state, batch)


def test_every_phase_is_tried_before_the_first_step(tmp_path: Path, tiny_shards: Path):
    recorder = Recorder(tmp_path / "run", tiny_shards, dataclasses.replace(TRAINING, seed=1), objective=InPhases)
    with pytest.raises(MemoryError, match="does not fit"):
        recorder.train(rehearse=True)
    assert recorder.lines == []
    assert recorder.saved == []


def test_what_is_tried_leaves_no_trace(tmp_path: Path, tiny_shards: Path):
    tried, straight = (Recorder(tmp_path / name, tiny_shards, objective=InPhases) for name in ("tried", "straight"))
    states = tried.train(rehearse=True), straight.train()
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_phase_once_begun_stays_when_a_run_is_extended(tmp_path: Path, tiny_shards: Path):
    Recorder(tmp_path, tiny_shards, objective=InPhases).train()
    published = Recorder(tmp_path, tiny_shards, dataclasses.replace(TRAINING, steps=40), objective=InPhases)
    published.train()
    assert published.history.phase == 1
    assert published.began.phase == 1  # step 12 of 40 would be in the first phase
    assert math.isfinite(published.began.best)
    assert all(value < published.began.best for _, value, _ in published.published)  # nothing worse is published


@pytest.mark.parametrize("other_aim", [False, True])
def test_only_a_phase_with_another_aim_may_publish_a_worse_metric(tmp_path: Path, tiny_shards: Path, other_aim: bool):
    class Worse(InPhases):
        """Its metric is worse in the last phase, which begins after 9 of 12 steps."""

        def other_aim(self, phase: int) -> bool:
            return other_aim

        def step(self, state: Any, batch: Any, phase: int = 0) -> Any:
            stepped, metrics = super().step(state, batch)
            worse = jax.tree.map(lambda leaf: leaf + 5.0 * phase, stepped.ema)
            return dataclasses.replace(stepped, ema=worse), metrics

    recorder = Recorder(tmp_path / "run", tiny_shards, objective=Worse)
    recorder.train()
    assert [step for step, _, _ in recorder.published] == ([4, 8, 12] if other_aim else [4, 8])


def test_signals_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with loop.stop_signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # the second is impatient
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

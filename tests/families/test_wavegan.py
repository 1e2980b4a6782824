"""A WaveGAN from shards to sounds: trained for seconds, it samples, morphs and encodes; errors are one clear line."""

import dataclasses
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring as monitoring
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth import Synth, Timbre, UserError, api, previews
from wavesynth.audio.spectral import multi_resolution_distance
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.families import Request, bind, wavegan
from wavesynth.models.wavegan import WaveGANConfig
from wavesynth.training import checkpoints, journal
from wavesynth.training.adversarial import AdversarialTraining

RATE, LENGTH = 16_000, 2_048
CONFIG = Config(
    "wavegan",
    WaveGANConfig(
        seconds=0.128, strides=(16,), channels=4, discriminator_channels=0, latent=8, style_channels=8, noise_channels=1,
        spectral_windows=(0.004,), spectral_channels=8,
    ),
    AdversarialTraining(
        steps=12, batch_size=4, validate_every=6, save_every=4, preview_every=100, learning_rate=1e-3, augment=1.0,
    ),
)  # fmt: skip
EPS = float(np.finfo(np.float32).eps)


def train(*arguments: Any, **more: Any) -> Synth:
    """Trains on sounds that are longer than the model's, which warns."""
    with pytest.warns(UserWarning, match="clips are longer than the model's 0.128 seconds, so only their beginnings"):
        return wavesynth.train(*arguments, progress=False, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, compile_cache: None) -> Path:
    """A finished run. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("gan") / "run"
    train(tiny_shards, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def synth(run: Path) -> Synth:
    return wavesynth.load(run)


@pytest.fixture
def no_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "write_preview", lambda *_, **__: None)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches that take a second."""
    monkeypatch.setattr(wavegan, "CANDIDATES", 16)
    monkeypatch.setattr(wavegan, "SEARCH_STEPS", 15)


@pytest.fixture(scope="module")
def click() -> np.ndarray:
    """A decaying tone, as long as the model's sounds."""
    time = np.arange(LENGTH) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time) * np.exp(-time / 0.02)).astype(np.float32)


# Sampling.


def test_shape_rate_and_range(synth: Synth):
    audio = synth.sample(n=3)
    assert audio.shape == (3, LENGTH)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 1
    assert audio.std() > 0
    assert (synth.sample_rate, synth.longest) == (RATE, LENGTH / RATE)
    np.testing.assert_array_equal(synth.sample(n=3, seconds=0.01), audio[:, :160])
    np.testing.assert_array_equal(synth.sample(n=3, seconds=synth.longest), audio)


def test_a_sound_depends_on_its_seed_and_not_on_how_many_there_are(run: Path, synth: Synth):
    many = synth.sample(n=11, seed=3)  # more than are made at once
    for n in (1, 8, 9):
        np.testing.assert_array_equal(synth.sample(n=n, seed=3), many[:n])
    np.testing.assert_array_equal(wavesynth.load(run).sample(n=11, seed=3), many)
    assert len(np.unique(many, axis=0)) == 11
    assert not np.array_equal(synth.sample(seed=4), many[:1])


@pytest.mark.parametrize("option", [dict(label="kick"), dict(pitch=60), dict(pitch=60.5), dict(truncation=0.5)])
def test_every_option_has_an_effect(synth: Synth, option: dict):
    sound = synth.sample(seed=1, **option)
    assert np.isfinite(sound).all()
    assert not np.array_equal(sound, synth.sample(seed=1))


def test_truncation_draws_to_the_middle_of_a_label(synth: Synth):
    kick, other, hat = (
        dataclasses.replace(timbre, pitch=None)
        for timbre in (*synth.latents(seed=1, n=2, label="kick"), synth.timbre("hat"))
    )
    np.testing.assert_array_equal(synth.decode(kick, truncation=0), synth.decode(other, truncation=0))
    assert not np.array_equal(synth.decode(kick, truncation=0), synth.decode(hat, truncation=0))
    np.testing.assert_array_equal(synth.decode(kick, truncation=1), synth.decode(kick))
    varieties = [
        np.var([synth.decode(timbre, truncation=t) for timbre in (kick, other)], axis=0).sum() for t in (0.5, 1)
    ]
    assert 0 < varieties[0] < varieties[1]


def test_default_values_of_other_samplers_are_accepted(synth: Synth):
    asked = synth.sample(temperature=1.0, top_k=None, top_p=None, dtype="float32", implementation=None)
    np.testing.assert_array_equal(asked, synth.sample())


def test_sounds_with_shared_noise_differ_in_their_timbres_alone(synth: Synth):
    latents = np.repeat(synth.latents(seed=1)[0].latent[None], 2, axis=0)
    conditions = Conditions.constant([-1, -1], len(synth.labels), [60, 60])
    for shared in (True, False):
        request = Request(seed=1, latents=latents, shared_noise=shared)
        block = next(synth.family.generate(synth.params, conditions, request))
        assert block.shape == (2, 1, LENGTH)
        assert np.array_equal(block[0], block[1]) == shared  # there is noise in them


def test_the_longest_sounds_are_written(synth: Synth, tmp_path: Path):
    paths = synth.write(tmp_path, n=2, seed=1)
    assert [soundfile.info(path).frames for path in paths] == [LENGTH] * 2


WRONG: list[tuple[Callable[[Synth], Any], str]] = [
    (lambda s: s.sample(label="gong"), r"label is 'gong', which the model does not know: choose one of .*kick"),
    (lambda s: s.latents(label="gong"), "label is 'gong'"),
    (lambda s: s.encode(np.full(100, 0.1), label="gong"), "label is 'gong'"),
    (lambda s: s.timbre("gong"), "label is 'gong'"),
    (lambda s: s.sample(seconds=0.129), r"seconds is 0.129: this model's sounds last at most 0.128 seconds"),
    (lambda s: s.write("nowhere", seconds=1), "seconds is 1: this model's sounds last at most 0.128"),
    (lambda s: s.stream(), "'wavegan' cannot stream: its sounds end after 0.128 seconds"),
    (lambda s: s.sample(prime=[0.1]), "'wavegan' cannot continue a prime: it generates whole sounds"),
    (lambda s: s.log_prob([0.1]), "'wavegan' cannot score samples: it can sample, encode, decode or morph timbres"),
    (lambda s: s.sample(pitch=128), "pitch is 128"),
    (
        lambda s: s.sample(temperature=0.8),
        "cannot sample with temperature 0.8: .*for less variety set truncation below 1",
    ),
    (lambda s: s.morph("kick", "hat", steps=2, top_k=3), "cannot sample with top_k 3"),
    (lambda s: s.sample(top_p=0.9), "cannot sample with top_p 0.9"),
    (lambda s: s.sample(implementation="native"), "with implementation 'native': .*leave implementation out"),
    (
        lambda s: s.sample(dtype="bfloat16"),
        "cannot sample in bfloat16: it was trained to compute in float32; leave dtype",
    ),
    (lambda s: s.sample(truncation=-0.1), "truncation is -0.1: it must lie between 0 and 1"),
    (lambda s: s.sample(truncation=math.nan), "truncation is nan"),
    (lambda s: s.latents(seed=-1), "seed is -1"),
    (lambda s: s.encode(np.zeros(100)), "sound is silent and has no timbre"),
    (lambda s: s.encode("nothing.wav"), r"nothing.wav"),
    (lambda s: s.morph("kick", "nothing.wav"), "no such file: nothing.wav"),
    (lambda s: s.grid(["kick"]), "corners has 1 members: give 2 to 4"),
    (lambda s: s.grid(["kick"] * 4, size=1), "size is 1: it must be a whole number of sounds along each side, 2 to 64"),
    (lambda s: s.decode(Timbre(s.timbre("kick").latent, "other")), "the timbre belongs to synth other"),
    (
        lambda s: s.decode(dataclasses.replace(s.timbre("kick"), latent=[s.timbre("kick").latent], frame_rate=9.0)),
        "the timbre is a path, but this synth's timbres are points",
    ),
    (lambda s: s.glide("kick", "hat"), "a wavegan cannot glide: its timbres are fixed within a sound; use morph"),
    (lambda s: s.latency, "'wavegan' cannot resynthesize live sound: it can sample, encode, decode or morph timbres"),
]


@pytest.mark.parametrize(("ask", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_are_one_line_and_come_at_once(synth: Synth, ask: Callable, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        ask(synth)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


# Timbres.


@pytest.mark.parametrize("label", [None, "kick"])
def test_latents_are_the_timbres_that_sample_plays(synth: Synth, label: str | None):
    (timbre,) = synth.latents(seed=5, label=label)
    np.testing.assert_array_equal(synth.decode(timbre, seed=5), synth.sample(seed=5, label=label)[0])
    several = synth.latents(seed=5, n=3, label=label)
    np.testing.assert_array_equal(several[0].latent, timbre.latent)
    # The other rows have noise of their own, which the family is asked for here.
    sounds = synth.sample(3, seed=5, label=label)
    found = synth.sample(3, seed=5, timbre=several)
    np.testing.assert_array_equal(found[0], sounds[0])
    assert len({timbre.latent.tobytes() for timbre in several}) == 3
    size = CONFIG.model.latent
    weights, offsets = np.split(several[0].latent[size:], [len(synth.labels)])
    assert not offsets.any()
    assert sorted(weights) == [0.0] * (len(synth.labels) - 1) + [1.0]
    if label is not None:
        assert weights[synth.labels.index(label)] == 1


def test_a_morph_begins_and_ends_with_its_ends(synth: Synth):
    steps = synth.morph("kick", "hat", steps=4, seed=2)
    assert steps.shape == (4, LENGTH)
    ends = synth.timbre("kick"), synth.timbre("hat")
    for sound, end in ((steps[0], ends[0]), (steps[-1], ends[1])):
        np.testing.assert_array_equal(sound, synth.decode(end, seed=2))
    assert len(np.unique(steps, axis=0)) == 4
    np.testing.assert_array_equal(synth.morph(*ends, steps=4, seed=2), steps)


def test_the_middle_lies_on_the_shell_and_between_the_labels(synth: Synth):
    a, b = synth.timbre("kick"), synth.timbre("hat")
    middle, size = synth._renderer.between(a, b, 0.5).latent, CONFIG.model.latent
    lengths = [np.linalg.norm(latent[:size]) for latent in (a.latent, middle, b.latent)]
    assert lengths[1] == pytest.approx((lengths[0] + lengths[2]) / 2, rel=64 * EPS)
    np.testing.assert_array_equal(middle[size:], (a.latent[size:] + b.latent[size:]) / 2)


def test_a_grid_has_its_corners(synth: Synth):
    corners = ["kick", "hat", "snare", synth.latents(seed=3)[0]]
    grid = synth.grid(corners, size=3, seed=2, seconds=0.02)
    assert grid.shape == (3, 3, 320)
    assert len(np.unique(grid.reshape(9, -1), axis=0)) == 9
    for row, column, corner in ((0, 0, 0), (0, 2, 1), (2, 0, 2), (2, 2, 3)):
        timbre = corners[corner] if corner == 3 else synth.timbre(corners[corner])
        np.testing.assert_array_equal(grid[row, column], synth.decode(timbre, 0.02, seed=2))
    plain = synth.morph("kick", "hat", steps=3, seed=2, seconds=0.02, even=False, match_loudness=False)
    np.testing.assert_array_equal(grid[0, 1], plain[1])


# Encoding.


def test_an_encoded_sound_is_nearer_than_any_random_one(synth: Synth, click: np.ndarray, brief: None, tmp_path: Path):
    found = synth.encode(click)
    randomly = multi_resolution_distance(synth.sample(16), click[None], RATE)
    apart = multi_resolution_distance(synth.decode(found)[None], click[None], RATE)
    assert float(apart[0]) < float(randomly.min())
    size = CONFIG.model.latent
    values, weights, offsets = np.split(found.latent, [size, size + len(synth.labels)])
    assert np.linalg.norm(values) == pytest.approx(math.sqrt(size), rel=8 * EPS)
    assert weights.sum() == pytest.approx(1, rel=8 * EPS)
    assert offsets.shape == (2 * CONFIG.model.style_channels,)  # at the front, and at the one stage
    assert offsets.any()
    bare = dataclasses.replace(found, latent=np.concatenate([values, weights, 0 * offsets]))
    assert not np.array_equal(synth.decode(bare), synth.decode(found))
    # Files give the same timbre, and samples beyond the model's length are ignored.
    soundfile.write(tmp_path / "click.wav", np.append(click, np.tile([1.0, -1.0], 150)), RATE, subtype="FLOAT")
    morph = synth.morph(tmp_path / "click.wav", "kick", steps=2)
    np.testing.assert_array_equal(morph, [synth.decode(found), synth.decode(synth.timbre("kick"))])


def test_another_sound_is_encoded_without_compiling(synth: Synth, click: np.ndarray, brief: None):
    events: list[str] = []

    def record(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    def encode(sound: np.ndarray, seed: int) -> None:
        conditions = Conditions.constant([-1], len(synth.labels), [60])
        synth.family.encode(synth._weights, sound[None], conditions, seed, progress=False)

    monitoring.register_event_duration_secs_listener(record)
    try:
        jax.jit(lambda x: x + 1)(1.0)
        assert any("trace" in event for event in events)  # the listener works
        encode(click, 0)
        events.clear()
        encode(click[::-1].copy(), 7)  # another sound and seed, from other starts
        encode(click[:100], 8)
    finally:
        monitoring.unregister_event_duration_listener(record)
    assert events == []


def test_a_label_that_is_known_is_kept(synth: Synth, click: np.ndarray, brief: None):
    weights = synth.encode(click[:300], label="snare").latent[CONFIG.model.latent :][: len(synth.labels)]
    np.testing.assert_array_equal(weights, np.eye(len(synth.labels))[synth.labels.index("snare")])


# Training.


def test_clips_that_are_longer_are_warned_about(synth: Synth, tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    count = len(shards.split("train"))
    with pytest.warns(UserWarning, match=rf"{count} of {count} clips are longer.*set --model.seconds for more"):
        learned = synth.family.windows(shards, CONFIG.training)
    assert (learned.whole, learned.crop, learned.batch_size) == (True, LENGTH, 4)
    several = dataclasses.replace(CONFIG.training, discriminator_steps=3)
    with pytest.warns(UserWarning, match="are longer"):
        assert synth.family.windows(shards, several).batch_size == 12
    held_out = synth.family.held_out(learned)
    assert (held_out.split, held_out.whole, held_out.batch_size % 4) == ("valid", True, 0)
    assert held_out.batch_size >= wavegan.SET_SIZE
    metrics = synth.family.baselines(learned, held_out)
    assert metrics["silence"] > 5
    assert metrics["training sounds"] < metrics["silence"] / 2


def test_a_validation_batch_of_one_sound_weighs_little(synth: Synth, click: np.ndarray):
    family, rows = synth.family, 4
    measure = jax.jit(family._distance)
    batch = {
        "samples": np.stack([np.roll(click, 50 * row) for row in range(rows)])[:, None],
        "real": np.ones((rows, LENGTH), bool),
        "conditions": Conditions.constant(range(rows), len(synth.labels), [60] * rows),
    }
    sample_set, weight = measure(synth.params, batch)
    assert float(weight) == rows
    # The last batch of an epoch may hold one sound, in any row; the others are padding, whatever they are.
    alone = []
    for padding in (0.0, 0.5):
        lone = {"samples": batch["samples"].copy(), "real": batch["real"].copy()}
        lone["real"][1:], lone["samples"][1:] = False, padding
        lone["conditions"] = Conditions.constant([0, -1, -1, -1], len(synth.labels), [60, None, None, None])
        alone.append(measure(synth.params, lone))
    assert float(alone[0][0]) == float(alone[1][0])
    value, little = map(float, alone[0])
    # A batch of copies of that sound has the same distance. It subtracts squares of 70 dB, so equal points are not 0 apart.
    same, _ = measure(synth.params, jax.tree.map(lambda values: values[[0] * rows], batch))
    assert value == pytest.approx(float(same), abs=math.sqrt(64 * EPS * 70**2))
    assert value > 0
    both = (float(sample_set) * rows + value * little) / (rows + little)
    assert both == pytest.approx(float(sample_set), abs=1e-3 * value)


def test_windows_of_pieces_begin_anywhere(synth: Synth, tiny_shards: Path):
    pieces = dataclasses.replace(synth.family.dataset, clip_seconds=60.0)
    learned = type(synth.family)(synth.family.model, pieces).windows(Shards.open(tiny_shards), CONFIG.training)
    assert not learned.whole
    assert learned.batch(0)["start"].any()


def test_a_run_leaves_previews_and_the_generator_alone(run: Path, synth: Synth):
    assert sorted(path.name for path in (run / "previews").iterdir()) == ["0000012", "progress.png"]
    files = sorted(path.name for path in (run / "previews" / "0000012").iterdir())
    assert files == ["000.wav", "001.wav", "002.wav", "003.wav", "spectrogram.png"]
    assert soundfile.info(run / "previews" / "0000012" / "000.wav").frames == LENGTH
    lines = journal.read(run / "journal.jsonl")
    assert [line["step"] for line in lines if "valid_distance" in line] == [6, 12]
    assert {"accuracy", "discriminator", "generator", "augment", "level"} <= lines[-2].keys() | lines[-1].keys()
    from safetensors.numpy import load_file

    names = load_file(run / "model.safetensors").keys()
    assert names
    assert all(name.startswith("generator") for name in names)
    assert synth.params.keys() == {"generator"}
    assert "wavegan" in api.describe(run)


def test_a_preview_of_silence_is_one(synth: Synth, tiny_shards: Path, tmp_path: Path):
    silent = Synth(synth.family, jax.tree.map(np.zeros_like, synth.params))
    held_out = Batches(Shards.open(tiny_shards), "valid", 4, LENGTH, 0, 0)
    previews.write_preview(silent, held_out, tmp_path / "previews" / "0000001", CONFIG.training)  # and training goes on
    assert soundfile.info(tmp_path / "previews" / "0000001" / "003.wav").frames == LENGTH


def test_the_picture_of_all_previews_has_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for step in range(20):
        folder = tmp_path / f"{100 * step:07d}"
        folder.mkdir()
        for index in range(2):
            soundfile.write(folder / f"{index:03d}.wav", np.linspace(-0.1, 0.1, 10), RATE)
    (tmp_path / "0009999").mkdir()  # one that was interrupted
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        previews.pictures, "spectrogram", lambda path, sounds, *_, **__: drawn.update({path.name: list(sounds)})
    )
    previews._strip(tmp_path, RATE)
    titles = drawn["progress.png"]
    assert len(titles) == 2 * previews.STRIP_ROWS
    assert titles[:2] == ["step 0, 000", "step 0, 001"]
    assert titles[-2:] == ["step 1,900, 000", "step 1,900, 001"]


def test_stopped_and_resumed_is_never_stopped(
    tmp_path: Path, run: Path, tiny_shards: Path, no_preview: None, monkeypatch
):
    real = Batches.batch

    def batch(self: Batches, step: int) -> Any:
        if step == 8:  # assembled ahead by another thread, a few steps before it is taken
            signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d+ of 12") as stop:
            train(tiny_shards, tmp_path / "run", CONFIG)
    stopped = int(str(stop.value).split()[3])
    assert 6 <= stopped < 12
    train(tiny_shards, tmp_path / "run", resume=True)
    family = wavesynth.load(run).family
    template = jax.eval_shape(family.objective(CONFIG.training).init, family.shapes())
    restored = []
    for folder in (tmp_path / "run", run):
        states = checkpoints.States(folder / "states", keep=2)
        restored.append(states.restore(jax.tree.map(api._on_first_device, template)))
        states.close()
    jax.tree.map(np.testing.assert_array_equal, *restored)
    assert int(restored[0][0].step) == 12
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "run", run)]
    assert weights[0] == weights[1]


def test_fewer_sounds_than_a_batch_and_shorter_than_the_models(
    tmp_path: Path, synth: Synth, click: np.ndarray, no_preview: None
):
    sounds, lines = tmp_path / "sounds", ["file,label,pitch,split"]
    sounds.mkdir()
    for index, label in enumerate(synth.labels):  # two to learn and one held out, of as many labels as `run` has
        soundfile.write(sounds / f"{index}.wav", np.roll(click[:400], index), RATE)
        lines.append(f"{index}.wav,{label},60,{['train', 'train', 'valid', 'test'][min(index, 3)]}")
    (sounds / "metadata.csv").write_text("\n".join(lines))
    few = wavesynth.train(sounds, tmp_path / "run", CONFIG, progress=False)  # warns of nothing
    assert np.isfinite(few.sample(2)).all()
    assert math.isfinite(journal.read(tmp_path / "run" / "journal.jsonl")[-1]["valid_distance"])


def test_sounds_without_labels_and_pitches():
    dataset = DatasetInfo(RATE)
    config = dataclasses.replace(CONFIG.model, discriminator_channels=4, spectral_windows=(), periods=(3,))
    family = bind("wavegan", wavegan.WaveGANFamily.adapt(config, dataset), dataset)
    shapes, random = family.shapes(), np.random.default_rng(0)
    synth = Synth(
        family,
        jax.tree.map(lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32), family.published(shapes)),
    )
    (timbre,) = synth.latents(seed=5)
    assert timbre.latent.shape == (CONFIG.model.latent + 2 * CONFIG.model.style_channels,)
    np.testing.assert_array_equal(synth.decode(timbre, seed=5), synth.sample(seed=5)[0])
    for ask, message in (
        (lambda: synth.sample(pitch=60), "cannot play a pitch: it was trained on sounds without pitches"),
        (lambda: synth.sample(label="kick"), "trained without labels"),
        (lambda: synth.timbre("kick"), "trained without labels"),
    ):
        with pytest.raises(UserError, match=message):
            ask()
    batch = {
        "samples": np.zeros((4, 1, LENGTH), np.float32),
        "conditions": Conditions.constant([-1] * 4, 0, [None] * 4),
    }
    objective = family.objective(dataclasses.replace(CONFIG.training, augment=0.8))
    state = jax.eval_shape(objective.init, shapes)
    after, _ = jax.eval_shape(objective.step, state, batch)
    jax.tree.map(
        lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail("a step changes shapes"), after, state
    )


def test_beginnings_that_are_silent_cannot_be_learned_and_replace_no_run(tmp_path: Path, click: np.ndarray, run: Path):
    (tmp_path / "sounds").mkdir()
    for name in "abc":
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", np.append(np.zeros(2 * LENGTH), click), RATE)
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UserError, match="the training sounds are silent"):
        train(tmp_path / "sounds", tmp_path / "run", CONFIG, force=True)
    wavesynth.load(tmp_path / "run")  # which is there as before


# Stereo.


def test_stereo_sounds_are_made_encoded_and_decoded(brief: None, click: np.ndarray):
    dataset = DatasetInfo(RATE, clip_seconds=0.1, channels=2)
    family = bind("wavegan", wavegan.WaveGANFamily.adapt(CONFIG.model, dataset), dataset)
    assert family.model.audio_channels == 2
    synth = Synth(family, family.published(family.init(jax.random.key(0), {"samples": np.stack([click, click])[None]})))
    made = synth.sample(3, seed=2)
    assert made.shape == (3, 2, LENGTH)
    assert all(not np.array_equal(left, right) for left, right in made)
    np.testing.assert_array_equal(synth.sample(3, seed=2), made)
    np.testing.assert_array_equal(synth.sample(1, seed=2), made[:1])
    (drawn,) = synth.latents(seed=2)
    np.testing.assert_array_equal(synth.decode(drawn, seed=2), made[0])
    target = np.stack([click, np.roll(click, 40) / 2])
    found = synth.encode(target)
    decoded = synth.decode(found)
    assert decoded.shape == (2, LENGTH)
    near = float(multi_resolution_distance(decoded, target, RATE).mean())
    assert near < float(multi_resolution_distance(synth.sample(16), target[None], RATE).mean(axis=1).min())
    np.testing.assert_array_equal(synth.decode(synth.encode(target)), decoded)


def test_a_step_in_stereo_changes_no_shapes():
    dataset = DatasetInfo(RATE, ("a", "b"), pitched=True, clip_seconds=0.1, channels=2)
    config = dataclasses.replace(CONFIG.model, discriminator_channels=4, periods=(3,))
    family = bind("wavegan", wavegan.WaveGANFamily.adapt(config, dataset), dataset)
    batch = {
        "samples": np.zeros((4, 2, LENGTH), np.float32),
        "real": np.ones((4, LENGTH), bool),
        "conditions": Conditions.constant([0, 1, -1, 0], 2, [60, None, 50, 51]),
    }
    objective = family.objective(dataclasses.replace(CONFIG.training, augment=0.8))
    state = jax.eval_shape(objective.init, family.shapes())
    after, _ = jax.eval_shape(objective.step, state, batch)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    metrics, _ = jax.eval_shape(objective.evaluate, family.shapes(), batch)
    assert metrics["distance"].shape == ()

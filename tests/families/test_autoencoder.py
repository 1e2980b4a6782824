"""An autoencoder from shards to sounds: it learns, streams what it decodes whole, and keeps the paths of its labels."""

import dataclasses
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wavesynth
from tests.tolerances import assert_close
from wavesynth import Synth, UserError
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.info import dataset_info
from wavesynth.data.shards import Shards
from wavesynth.families import Request, autoencoder, bind, preset
from wavesynth.families.autoencoder import BLOCK, AutoencoderFamily
from wavesynth.models.autoencoder import AutoencoderConfig
from wavesynth.training import journal
from wavesynth.training.reconstruction import ADVERSARIAL, EXPECTED, SPECTRAL, ReconstructionTraining

TERMS = 512  # of the longest chain of sums in the network below, about
RATE, HOP = 16_000, 256
MODEL = AutoencoderConfig(
    code_channels=4, hop_seconds=0.004, overlap=4, stride=4, gains=4, encoder_channels=16, encoder_dilations=(), channels=24,
    dilations=(2,), spectral_windows=(0.004,), spectral_channels=8,
)  # fmt: skip
TRAINING = ReconstructionTraining(
    steps=30, batch_size=4, crop_seconds=0.256, warmup=2, learning_rate=5e-3, ema=0.8, adversarial_from=0.8, validate_every=5,
    validation_windows=8, save_every=10, preview_every=100, preview_seconds=0.05,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, compile_cache: None) -> Path:
    folder = tmp_path_factory.mktemp("autoencoder") / "run"
    wavesynth.train(tiny_shards, folder, Config("autoencoder", MODEL, TRAINING), progress=False)
    return folder


@pytest.fixture(scope="module")
def synth(run: Path) -> Synth:
    return wavesynth.load(run)


def family_of(synth: Synth) -> AutoencoderFamily:
    assert isinstance(synth.family, AutoencoderFamily)
    return synth.family


@pytest.fixture(scope="module")
def paths(synth: Synth) -> np.ndarray:
    """The codes of ten sounds, more than are decoded at once, and longer than two blocks; levels of -35 to -26 dB."""
    codes = 0.5 * np.random.default_rng(0).standard_normal((10, 2 * BLOCK + 3, MODEL.code_width), np.float32)
    codes = codes.cumsum(axis=1).astype(np.float32) / 4
    codes[..., -1] = 1.6 + 0.1 * np.tanh(codes[..., -1])
    return codes


def conditions_of(synth: Synth, n: int = 1, label: int = -1, pitch: float | None = None) -> Conditions:
    return Conditions.constant([label] * n, len(synth.labels), [pitch] * n)


def generate(synth: Synth, n: int = 1, label: int = -1, pitch: float | None = None, **options: Any) -> Any:
    """Blocks [n, T] of one channel."""
    blocks = synth.family.generate(synth.params, conditions_of(synth, n, label, pitch), Request(**options))
    return (block[:, 0] for block in blocks)


def encode(synth: Synth, sound: np.ndarray) -> np.ndarray:
    return synth.family.encode(synth.params, sound[None], conditions_of(synth), 0, False)


# Training.


def test_thirty_steps_reduce_the_distance_and_discriminators_join(run: Path):
    lines = journal.read(run / "journal.jsonl")
    metrics = [line["valid_distance"] for line in lines if "valid_distance" in line]
    assert len(metrics) == 6
    assert metrics[-1] < metrics[0]
    steps = {line["step"]: line for line in lines if "spectral" in line}
    assert {"distance", "spectral", "pitch", "loss"} <= steps[10].keys()
    assert "accuracy" not in steps[20]
    assert {"accuracy", "discriminator", "features", "adversary"} <= steps[30].keys()
    assert steps[30]["spectral"] < steps[10]["spectral"]


def test_pieces_begin_from_others_with_their_tones_and_are_extended_without_average_powers(
    tmp_path: Path, sounds: Path
):
    runs = {}
    for label in ("flute", "cello"):
        wavesynth.prepare(sounds / label, shards := tmp_path / f"{label} shards", pitches=False, progress=False)
        assert not dataset_info(Shards.open(shards)).pitched
        runs[label] = shards, tmp_path / label
    training = dataclasses.replace(TRAINING, steps=10, expected_until=0.9, adversarial_from=1.0)
    wavesynth.train(*runs["flute"], Config("autoencoder", MODEL, training), progress=False)
    wavesynth.train(*runs["cello"], base=runs["flute"][1], steps=5, progress=False)
    tones = {label: wavesynth.load(run).family.model.tones for label, (_, run) in runs.items()}  # type: ignore[union-attr]
    assert tones["cello"] == tones["flute"] != dataset_info(Shards.open(runs["cello"][0])).partials
    lines = {label: journal.read(run / "journal.jsonl") for label, (_, run) in runs.items()}
    assert not any("average" in line for line in lines["cello"])

    wavesynth.train(
        *runs["flute"],
        Config("autoencoder", MODEL, dataclasses.replace(training, steps=30)),
        resume=True,
        progress=False,
    )
    lines = [line for line in journal.read(runs["flute"][1] / "journal.jsonl") if "loss" in line]
    assert [line["step"] for line in lines if "average" in line] == []
    assert [line["step"] for line in lines if "spectral" in line] == [10, 20, 30]


def test_the_coder_and_a_memory_are_published(run: Path, synth: Synth):
    assert synth.params.keys() == {"coder", "memory"}
    labels, frames = len(synth.labels), round(2 * RATE / HOP)
    assert synth.params["memory"]["mean"].shape == (labels, frames, MODEL.code_width)
    np.testing.assert_array_equal(wavesynth.load(run).sample(n=2, seconds=0.1), synth.sample(n=2, seconds=0.1))


def test_baselines(synth: Synth, tiny_shards: Path):
    family = family_of(synth)
    learned = family.windows(Shards.open(tiny_shards), TRAINING)
    metrics = family.baselines(learned, family.held_out(learned))
    assert list(metrics) == ["silence", "nearest training sound"]
    assert 0 < metrics["nearest training sound"] < metrics["silence"]
    itself = family.baselines(learned, dataclasses.replace(learned, limit=4))
    assert itself["nearest training sound"] == 0


def test_only_notes_that_are_learned_are_transposed(synth: Synth, tiny_shards: Path):
    family, shards = family_of(synth), Shards.open(tiny_shards)
    learned = family.windows(shards, TRAINING)
    assert learned.transpose == TRAINING.transpose == 1
    assert family.held_out(learned).transpose == 0
    unpitched = AutoencoderFamily(family.model, dataclasses.replace(family.dataset, pitched=False))
    assert unpitched.windows(shards, TRAINING).transpose == 0


def test_windows_begin_where_codes_do(synth: Synth, tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    learned = synth.family.windows(shards, dataclasses.replace(TRAINING, crop_seconds=0.064))
    starts = np.concatenate([learned.batch(step)["start"] for step in range(4)])
    assert starts.any()
    assert not np.any(starts % HOP)
    for seconds, crop in ((0.0625, 1_024), (0.016, 256), (0.025, 512), (1.0, 15_872)):
        assert synth.family.crop(dataclasses.replace(TRAINING, crop_seconds=seconds)) == crop
    for seconds in (0.0, 0.0159):
        with pytest.raises(
            UserError, match=rf"crop_seconds is {seconds:g}: it must be at least 0\.016, the length of a frame"
        ):
            synth.family.windows(shards, dataclasses.replace(TRAINING, crop_seconds=seconds))


def test_silence_alone_is_refused(synth: Synth):
    with pytest.raises(UserError, match="the training sounds are silent"):
        synth.family.init(jax.random.key(0), {"samples": np.zeros((2, 1, 4_096), np.float32)})


@pytest.mark.parametrize("name", list(AutoencoderFamily.presets))
def test_presets_are_whole(name: str):
    config = preset(name)
    for pitched in (False, True):
        dataset = DatasetInfo(RATE, ("a",), pitched=pitched, clip_seconds=1.0)
        family = bind(config.family, AutoencoderFamily.adapt(config.model, dataset), dataset)
        shapes = family.shapes()
        assert ("probe" in shapes) == pitched
        assert family.crop(config.training) % family.align == 0
        assert family.frame_rate == 31.25


# Codes.


def test_a_sound_of_any_length_is_encoded(synth: Synth):
    family, sound = family_of(synth), 0.3 * np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    whole = encode(synth, sound)
    assert whole.shape == (-(-5_000 // HOP), MODEL.code_width)
    assert encode(synth, sound[:7]).shape == (1, MODEL.code_width)
    # A code does not depend on later samples, nor on other sounds.
    ahead = family.model.lookahead
    np.testing.assert_array_equal(encode(synth, sound[: 8 * HOP + ahead])[:8], whole[:8])
    many = family.codes(synth.params, np.pad(sound, (0, -5_000 % HOP))[None, None].repeat(9, axis=0))
    # One sound has a program of its own, which rounds differently.
    assert_close(many, np.broadcast_to(whole, many.shape), terms=TERMS, scale=whole)


def test_blocks_are_encoded_as_by_the_whole_network(synth: Synth):
    family = family_of(synth)
    sounds = 0.3 * np.random.default_rng(0).standard_normal((2, 1, (2 * BLOCK + 1) * HOP)).astype(np.float32)
    sounds[1, :, 4 * HOP : (BLOCK + 8) * HOP] = 0
    whole = np.asarray(family.objective(TRAINING).encode(synth.params["coder"], jnp.asarray(sounds))[0])
    found = family.codes(synth.params, sounds)
    assert_close(found, whole, terms=TERMS)
    assert not found[1, 8 : BLOCK + 4].any()


# Sounds.


def test_blocks_are_decoded_as_by_the_whole_network(synth: Synth, paths: np.ndarray):
    family, n = family_of(synth), len(paths)
    made = np.concatenate(list(generate(synth, n=n, seed=4, latents=paths, pitch=57.0)), axis=1)
    assert made.shape == (n, paths.shape[1] * HOP)
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(4), row))(jnp.arange(n))
    conditions = conditions_of(synth, n, pitch=57.0)
    whole = np.asarray(family.objective(TRAINING).decode(synth.params["coder"], paths, conditions, keys))
    assert_close(made, whole[:, 0], terms=TERMS)


def test_a_sound_does_not_depend_on_the_others(synth: Synth, paths: np.ndarray):
    many = np.concatenate(list(generate(synth, n=10, seed=1, latents=paths)), axis=1)
    few = np.concatenate(list(generate(synth, n=9, seed=1, latents=paths[:9])), axis=1)
    np.testing.assert_array_equal(few, many[:9])
    alone, again = (np.concatenate(list(generate(synth, seed=1, latents=paths[:1])), axis=1) for _ in range(2))
    np.testing.assert_array_equal(alone, again)
    assert_close(alone, many[:1], terms=TERMS)  # one sound has a program of its own
    same = np.repeat(paths[:1], 3, axis=0)
    shared = np.concatenate(list(generate(synth, n=3, seed=1, latents=same, shared_noise=True)), axis=1)
    np.testing.assert_array_equal(shared, np.broadcast_to(shared[0], shared.shape))
    np.testing.assert_array_equal(shared[0], many[0])
    other = np.concatenate(list(generate(synth, n=3, seed=1, latents=same)), axis=1)
    assert not np.array_equal(other[0], other[1])


def test_an_endless_sound_holds_its_last_frame(synth: Synth, paths: np.ndarray):
    ends = np.concatenate(list(generate(synth, latents=paths[:1])), axis=1)
    blocks = list(itertools.islice(generate(synth, latents=paths[:1], endless=True), 6))
    made = np.concatenate(blocks, axis=1)
    assert made.shape[1] > ends.shape[1] + 2 * BLOCK * HOP
    np.testing.assert_array_equal(made[:, : ends.shape[1]], ends)
    held = np.concatenate([paths[:1], np.repeat(paths[:1, -1:], 4 * BLOCK, axis=1)], axis=1)
    longer = np.concatenate(list(generate(synth, latents=held)), axis=1)
    np.testing.assert_array_equal(made, longer[:, : made.shape[1]])
    assert made[:, -BLOCK * HOP :].std() > 0


@pytest.mark.parametrize("samples", [5, HOP, 3 * HOP - 7, 3 * HOP, (BLOCK + 2) * HOP + 100])
def test_resynthesis_is_what_decoding_the_code_gives(synth: Synth, samples: int):
    sound = (0.03 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    ends = np.minimum(np.cumsum([1, 0, 2, HOP - 1, 3 * HOP, *[97] * 100]), samples)
    live = list(synth.resynthesize(np.split(sound, ends), pitch=57.0, seed=3))
    path = encode(synth, sound)
    whole = np.concatenate(list(generate(synth, latents=path[None], seed=3, pitch=57.0)), axis=1)[0, :samples]
    assert sum(map(len, live)) == samples
    # Frames come one by one here, from a program that rounds differently.
    assert_close(np.concatenate(live), whole, terms=TERMS, scale=1.0)


def test_latency_is_the_largest_delay_of_a_sample(synth: Synth):
    """Fed one sample at a time: how many samples have come in when sample i comes out, counted from when i came in."""
    fed = 0

    def blocks() -> Any:
        nonlocal fed
        for _ in range(6 * HOP):
            fed += 1
            yield np.full(1, 0.1, np.float32)

    delays: list[int] = []
    for block in itertools.islice(synth.resynthesize(blocks()), 4):
        delays += [fed - len(delays) - i for i in range(len(block))]
    assert len(delays) == 4 * HOP
    assert max(delays) == synth.latency * RATE
    assert min(delays) == synth.latency * RATE - HOP + 1  # the hop is the jitter


def test_an_impulse_comes_out_within_the_latency(synth: Synth):
    """Two inputs that differ in one sample: where their outputs first differ, and how much was fed by then."""
    base = (0.1 * np.random.default_rng(0).standard_normal(8 * HOP)).astype(np.float32)
    place = 4 * HOP + 17
    changed = base.copy()
    changed[place] += 0.8
    outputs = [np.concatenate(list(synth.resynthesize(np.split(sound, 64)))) for sound in (base, changed)]
    first = int(np.flatnonzero(outputs[0] != outputs[1])[0])
    ahead = family_of(synth).model.lookahead
    assert place - HOP - ahead < first <= place  # no later than the sample itself, and not before its frame is read


def test_errors_of_live_sound(synth: Synth):
    assert list(synth.resynthesize([])) == []
    assert list(synth.resynthesize([np.zeros(0, np.float32)])) == []
    for whole in ("flute.wav", np.zeros(100, np.float32)):
        with pytest.raises(UserError, match="blocks is one sound: give an iterable of its parts"):
            synth.resynthesize(whole)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not finite"):
        list(synth.resynthesize([np.full(100, np.nan, np.float32)]))
    family = AutoencoderFamily(dataclasses.replace(family_of(synth).model, causal=False), synth.family.dataset)
    ahead = dataclasses.replace(synth, family=family)
    with pytest.raises(UserError, match="cannot resynthesize live sound: its convolutions look ahead: train one with"):
        ahead.resynthesize([])
    with pytest.raises(UserError, match="cannot resynthesize live sound: it needs the whole sound at once"):
        _ = ahead.latency
    unpitched = AutoencoderFamily(synth.family.model, DatasetInfo(RATE))
    with pytest.raises(UserError, match="cannot play a pitch"):
        dataclasses.replace(synth, family=unpitched).resynthesize([], pitch=60)


def test_seeds_labels_and_pitches_have_an_effect(synth: Synth):
    kick, other, hat = (next(generate(synth, seed=seed, label=label)) for seed, label in ((0, 0), (1, 0), (0, 1)))
    assert np.isfinite(kick).all()
    assert not np.array_equal(kick, other)
    assert not np.array_equal(kick, hat)
    pitched = [next(generate(synth, label=0, pitch=pitch)) for pitch in (40.0, 52.0)]
    assert not np.array_equal(*pitched)


def test_num_parameters_leaves_out_the_memory(synth: Synth):
    weights = sum(leaf.size for leaf in jax.tree.leaves(synth.params["coder"]))
    assert synth.num_parameters == weights
    assert sum(leaf.size for leaf in jax.tree.leaves(synth.params)) > weights


def test_errors_of_sampling(synth: Synth):
    with pytest.raises(UserError, match="'autoencoder' cannot continue a prime: it decodes timbres"):
        next(generate(synth, prime=np.zeros((1, 10), np.float32)))
    with pytest.raises(UserError, match=r"'autoencoder' cannot sample with temperature 0.5: it draws no samples"):
        synth.sample(temperature=0.5)
    dataset = dataclasses.replace(synth.family.dataset, pitched=False)
    unpitched = Synth(bind("autoencoder", AutoencoderFamily.adapt(MODEL, dataset), dataset), synth.params)
    with pytest.raises(UserError, match="'autoencoder' cannot play a pitch: it was trained on sounds without pitches"):
        next(generate(unpitched, pitch=60.0))
    with pytest.raises(UserError, match="'autoencoder' cannot play a pitch"):
        unpitched.encode(np.full(1_000, 0.1), pitch=60.0)
    with pytest.raises(UserError, match=f"cannot use the label '{synth.labels[0]}': .* leave label out"):
        synth.encode(np.full(1_000, 0.1), label=synth.labels[0])
    with pytest.raises(UserError, match="'autoencoder' cannot score samples: it can sample, encode"):
        synth.log_prob(np.zeros(10))


def test_a_model_that_looks_ahead_decodes_whole_sounds(synth: Synth, paths: np.ndarray):
    dataset = synth.family.dataset
    model = AutoencoderFamily.adapt(dataclasses.replace(MODEL, causal=False), dataset)
    family = AutoencoderFamily(model, dataset)
    sound = 0.3 * np.random.default_rng(0).standard_normal(9 * HOP).astype(np.float32)
    ahead = Synth(family, {"coder": synth.params["coder"]})  # of the same shapes
    assert encode(ahead, sound).shape == (9, MODEL.code_width)
    (made,) = generate(ahead, latents=paths[:1])
    assert made.shape == (1, paths.shape[1] * HOP)
    assert np.isfinite(made).all()
    with pytest.raises(
        UserError, match="cannot generate endless sound: its convolutions look ahead: train one with causal=True"
    ):
        next(generate(ahead, latents=paths[:1], endless=True))


def test_few_lengths_are_compiled():
    assert [autoencoder._power_of_two(frames) for frames in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("pitched", [True, False])
@pytest.mark.parametrize("audio", [1, 2])
@pytest.mark.parametrize("frames", [1, 5])
def test_any_crop_trains_through_all_phases(frames: int, audio: int, pitched: bool):
    model = AutoencoderConfig(
        encoder_channels=8, channels=8, dilations=(1,), encoder_dilations=(1,), discriminator_channels=4, periods=(2, 3),
        spectral_windows=(0.015,), spectral_channels=4, period_channels=4,
    )  # fmt: skip
    dataset = DatasetInfo(16_000, channels=audio, pitched=pitched, partials=() if pitched else (100.0, 200.0))
    family = AutoencoderFamily(AutoencoderFamily.adapt(model, dataset), dataset)
    training = ReconstructionTraining(crop_seconds=frames * family.code_hop / 16_000, batch_size=2)
    crop = family.crop(training)
    assert crop == frames * family.code_hop
    batch = {
        "samples": jax.ShapeDtypeStruct((2, audio, crop), jnp.float32),
        "real": jax.ShapeDtypeStruct((2, crop), bool),
        "start": jax.ShapeDtypeStruct((2,), jnp.int32),
        "conditions": Conditions.constant([-1, -1], 0, [None, None]),
    }
    objective = family.objective(training)
    state = jax.eval_shape(objective.init, family.shapes())
    assert objective.phase(0) == (SPECTRAL if pitched else EXPECTED)
    for phase in range(objective.phase(0), ADVERSARIAL + 1):
        stepped, metrics = jax.eval_shape(partial(objective.step, phase=phase), state, batch)
        assert jax.tree.map(jnp.shape, stepped) == jax.tree.map(jnp.shape, state)
        assert ("accuracy" in metrics) == (phase == ADVERSARIAL)


# Stereo.


@pytest.fixture(scope="module")
def wide() -> Synth:
    """An untrained stereo autoencoder."""
    dataset = DatasetInfo(RATE, pitched=True, clip_seconds=1.0, channels=2)
    family = AutoencoderFamily(AutoencoderFamily.adapt(MODEL, dataset), dataset)
    assert family.model.audio_channels == 2
    sounds = 0.1 * np.random.default_rng(0).standard_normal((2, 2, 4_096)).astype(np.float32)
    return Synth(family, family.init(jax.random.key(0), {"samples": sounds}))


def test_stereo_sounds_stream_as_they_are_encoded_and_decoded(wide: Synth):
    samples = (BLOCK + 2) * HOP + 100
    sound = (0.03 * np.random.default_rng(1).standard_normal((2, samples))).astype(np.float32)
    path = wide.family.encode(wide.params, sound, conditions_of(wide), 0, False)
    assert path.shape == (BLOCK + 3, MODEL.code_width)
    request = Request(seed=3, latents=path[None])
    blocks = list(wide.family.generate(wide.params, conditions_of(wide, pitch=57.0), request))
    whole = np.concatenate(blocks, axis=2)[0, :, :samples]
    assert whole.shape == (2, samples)
    assert not np.array_equal(*whole)
    again = list(wide.family.generate(wide.params, conditions_of(wide, pitch=57.0), request))
    jax.tree.map(np.testing.assert_array_equal, again, blocks)
    ends = np.minimum(
        np.cumsum([9, 0, 20, HOP - 1, 3 * HOP, *[97] * 100]), samples
    )  # of a square block, no one knows the axes
    live = list(wide.resynthesize(np.split(sound, ends, axis=1), pitch=57.0, seed=3))
    assert_close(np.concatenate(live, axis=1), whole, terms=TERMS, scale=1.0)


def test_a_stereo_sound_does_not_depend_on_the_others(wide: Synth):
    sounds = 0.1 * np.random.default_rng(0).standard_normal((9, 2, 5 * HOP)).astype(np.float32)
    codes = wide.family.codes(wide.params, sounds)
    changed = sounds.copy()
    changed[3, 1] *= -1
    after = wide.family.codes(wide.params, changed)
    assert [np.array_equal(*pair) for pair in zip(codes, after, strict=True)] == [row != 3 for row in range(9)]

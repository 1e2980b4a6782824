"""An autoencoder from shards to sounds: it learns, streams what it would make at once, and remembers its labels."""

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
from wavesynth import Synth, UserError
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.shards import Shards
from wavesynth.families import Request, autoencoder, bind, preset
from wavesynth.families.autoencoder import BLOCK, AutoencoderFamily
from wavesynth.models.autoencoder import AutoencoderConfig
from wavesynth.training import journal
from wavesynth.training.reconstruction import ReconstructionTraining

EPS = float(np.finfo(np.float32).eps)
RATE, HOP = 16_000, 256
MODEL = AutoencoderConfig(
    code_channels=4, hop=64, window=256, stride=4, gain_hop=16, encoder_channels=16, encoder_dilations=(), channels=24,
    dilations=(2,), spectral_windows=(64,), spectral_channels=8,
)  # fmt: skip
TRAINING = ReconstructionTraining(
    steps=30, batch_size=4, crop=4_096, warmup=2, learning_rate=1e-2, ema=0.8, adversarial_from=0.8, validate_every=5,
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
    """Of ten sounds, more than are decoded at once, and longer than two blocks."""
    codes = 0.5 * np.random.default_rng(0).standard_normal((10, 2 * BLOCK + 3, MODEL.code_channels), np.float32)
    return codes.cumsum(axis=1).astype(np.float32) / 4


def stream(synth: Synth, **options: Any) -> Any:
    return synth.family.stream(synth.params, Request(**options))


# Training.


def test_thirty_steps_come_nearer_and_discriminators_join(run: Path):
    lines = journal.read(run / "journal.jsonl")
    metrics = [line["valid_distance"] for line in lines if "valid_distance" in line]
    assert len(metrics) == 6
    assert metrics[-1] < metrics[0]
    steps = {line["step"]: line for line in lines if "spectral" in line}
    assert {"distance", "spectral", "nats", "pitch", "loss"} <= steps[10].keys()
    assert "accuracy" not in steps[20]
    assert {"accuracy", "discriminator", "features", "adversary"} <= steps[30].keys()
    assert steps[30]["spectral"] < steps[10]["spectral"]


def test_what_is_published_is_the_coder_and_a_memory(run: Path, synth: Synth):
    assert synth.params.keys() == {"coder", "memory"}
    labels, frames = len(synth.labels), round(2 * RATE / HOP)
    assert synth.params["memory"]["mean"].shape == (labels, frames, MODEL.code_channels)
    np.testing.assert_array_equal(wavesynth.load(run).sample(n=2, seconds=0.1), synth.sample(n=2, seconds=0.1))


def test_baselines_are_what_they_say(synth: Synth, tiny_shards: Path):
    family = family_of(synth)
    learned = family.windows(Shards.open(tiny_shards), TRAINING)
    metrics = family.baselines(learned, family.held_out(learned))
    assert list(metrics) == ["silence", "nearest training sound"]
    assert 0 < metrics["nearest training sound"] < metrics["silence"]
    itself = family.baselines(learned, dataclasses.replace(learned, limit=4))
    assert itself["nearest training sound"] == 0


def test_windows_begin_where_codes_do(synth: Synth, tiny_shards: Path):
    shards = Shards.open(tiny_shards)
    learned = synth.family.windows(shards, dataclasses.replace(TRAINING, crop=1_024))
    starts = np.concatenate([learned.batch(step)["start"] for step in range(4)])
    assert starts.any()
    assert not np.any(starts % HOP)
    with pytest.raises(
        UserError, match="crop is 1000: it must be a multiple of the 256 samples of a frame of the code"
    ):
        synth.family.windows(shards, dataclasses.replace(TRAINING, crop=1_000))


def test_silence_alone_cannot_be_learned(synth: Synth):
    with pytest.raises(UserError, match="the sounds to learn are silence"):
        synth.family.init(jax.random.key(0), {"samples": np.zeros((2, 4_096), np.float32)})


@pytest.mark.parametrize("name", list(AutoencoderFamily.presets))
def test_presets_are_whole(name: str):
    config = preset(name)
    for pitched in (False, True):
        dataset = DatasetInfo(RATE, ("a",), pitched=pitched, clip_seconds=1.0)
        family = bind(config.family, AutoencoderFamily.adapt(config.model, dataset), dataset)
        shapes = family.shapes()
        assert ("probe" in shapes) == pitched
        assert config.training.crop % family.align == 0
        assert family.frame_rate == 31.25


# Codes.


def test_a_sound_of_any_length_is_encoded(synth: Synth):
    family, sound = family_of(synth), 0.3 * np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    whole = family.encode(synth.params, sound, Request(), False)
    assert whole.shape == (-(-5_000 // HOP), MODEL.code_channels)
    assert family.encode(synth.params, sound[:7], Request(), False).shape == (1, MODEL.code_channels)
    # What is heard later does not count, and neither does how many there are.
    ahead = family.model.lookahead
    np.testing.assert_array_equal(
        family.encode(synth.params, sound[: 8 * HOP + ahead], Request(), False)[:8], whole[:8]
    )
    many = family.codes(synth.params, np.pad(sound, (0, -5_000 % HOP))[None].repeat(9, axis=0))
    # One sound has a program of its own, whose sums are rounded otherwise.
    scale = float(np.abs(whole).max())
    np.testing.assert_allclose(many, np.broadcast_to(whole, many.shape), rtol=0, atol=64 * EPS * scale)


def test_blocks_encode_what_the_whole_network_does(synth: Synth):
    family = family_of(synth)
    sounds = 0.3 * np.random.default_rng(0).standard_normal((2, (2 * BLOCK + 1) * HOP)).astype(np.float32)
    whole = np.asarray(family.objective(TRAINING).encode(synth.params["coder"], jnp.asarray(sounds))[0])
    found = family.codes(synth.params, sounds)
    np.testing.assert_allclose(found, whole, rtol=0, atol=64 * EPS * np.abs(whole).max())


# Sounds.


def test_blocks_are_what_the_whole_decoder_makes(synth: Synth, paths: np.ndarray):
    family, n = family_of(synth), len(paths)
    made = np.concatenate(list(stream(synth, n=n, seed=4, latent=paths, pitch=57.0)), axis=1)
    assert made.shape == (n, paths.shape[1] * HOP)
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(4), row))(jnp.arange(n))
    whole = np.asarray(family.objective(TRAINING).decode(synth.params["coder"], paths, jnp.full(n, 57.0), keys))
    np.testing.assert_allclose(made, whole, rtol=0, atol=64 * EPS * np.abs(whole).max())


def test_a_sound_is_the_same_to_the_byte_and_whatever_is_beside_it(synth: Synth, paths: np.ndarray):
    many = np.concatenate(list(stream(synth, n=10, seed=1, latent=paths)), axis=1)
    few = np.concatenate(list(stream(synth, n=9, seed=1, latent=paths[:9])), axis=1)
    np.testing.assert_array_equal(few, many[:9])
    alone, again = (np.concatenate(list(stream(synth, seed=1, latent=paths[:1])), axis=1) for _ in range(2))
    np.testing.assert_array_equal(alone, again)
    np.testing.assert_allclose(alone, many[:1], rtol=0, atol=64 * EPS)  # its program is rounded otherwise
    same = np.repeat(paths[:1], 3, axis=0)
    alike = np.concatenate(list(stream(synth, n=3, seed=1, latent=same, shared_noise=True)), axis=1)
    np.testing.assert_array_equal(alike, np.broadcast_to(alike[0], alike.shape))
    np.testing.assert_array_equal(alike[0], many[0])
    other = np.concatenate(list(stream(synth, n=3, seed=1, latent=same)), axis=1)
    assert not np.array_equal(other[0], other[1])


def test_an_endless_sound_holds_its_last_frame(synth: Synth, paths: np.ndarray):
    ends = np.concatenate(list(stream(synth, latent=paths[:1])), axis=1)
    blocks = list(itertools.islice(stream(synth, latent=paths[:1], endless=True), 6))
    made = np.concatenate(blocks, axis=1)
    assert made.shape[1] > ends.shape[1] + 2 * BLOCK * HOP
    np.testing.assert_array_equal(made[:, : ends.shape[1]], ends)
    held = np.concatenate([paths[:1], np.repeat(paths[:1, -1:], 4 * BLOCK, axis=1)], axis=1)
    longer = np.concatenate(list(stream(synth, latent=held)), axis=1)
    np.testing.assert_array_equal(made, longer[:, : made.shape[1]])
    assert made[:, -BLOCK * HOP :].std() > 0


@pytest.mark.parametrize("samples", [5, HOP, 3 * HOP - 7, 3 * HOP, (BLOCK + 2) * HOP + 100])
def test_a_sound_that_is_followed_is_what_its_code_is_decoded_to(synth: Synth, samples: int):
    sound = (0.03 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    ends = np.minimum(np.cumsum([1, 0, 2, HOP - 1, 3 * HOP, *[97] * 100]), samples)
    family, asked = family_of(synth), Request(seed=3, pitch=57.0)
    followed = list(synth.resynthesize(np.split(sound, ends), pitch=57.0, seed=3))
    path = family.encode(synth.params, sound, asked, False)
    whole = np.concatenate(list(stream(synth, latent=path[None], seed=3, pitch=57.0)), axis=1)[0, :samples]
    assert sum(map(len, followed)) == samples
    # Frames come one by one here, by a program whose sums are rounded otherwise.
    np.testing.assert_allclose(np.concatenate(followed), whole, rtol=0, atol=256 * EPS)


def test_a_sound_is_followed_as_soon_as_a_frame_was_heard(synth: Synth):
    ahead, taken = family_of(synth).model.lookahead, []

    def blocks() -> Any:
        while True:
            taken.append(64)
            yield np.full(64, 0.1, np.float32)

    for frame, made in enumerate(itertools.islice(synth.resynthesize(blocks()), 20), 1):
        assert made.shape == (HOP,)
        assert sum(taken) < frame * HOP + ahead + 64


def test_what_cannot_be_resynthesized(synth: Synth):
    assert list(synth.resynthesize([])) == []
    assert list(synth.resynthesize([np.zeros(0, np.float32)])) == []
    for whole in ("flute.wav", np.zeros(100, np.float32)):
        with pytest.raises(UserError, match="blocks is one sound: give its parts as they come"):
            synth.resynthesize(whole)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not finite"):
        list(synth.resynthesize([np.full(100, np.nan, np.float32)]))
    ahead = AutoencoderFamily(dataclasses.replace(family_of(synth).model, causal=False), synth.family.dataset)
    with pytest.raises(
        UserError, match="cannot follow a sound: its convolutions look ahead: train one with causal=True"
    ):
        dataclasses.replace(synth, family=ahead).resynthesize([])
    unpitched = AutoencoderFamily(synth.family.model, DatasetInfo(RATE))
    with pytest.raises(UserError, match="cannot play a pitch"):
        dataclasses.replace(synth, family=unpitched).resynthesize([], pitch=60)
    with pytest.raises(UserError, match="cannot follow a sound: it does not encode sounds as they come"):
        bind("wavenet", preset("wavenet-tiny").model, DatasetInfo(RATE)).resynthesize({}, iter([]), Request())


def test_chance_and_labels_are_heard(synth: Synth):
    kick, other, hat = (next(stream(synth, seed=seed, label=label)) for seed, label in ((0, 0), (1, 0), (0, 1)))
    assert np.isfinite(kick).all()
    assert not np.array_equal(kick, other)
    assert not np.array_equal(kick, hat)
    pitched = [next(stream(synth, label=0, pitch=pitch)) for pitch in (40.0, 52.0)]
    assert not np.array_equal(*pitched)


def test_what_cannot_be(synth: Synth, paths: np.ndarray):
    with pytest.raises(UserError, match="'autoencoder' cannot go on from a prime"):
        next(stream(synth, prime=np.zeros(10, np.float32)))
    dataset = dataclasses.replace(synth.family.dataset, pitched=False)
    unpitched = bind("autoencoder", AutoencoderFamily.adapt(MODEL, dataset), dataset)
    with pytest.raises(UserError, match="'autoencoder' cannot play a pitch: it was trained on sounds without pitches"):
        next(unpitched.stream({}, Request(pitch=60.0)))
    with pytest.raises(UserError, match="'autoencoder' cannot score samples"):
        synth.family.log_prob(synth.params, np.zeros(10, np.float32), Request(), None)


def test_what_looks_ahead_makes_whole_sounds(synth: Synth, paths: np.ndarray):
    dataset = synth.family.dataset
    model = AutoencoderFamily.adapt(dataclasses.replace(MODEL, causal=False), dataset)
    family = AutoencoderFamily(model, dataset)
    sound = 0.3 * np.random.default_rng(0).standard_normal(9 * HOP).astype(np.float32)
    params = {"coder": synth.params["coder"]}  # of the same shapes
    assert family.encode(params, sound, Request(), False).shape == (9, MODEL.code_channels)
    (made,) = family.stream(params, Request(latent=paths[:1]))
    assert made.shape == (1, paths.shape[1] * HOP)
    assert np.isfinite(made).all()
    with pytest.raises(
        UserError, match="cannot go on for ever: its convolutions look ahead: train one with causal=True"
    ):
        next(family.stream(params, Request(latent=paths[:1], endless=True)))


def test_few_lengths_are_compiled():
    assert [autoencoder._power_of_two(frames) for frames in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("frames", [1, 5])
def test_any_crop_trains_through_both_phases(frames: int):
    model = AutoencoderConfig(
        encoder_channels=8, channels=8, dilations=(1,), encoder_dilations=(1,), discriminator_channels=4, periods=(2, 3),
        spectral_windows=(256,), spectral_channels=4, period_channels=4,
    )  # fmt: skip
    dataset = DatasetInfo(16_000)
    family = AutoencoderFamily(AutoencoderFamily.adapt(model, dataset), dataset)
    training = ReconstructionTraining(crop=frames * family.code_hop, batch_size=2)
    batch = {
        "samples": jax.ShapeDtypeStruct((2, 1, training.crop), jnp.float32),
        "real": jax.ShapeDtypeStruct((2, training.crop), bool),
        "start": jax.ShapeDtypeStruct((2,), jnp.int32),
        "conditions": Conditions.constant([-1, -1], 0, [None, None]),
    }
    objective = family.objective(training)
    state = jax.eval_shape(objective.init, family.shapes())
    for phase in (0, 1):
        stepped, metrics = jax.eval_shape(partial(objective.step, phase=phase), state, batch)
        assert jax.tree.map(jnp.shape, stepped) == jax.tree.map(jnp.shape, state)
        assert ("accuracy" in metrics) == phase

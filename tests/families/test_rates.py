"""Every preset at every usual sample rate: it lasts as long, and it trains."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from wavesynth.conditions import Conditions
from wavesynth.config import DatasetInfo, from_dict, to_json
from wavesynth.data.info import dataset_info
from wavesynth.data.manifest import ClipRecord, Manifest
from wavesynth.data.shards import Shards, ShardWriter
from wavesynth.families import Family, Request, bind, family_type, preset, presets
from wavesynth.families.coding import CodingFamily
from wavesynth.families.wavenet import LOWEST_HZ
from wavesynth.models.classifier import WINDOW_SECONDS
from wavesynth.training.objective import Phased

RATES = (8_000, 16_000, 24_000, 44_100, 48_000, 96_000)
NEAR = 2**0.5 + 1e-9  # the nearest power of two is at most half an octave away
STEREO = ("autoencoder", "wavegan")
CASES = [(name, audio) for name, config in presets().items() for audio in (1, 2)[: 1 + (config.family in STEREO)]]


def dataset_of(rate: int, audio: int = 1, pitched: bool = True) -> DatasetInfo:
    return DatasetInfo(rate, ("a", "b"), pitched=pitched, clip_seconds=1.0, channels=audio)


def family_of(name: str, rate: int, audio: int = 1, pitched: bool = True) -> Family:
    config, dataset = preset(name), dataset_of(rate, audio, pitched)
    return bind(config.family, family_type(config.family).adapt(config.model, dataset), dataset)


def powers_of_two(family: Family) -> dict[str, tuple[int, float]]:
    """Samples and seconds of what is the power of two nearest to its duration, or a multiple of one."""
    model = family.model
    found: dict[str, tuple[int, float]] = {}
    if family.name in ("wavenet", "wavenet-autoencoder"):
        found |= {
            "hop": (model.hop_length, model.hop_seconds),
            "longest dilation": (max(model.dilations), model.longest_dilation),
        }
    if family.name == "wavenet-autoencoder":
        found |= {
            "code": (model.code_hop, model.code_seconds),
            "stride": (model.encoder_stride, model.code_seconds / 16),
        }
    if family.name == "autoencoder":
        found |= {
            "hop": (model.hop, model.hop_seconds),
            "window": (model.window, model.overlap * model.hop_seconds),
            "gain": (model.gain_hop, model.hop_seconds / model.gains),
            "code": (model.code_hop, model.stride * model.hop_seconds),
        }
    if family.name == "wavegan":
        found["frame"] = model.hop, model.frame_seconds
    if family.name in STEREO:
        windows = zip(model.spectral_window_samples, model.spectral_windows, strict=True)
        found |= {f"spectral window {index}": window for index, window in enumerate(windows)}
    if family.name == "classifier":
        found |= {"window": (model.mel.window, WINDOW_SECONDS), "hop": (model.mel.hop, WINDOW_SECONDS / 2)}
    assert found
    return found


def reaches(family: Family) -> dict[str, tuple[float, float]]:
    """Samples and seconds of what a network sees."""
    model, found = family.model, {}
    if family.name in ("wavenet", "wavenet-autoencoder"):
        seconds = 2 * model.stacks * (model.kernel_width - 1) * model.longest_dilation
        found["receptive field"] = model.receptive_field, seconds + family.dataset.pitched / LOWEST_HZ
    if family.name == "wavenet-autoencoder":
        found["encoder"] = model.encoder_reach, (1 + sum(model.encoder_dilations)) * model.code_seconds / 16
    if family.name == "autoencoder":
        found["lookahead"] = model.lookahead, (model.overlap - 1) * model.hop_seconds
        latency = (model.stride + model.overlap - 1) * model.hop_seconds
        found["latency"] = family.latency * family.dataset.sample_rate, latency
    return found


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "audio"), CASES)
def test_a_preset_lasts_as_long_at_every_rate(name: str, audio: int, rate: int):
    for pitched in (True, False):
        family, sixteen = (family_of(name, each, audio, pitched) for each in (rate, 16_000))
        for what, (samples, seconds) in powers_of_two(family).items():
            assert samples & (samples - 1) == 0, f"{what}: {samples} is no power of two"
            assert 1 / NEAR <= samples / rate / seconds <= NEAR, f"{what}: {samples} samples for {seconds} s"
        for what, (samples, seconds) in reaches(family).items():
            assert 1 / 1.5 <= samples / rate / seconds <= 1.5, f"{what}: {samples:.0f} samples for {seconds:.4f} s"
            there = reaches(sixteen)[what][0] / 16_000
            assert 1 / 1.5 <= there / seconds <= 1.5, f"{what}: {there:.4f} s at 16 kHz for {seconds:.4f} s"


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "audio"), CASES)
def test_a_crop_lasts_as_long_at_every_rate(name: str, audio: int, rate: int):
    family, training = family_of(name, rate, audio), preset(name).training
    crop = family.crop(training)
    assert crop % family.align == 0
    if family.name == "wavegan":
        seconds = family.model.seconds
        assert crop == family.length == family.model.length
        assert seconds <= crop / rate < seconds + family.model.hop / rate
        assert crop % family.model.hop == 0
    else:
        assert abs(crop / rate - training.crop_seconds) <= family.align / rate / 2 + 1e-9
        assert 1 / NEAR <= crop / rate / training.crop_seconds <= NEAR


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "audio"), CASES)
def test_adapting_twice_is_adapting_once(name: str, audio: int, rate: int):
    family = family_of(name, rate, audio)
    kind, model, dataset = type(family), family.model, family.dataset
    assert kind.adapt(model, dataset) == model
    assert from_dict(type(model), json.loads(to_json(model)), "config.json") == model
    if family.name in STEREO:
        assert (model.audio_channels, model.sample_rate) == (audio, rate)
        mono = family_of(name, rate).model
        assert dataclasses.replace(model, audio_channels=1) == mono


def test_at_16_khz_the_sizes_are_those_of_the_literature():
    wavenet, coded = family_of("wavenet-small", 16_000).model, family_of("wavenet-autoencoder-small", 16_000).model
    for model in (wavenet, coded):
        assert (model.layers_per_stack, model.hop_length) == (9, 128)
    assert (coded.code_hop, coded.encoder_stride) == (512, 32)
    assert family_of("wavenet", 16_000).model.layers_per_stack == 10
    gan = family_of("wavegan-paper", 16_000).model
    assert (gan.strides, gan.length) == ((4, 4, 4, 4, 4), 16_384)
    model = family_of("autoencoder", 16_000).model
    assert (model.hop, model.window, model.gain_hop, model.code_hop) == (128, 512, 32, 512)
    assert model.spectral_window_samples == (256, 512, 1_024, 2_048)


@pytest.mark.parametrize("code_hop", [8, 16, 48, 512])
def test_an_encoder_has_a_stride_however_short_its_codes(code_hop: int):
    config = dataclasses.replace(preset("wavenet-autoencoder-tiny").model, code_hop=code_hop, hop_length=8)
    adapted = family_type("wavenet-autoencoder").adapt(config, dataset_of(16_000))
    assert (adapted.code_hop, adapted.encoder_stride) == (code_hop, max(1, code_hop // 16))


def test_what_is_given_in_samples_is_kept():
    dataset = dataset_of(44_100)
    wavenet = dataclasses.replace(preset("wavenet-tiny").model, layers_per_stack=5, hop_length=64)
    assert family_type("wavenet").adapt(wavenet, dataset).receptive_field < 2_000
    assert family_type("wavenet").adapt(wavenet, dataset).hop_length == 64
    gan = dataclasses.replace(preset("wavegan-tiny").model, strides=(4, 10), length=4_000)
    assert (family_type("wavegan").adapt(gan, dataset).hop, family_type("wavegan").adapt(gan, dataset).length) == (
        40,
        4_000,
    )


# Training.

SMALLEST: dict[str, dict[str, Any]] = {
    "wavenet-tiny": dict(stacks=1, channels=4, skip_channels=4, head_channels=4, taps=8, period_taps=2, mixtures=1),
    "wavegan-tiny": dict(
        seconds=0.1, channels=2, widest=8, latent=4, style_channels=4, discriminator_channels=2, spectral_windows=(0.03,),
        spectral_channels=4,
    ),
    "autoencoder-tiny": dict(
        encoder_channels=4, encoder_dilations=(1,), channels=4, dilations=(1,), spectral_windows=(0.03,), spectral_channels=4,
        code_channels=2,
    ),
}  # fmt: skip
SMALLEST["wavenet-autoencoder-tiny"] = SMALLEST["wavenet-tiny"] | dict(encoder_channels=4, encoder_layers=2)


def write_shards(folder: Path, rate: int, audio: int) -> Path:
    """Shards of four notes of 0.12 seconds."""
    folder.mkdir()
    writer, records, random = ShardWriter(folder, channels=audio), [], np.random.default_rng(0)
    length = round(0.12 * rate)
    time = np.arange(length) / rate
    for index, split in enumerate(["train", "train", "train", "valid"]):
        pitch = 57.0 + index
        tone = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time) * np.exp(-time / 0.05)
        sound = 0.3 * tone + 0.02 * random.standard_normal((audio, length))
        content = np.round(sound.T.clip(-1, 1) * 32_767).astype("<i2").tobytes()
        shard, offset = writer.append(io.BytesIO(content), length)
        digest = hashlib.sha256(content).hexdigest()
        label = "ab"[index % 2]
        records.append(ClipRecord(f"{index}.wav", label, pitch, split, shard, offset, length, digest, ((0, length),)))
    manifest = Manifest(rate, ("a", "b"), {}, "source", writer.files, tuple(records), audio)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder


def test_the_smallest_are_all_of_the_tiny_presets():
    assert SMALLEST.keys() == {name for name in presets() if name.endswith("-tiny")}


@pytest.mark.parametrize("rate", RATES)
def test_every_tiny_preset_trains_and_plays(rate: int, tmp_path: Path):
    """Two steps of the smallest network of each kind, in stereo where the family can; then some sound."""
    shards = {audio: Shards.open(write_shards(tmp_path / f"{audio}", rate, audio)) for audio in (1, 2)}
    for name, sizes in SMALLEST.items():
        config = preset(name)
        audio = 1 + (config.family in STEREO)
        dataset = dataset_info(shards[audio])
        assert (dataset.sample_rate, dataset.channels, dataset.pitches) == (rate, audio, (57.0, 60.0))
        kind = family_type(config.family)
        family: Any = bind(config.family, kind.adapt(dataclasses.replace(config.model, **sizes), dataset), dataset)
        changes: dict[str, Any] = dict(steps=2, batch_size=1, warmup=0)
        if config.family != "wavegan":
            changes["crop_seconds"] = 0.1
        if config.family == "autoencoder":
            changes["adversarial_from"] = 0.0  # all losses
        training = dataclasses.replace(config.training, **changes)
        learned = family.windows(shards[audio], training)
        assert learned.crop / rate == pytest.approx(0.1, rel=0.45)
        objective = family.objective(training)
        state = objective.init(family.init(jax.random.key(0), learned.batch(0)))
        step = jax.jit(objective.step, static_argnums=2 if isinstance(objective, Phased) else ())
        before = jax.tree.map(np.asarray, state.params)
        for index in range(2):
            phase = (objective.phase(index),) if isinstance(objective, Phased) else ()
            state, metrics = step(state, learned.batch(index), *phase)
            assert metrics["healthy"]
            assert all(np.isfinite(value) for value in metrics.values()), (name, metrics)
        assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, before, state.params)))
        check_playing(family, family.published(state.params), shards[audio].samples(0)[:, :100] / np.float32(32_768))


def check_playing(family: Any, params: Any, sound: np.ndarray) -> None:
    """Whether a model generates finite sound of its dataset's channels; where it has codes, from those of a sound."""
    conditions = Conditions.constant([0], 2, [60.0])
    latents = None
    if isinstance(family, CodingFamily):
        latents = family.encode(params, sound, conditions, 0, False)[None]
        assert latents.shape == (1, 1, family.code_width)
    block = next(family.generate(params, conditions, Request(latents=latents)))
    assert block.shape[:2] == (1, family.dataset.channels)
    assert np.isfinite(block).all()
    assert block.any()

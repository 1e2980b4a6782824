"""A WaveNet autoencoder: its sampler has the log-probabilities that it scores with, and it depends on its codes."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wavesynth
from tests.tolerances import assert_close, rounding
from wavesynth import Synth, UserError
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.families import Request, bind, preset, wavenet
from wavesynth.families.wavenet_autoencoder import PIECE, NoisyLikelihood, WaveNetAutoencoderFamily
from wavesynth.kernels.wavenet_decode import silent_cache, wavenet_decode
from wavesynth.models.likelihoods import quantize
from wavesynth.models.wavenet_autoencoder import WaveNetAutoencoderConfig
from wavesynth.sampling.autoregressive import Place
from wavesynth.training import journal
from wavesynth.training.objective import Batch

RATE, HOP = 16_000, 256
TERMS = 1_000  # of the longest chain of sums in the network below, about
MODEL = WaveNetAutoencoderConfig(
    stacks=1, layers_per_stack=4, channels=8, skip_channels=16, head_channels=16, taps=16, mixtures=2, hop_length=64,
    code_channels=4, code_hop=HOP, encoder_stride=16, encoder_channels=16, encoder_layers=2,
)  # fmt: skip
TRAINING = TrainingConfig(
    steps=700, batch_size=4, crop_seconds=0.048, warmup=10, learning_rate=4e-3, validate_every=700, validation_windows=16,
    preview_seconds=0.05,
)  # fmt: skip
DATASETS = {
    "notes": DatasetInfo(RATE, ("a", "b"), pitched=True, clip_seconds=1.0),
    "drums": DatasetInfo(RATE, clip_seconds=1.0),
    "pieces": DatasetInfo(RATE, clip_seconds=60.0),
    "pieces with pitches": DatasetInfo(RATE, pitched=True, clip_seconds=60.0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path, compile_cache: None) -> Path:
    folder = tmp_path_factory.mktemp("codes") / "run"
    wavesynth.train(tiny_shards, folder, Config("wavenet-autoencoder", MODEL, TRAINING), progress=False)
    return folder


@pytest.fixture(scope="module")
def synth(run: Path) -> Synth:
    return wavesynth.load(run)


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """A bit more than four codes of a decaying A4."""
    time = np.arange(4 * HOP + 50) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time) * np.exp(-time / 0.05)).astype(np.float32)


# Scoring and sampling agree.


@pytest.fixture(scope="module")
def hiss() -> np.ndarray:
    """A bit more than four codes of noise, quantised as a model sees it."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(4 * HOP + 50)
    return np.asarray(quantize(jnp.asarray(noise, jnp.float32), "int16"))


def constant(family: Any, pitch: float | None = None, n: int = 1) -> Conditions:
    return Conditions.constant([-1] * n, len(family.dataset.labels), [pitch] * n)


def generate(synth: Synth, **options: Any) -> Any:
    """Blocks [1, T] of one channel, without label and pitch."""
    blocks = synth.family.generate(synth.params, constant(synth.family), Request(**options))
    return (block[:, 0] for block in blocks)


class Forced:
    """A family with random weights, and its decoding op with a path and samples that are forced on it."""

    def __init__(self, dataset: DatasetInfo, monkeypatch: pytest.MonkeyPatch) -> None:
        family = self.family = bind("wavenet-autoencoder", WaveNetAutoencoderFamily.adapt(MODEL, dataset), dataset)
        windows = {
            "samples": 0.1 * np.random.default_rng(0).standard_normal((4, 1, 2_000), np.float32),
            "conditions": constant(family, 69, n=4),
        }
        params = family.init(jax.random.key(0), windows)
        params["decoder"]["out"] = 0.05 * jax.random.normal(jax.random.key(1), params["decoder"]["out"].shape)
        self.params = params
        self.arguments: dict[str, Any] = {}

        def stream(weights: Any, *_: Any, **arguments: Any) -> list:
            self.arguments.update(arguments, weights=weights)
            return []

        monkeypatch.setattr(wavenet, "stream", stream)

    def log_prob(
        self, conditions: Conditions, request: Request, samples: np.ndarray, implementation: str | None
    ) -> np.ndarray:
        """Nats [T] of samples [T], given the arguments that `stream` would have got."""
        self.family.generate(self.params, conditions, request)
        given, schedule = self.arguments, self.arguments["schedule"]
        prime = np.zeros(0, np.float32) if given["prime"] is None else given["prime"]
        forced = np.concatenate([prime, samples])
        cache = silent_cache(given["weights"][0], 1, schedule.table(0, 1)[0])
        decoded = wavenet_decode(
            given["weights"][0], cache, schedule.at(Place.of(-len(prime), schedule.hop_length), len(forced)),
            jnp.zeros((len(forced), 2, 1)), periods=given["periods"], forced=jnp.asarray(forced)[:, None], log_probs=True,
            implementation=implementation,
        )  # fmt: skip
        return np.asarray(decoded.log_probs[len(prime) :, 0])

    def tolerance(self, nats: np.ndarray) -> float:
        """Of sums over the channels of all layers; narrow bins magnify an error of the output by their nats."""
        terms = MODEL.skip_channels + len(MODEL.dilations) * MODEL.channels
        return rounding("float32", terms, scale=nats)


@pytest.mark.parametrize(("kind", "implementation"), [*((kind, None) for kind in DATASETS), ("notes", "jax")])
def test_the_op_gives_the_parallel_log_probs_from_sample_0(
    kind: str, implementation: str | None, hiss: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    forced = Forced(DATASETS[kind], monkeypatch)
    conditions = constant(forced.family, 69.0 if DATASETS[kind].pitched else None)
    path = forced.family.encode(forced.params, hiss[None], conditions, seed=0, progress=False)
    assert path.shape == (5, 4)
    expected = forced.family.log_prob(forced.params, hiss[None], conditions, None)
    played = forced.log_prob(conditions, Request(latents=path[None]), hiss, implementation)
    np.testing.assert_allclose(played, expected, rtol=0, atol=forced.tolerance(expected))
    other = forced.log_prob(conditions, Request(latents=np.roll(path, 1, axis=0)[None]), hiss, implementation)
    assert np.abs(other - expected).max() > 10 * forced.tolerance(expected)


@pytest.mark.parametrize("length", [HOP, 300, 1_500])
def test_a_prime_has_codes_of_its_own(length: int, hiss: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """As in a window that begins behind the prime: its left context, and the codes of that, are the prime's."""
    forced = Forced(DATASETS["notes"], monkeypatch)
    family, prime = forced.family, np.resize(hiss, length)
    path = np.random.default_rng(1).uniform(-1, 1, (5, 4)).astype(np.float32)
    past = np.pad(prime, (family.context, 0))[-family.context :]
    before = family.codes(forced.params, past[None, None])
    conditions = constant(family, 69.0)
    batch = {
        "samples": np.concatenate([past, hiss])[None, None],
        "codes": np.concatenate([before, path[None]], axis=1),
        "conditions": conditions,
        "start": np.int32([length]),
    }
    expected = np.asarray(family._score(family.model.likelihood, forced.params, batch))[0]
    played = forced.log_prob(conditions, Request(latents=path[None], prime=prime[None]), hiss, None)
    np.testing.assert_allclose(played, expected, rtol=0, atol=forced.tolerance(expected))


def test_a_score_does_not_depend_on_where_it_is_cut(synth: Synth, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    whole = synth.log_prob(tone, pitch=69)
    assert whole.shape == tone.shape
    assert np.isfinite(whole).all()
    monkeypatch.setattr(wavenet, "SCORED_AT_ONCE", 2 * HOP + 7)
    np.testing.assert_allclose(
        synth.log_prob(tone, pitch=69), whole, rtol=0, atol=rounding("float32", TERMS, scale=whole)
    )


# Codes.


def test_codes_do_not_depend_on_pieces_or_neighbours(synth: Synth):
    family, length = synth.family, (PIECE + 3) * HOP
    sounds = 0.1 * np.random.default_rng(0).standard_normal((9, 1, length)).astype(np.float32)
    codes = family.codes(synth.params, sounds)
    assert codes.shape == (9, PIECE + 3, 4)
    reach = family.model.encoder_reach
    around = np.pad(sounds[7:8, 0], ((0, 0), (reach, reach)))
    assert_close(codes[7:8], family._bind_encoder(synth.params["encoder"])(around), terms=TERMS)
    longer = family.codes(synth.params, np.pad(sounds[7:8], ((0, 0), (0, 0), (0, 40 * HOP))))
    assert_close(longer[:, : PIECE + 3], codes[7:8], terms=TERMS)


class Scored:
    """Windows of sounds, scored by codes in whichever order."""

    def __init__(self, synth: Synth, windows: Batches) -> None:
        self.synth, self.batches = synth, list(windows.held_out())
        reach = synth.family.model.encoder_reach
        encode = jax.jit(synth.family._bind_encoder(synth.params["encoder"]))
        behind = reach + -self.batches[0]["samples"].shape[-1] % HOP
        self.codes = np.stack([encode(np.pad(b["samples"][:, 0], ((0, 0), (reach, behind)))) for b in self.batches])

    def bits(self, codes: np.ndarray) -> float:
        family, total = self.synth.family, 0.0
        for batch, own in zip(self.batches, codes, strict=True):
            nats = family._score(family.model.likelihood, self.synth.params, batch | {"codes": own})
            total -= float(np.where(batch["real"], nats, 0).sum()) / math.log(2)
        return total / sum(int(batch["real"].sum()) for batch in self.batches)


def test_training_lowers_the_bits_and_other_codes_raise_them(run: Path, synth: Synth, tiny_shards: Path):
    valid = [line["valid_bits"] for line in journal.read(run / "journal.jsonl") if "valid_bits" in line]
    learned = synth.family.windows(Shards.open(tiny_shards), TRAINING)
    held_out = Scored(synth, synth.family.held_out(learned))
    assert [held_out.bits(held_out.codes)] == pytest.approx(valid, abs=1e-3)  # by the window's own codes
    learned = dataclasses.replace(learned, limit=64)
    scored = Scored(synth, learned)
    untrained = Scored(Synth(synth.family, synth.family.init(jax.random.key(0), learned.batch(0))), learned)
    own = scored.bits(scored.codes)
    assert own < untrained.bits(untrained.codes) - 0.3
    assert scored.bits(np.roll(scored.codes, 1, axis=1)) > own + 0.03
    assert scored.bits(scored.codes[:, :, ::-1]) > own


def test_a_step_has_a_key_of_its_own_and_scoring_has_none():
    def log_prob(params: Any, batch: Batch) -> jax.Array:
        noise = jax.random.normal(batch["key"]) if "key" in batch else 0.0
        return params["w"] * jnp.ones((1, 3)) + noise

    objective, batch = NoisyLikelihood(log_prob, TRAINING), {"real": jnp.ones((1, 3), bool)}
    state = objective.init({"w": jnp.zeros(())})
    second = dataclasses.replace(state, step=jnp.int32(1))
    other_seed = NoisyLikelihood(log_prob, dataclasses.replace(TRAINING, seed=1))
    bits = [
        float(each.step(at, batch)[1]["bits"])
        for each, at in ((objective, state), (objective, second), (other_seed, state))
    ]
    assert float(objective.step(state, batch)[1]["bits"]) == bits[0]
    assert len({*bits, 0.0}) == 4
    assert float(objective.evaluate(state.params, batch)[0]["bits"]) == 0


def test_a_key_adds_noise_to_codes(synth: Synth, tiny_shards: Path):
    family = synth.family
    batch = family.windows(Shards.open(tiny_shards), TRAINING).batch(0)
    calm = bind(family.name, dataclasses.replace(family.model, code_noise=0.0), family.dataset)

    def score(family: Any, key: int) -> np.ndarray:
        return np.asarray(family._score(MODEL.likelihood, synth.params, batch | {"key": jax.random.key(key)}))

    np.testing.assert_array_equal(score(family, 1), score(family, 1))
    assert np.abs(score(family, 1) - score(family, 2)).max() > 1e-3
    np.testing.assert_array_equal(score(calm, 1), score(calm, 2))


# As a synth.


def test_encode_and_decode(synth: Synth, tone: np.ndarray):
    timbre = synth.encode(tone, pitch=69)
    assert timbre.latent.shape == (5, 4)
    assert timbre.frame_rate == RATE / HOP
    sound = synth.decode(timbre, 0.05, pitch=69)
    assert sound.shape == (800,)
    assert np.abs(sound).max() <= 1
    assert sound.std() > 0
    np.testing.assert_array_equal(synth.decode(timbre, 0.05, pitch=69), sound)
    assert not np.array_equal(synth.decode(timbre, 0.05, pitch=60), sound)


def test_each_frame_of_a_path_takes_effect_when_it_begins(synth: Synth):
    paths = np.zeros((2, 6, 4), np.float32)
    paths[1, 3:] = 1.0
    both = [generate(synth, latents=path[None]) for path in paths]
    first, second = (np.concatenate(list(blocks), axis=1)[0] for blocks in both)
    assert len(first) == len(second) == 6 * HOP
    np.testing.assert_array_equal(first[: 3 * HOP], second[: 3 * HOP])
    assert not np.array_equal(first[3 * HOP : 3 * HOP + 32], second[3 * HOP : 3 * HOP + 32])


def test_an_endless_sound_holds_the_last_frame(synth: Synth):
    path = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    held = np.concatenate([path, np.repeat(path[:, -1:], 9, axis=1)], axis=1)
    endless = generate(synth, latents=path, endless=True)
    whole = np.concatenate(list(generate(synth, latents=held)), axis=1)
    ahead = np.concatenate(list(itertools.islice(endless, 4)), axis=1)
    np.testing.assert_array_equal(ahead[:, : 12 * HOP], whole)


def test_labels_have_mean_paths(run: Path, synth: Synth):
    sounds = synth.sample(2, 0.05, seed=3, label="kick")
    np.testing.assert_array_equal(wavesynth.load(run).sample(2, 0.05, seed=3, label="kick"), sounds)
    assert not np.array_equal(sounds, synth.sample(2, 0.05, seed=3, label="flute"))
    assert synth.timbre("kick").latent.shape == (round(2.0 * RATE / HOP), 4)
    assert np.isfinite(synth.sample(seconds=0.05)).all()


def test_pitches_need_pitched_sounds():
    dataset = DATASETS["drums"]
    family = bind("wavenet-autoencoder", WaveNetAutoencoderFamily.adapt(MODEL, dataset), dataset)
    conditions = constant(family, 60.0)
    for ask in (
        lambda: family.generate({}, conditions, Request()),
        lambda: family.log_prob({}, np.zeros((1, 9)), conditions, None),
    ):
        with pytest.raises(UserError, match="cannot play a pitch: it was trained on sounds without pitches"):
            ask()


def test_labels_choose_codes_and_do_not_score(synth: Synth):
    label = synth.labels[0]
    assert synth.sample(seconds=0.02, label=label).shape == (1, 320)
    for ask in (synth.log_prob, synth.encode):
        with pytest.raises(UserError, match=f"cannot use the label '{label}': .* leave label out"):
            ask(np.full(1_000, 0.1), label=label)


def test_presets_have_the_decoders_of_plain_wavenets():
    for size in ("-tiny", "-small", ""):
        coded, plain = preset(f"wavenet-autoencoder{size}"), preset(f"wavenet{size}")
        assert coded.training == plain.training
        for field in dataclasses.fields(plain.model):
            assert getattr(coded.model, field.name) == getattr(plain.model, field.name)


def test_it_glides_and_a_label_has_its_median_pitch(synth: Synth, tiny_shards: Path):
    made = synth.glide("flute", "cello", 0.1, seed=1)
    assert made.shape == (1_600,)
    shards = Shards.open(tiny_shards)
    learned = [shards.clips[clip] for clip in shards.split("train")]
    pitches = sorted(clip.pitch for clip in learned if clip.label == "flute" and clip.pitch is not None)
    assert synth.timbre("flute").pitch == pitches[len(pitches) // 2]
    with pytest.raises(UserError, match="cannot draw with truncation"):
        synth.sample(seconds=0.05, truncation=0.5)

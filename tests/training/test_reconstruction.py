"""The objective of autoencoders, by toys whose losses and input_gradients are known; phases are programs of their own."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close
from wavesynth.audio.spectral import band_limited, log_mel_distance, relative_mel
from wavesynth.conditions import Conditions
from wavesynth.errors import UserError
from wavesynth.models.expected import Frames
from wavesynth.training.loop import compiled
from wavesynth.training.objective import Phased
from wavesynth.training.reconstruction import (
    ADVERSARIAL,
    EXPECTED,
    SPECTRAL,
    Average,
    Reconstruction,
    ReconstructionTraining,
    distance,
    kl_divergence,
    real_frames,
)
from wavesynth.training.state import Pace, learning_rate

EPS = float(np.finfo(np.float32).eps)
RATE, ROWS, LENGTH, FRAMES, LEVEL_DB = 16_000, 4, 2_048, 4, -14.0
MEL = relative_mel(RATE, LEVEL_DB)
TRAINING = ReconstructionTraining(
    steps=10, batch_size=ROWS, crop_seconds=LENGTH / RATE, warmup=0, schedule="constant", learning_rate=1e-2, kl_target=0.5,
    kl_weight=0.5, pitch_adversary=2.0, adversarial_from=0.3,
)  # fmt: skip


def encode(params: Any, sounds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A code of two dimensions: how loud a sound is, and how loud its second half."""
    sounds = sounds[:, 0]
    loud = jnp.square(sounds).mean(axis=1), jnp.square(sounds[:, LENGTH // 2 :]).mean(axis=1)
    mean = jnp.repeat((jnp.stack(loud, axis=1) * params["weight"][None])[:, None], FRAMES, axis=1)
    return mean, jnp.broadcast_to(params["log_variance"], mean.shape)


def decode(params: Any, codes: jax.Array, conditions: Conditions, keys: jax.Array) -> jax.Array:
    """One sound for all, louder where the first dimension is, and a little noise."""
    hiss = jax.vmap(lambda key: jax.random.normal(key, (LENGTH,)))(keys)
    return (params["sound"][None] * jax.nn.sigmoid(codes[:, :1].mean(axis=-1)) + 1e-3 * hiss)[:, None]


def views(sounds: jax.Array) -> list[jax.Array]:
    return [sounds.reshape(len(sounds), -1, 16)]


def discriminate(params: Any, views: list[jax.Array], key: jax.Array) -> tuple[jax.Array, list[list[jax.Array]]]:
    activations = jnp.tanh(views[0] @ params["kernel"])
    return activations.mean(axis=(1, 2))[:, None], [[activations]]


def probe_logits(params: Any, codes: jax.Array) -> jax.Array:
    return codes @ params["table"]


def objective(training: ReconstructionTraining = TRAINING) -> Reconstruction:
    return Reconstruction(encode, decode, views, discriminate, probe_logits, RATE, LEVEL_DB, training)


@cache
def step_of(training: ReconstructionTraining = TRAINING, phase: int = SPECTRAL) -> Callable:
    own = objective(training)
    return jax.jit(lambda state, batch: own.step(state, batch, phase))


def parameters() -> Any:
    random = np.random.default_rng(0)
    made = {
        "coder": {
            "weight": np.array([30.0, -20.0], np.float32),
            "log_variance": np.array([-1.0, 0.5], np.float32),
            "sound": 0.05 * random.standard_normal(LENGTH, np.float32),
        },
        "discriminators": {"kernel": 0.3 * random.standard_normal((16, 3), np.float32)},
        "probe": {"table": 0.5 * random.standard_normal((2, 128), np.float32)},
    }
    return jax.tree.map(jnp.asarray, made)


def batch_of() -> dict[str, Any]:
    samples = np.random.default_rng(1).standard_normal((ROWS, LENGTH), np.float32)
    samples *= 0.1 * np.arange(1, ROWS + 1, dtype=np.float32)[:, None]
    return {
        "samples": samples.clip(-1, 1)[:, None],
        "real": np.ones((ROWS, LENGTH), bool),
        "conditions": Conditions.constant([-1] * ROWS, 0, [50, 60, None, 70.5]),
    }


def coder_gradients(training: ReconstructionTraining, params: Any, batch: Any) -> Any:
    own, key = objective(training), jax.random.key(0)
    return jax.grad(lambda coder: own._coder_loss(coder, params, batch, key, SPECTRAL)[0])(params["coder"])


# Losses.


def test_nats_are_those_of_gaussians():
    mean, log_variance = jnp.array([[0.0, 2.0]]), jnp.array([[0.0, -1.0]])
    np.testing.assert_allclose(kl_divergence(mean, log_variance), [0.5 * (4 + np.exp(-1) - 1 + 1)], rtol=8 * EPS)
    np.testing.assert_array_equal(kl_divergence(jnp.zeros((1, 2)), jnp.zeros((1, 2))), [0.0])


@pytest.mark.parametrize(("target", "pulled"), [(0.0, True), (1e3, False)])
def test_codes_that_hold_too_much_are_pulled_to_the_middle(target: float, pulled: bool):
    params, batch = parameters(), batch_of()
    quiet = replace(TRAINING, pitch_adversary=0.0)
    heavy, none = (replace(quiet, kl_target=target, kl_weight=weight) for weight in (1.0, 0.0))
    del params["probe"]
    input_gradients = [coder_gradients(training, params, batch) for training in (heavy, none)]
    own = jax.tree.map(lambda with_it, without: with_it - without, *input_gradients)
    # Down a slope goes the way to a mean of 0 and a variance of 1: each has the sign of what it is of.
    for name, place in (("weight", params["coder"]["weight"]), ("log_variance", params["coder"]["log_variance"])):
        scale = 64 * EPS * np.abs(input_gradients[0][name])
        if pulled:
            assert (np.sign(place) * own[name] > scale).all()
        else:
            assert (np.abs(own[name]) <= scale).all()


def test_codes_of_silence_have_no_noise_and_do_not_count():
    params, batch, decoded = parameters(), batch_of(), []
    level = jnp.array([1.0, 0.0, 2.0, 0.0])[:, None, None]

    def leveled(coder: Any, sounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_variance = encode(coder, sounds)
        return jnp.concatenate([mean, jnp.broadcast_to(level, (ROWS, FRAMES, 1))], axis=-1), log_variance

    def kept(coder: Any, codes: jax.Array, conditions: Conditions, keys: jax.Array) -> jax.Array:
        decoded.append(codes)
        return decode(coder, codes, conditions, keys)

    own = replace(objective(replace(TRAINING, pitch_adversary=0.0)), encode=leveled, decode=kept)
    _, (metrics, _, mean) = own._coder_loss(params["coder"], params, batch, jax.random.key(0), SPECTRAL)
    moved = np.any(np.asarray(decoded[0] != mean), axis=(1, 2))
    np.testing.assert_array_equal(moved, [True, False, True, False])
    apart = kl_divergence(*encode(params["coder"], batch["samples"]))
    assert_close(metrics["kl"], apart[::2].mean(), terms=apart.size)
    assert metrics["kl"] != apart.mean()


def test_the_probe_learns_pitches_and_the_coder_hides_them():
    params, batch = parameters(), batch_of()
    own = objective()
    mean, _ = encode(params["coder"], batch["samples"])

    def surprise(coder: Any, probe: Any) -> jax.Array:
        return own._cross_entropy(probe, encode(coder, batch["samples"])[0], batch)

    before = surprise(params["coder"], params["probe"])
    input_gradients = jax.grad(own._probe_loss)(params["probe"], mean, batch)
    learned = jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params["probe"], input_gradients)
    assert surprise(params["coder"], learned) < before
    # With a probe that knows something, what the coder learns from it makes the pitch harder to probe_logits.
    keen = {
        "table": jnp.zeros((2, 128)).at[:, jnp.array([50, 60, 70, 71])].set(jnp.array([[-2.0, 0, 1, 1], [0, 0, 0, 0]]))
    }
    strong, without = (
        coder_gradients(replace(TRAINING, pitch_adversary=weight), params | {"probe": keen}, batch)
        for weight in (2.0, 0.0)
    )
    signal = strong["weight"] - without["weight"]
    assert np.abs(signal).max() > 0
    hidden = params["coder"] | {"weight": params["coder"]["weight"] - 0.1 * signal}
    assert surprise(hidden, keen) > surprise(params["coder"], keen)


def test_a_coder_that_has_hidden_all_learns_no_more():
    params, batch = parameters(), batch_of()
    wrong = {"table": jnp.zeros((2, 128)).at[0, 5].set(1e3)}  # sure of a pitch that no sound has
    with_it, without = (
        coder_gradients(replace(TRAINING, pitch_adversary=weight), params | {"probe": wrong}, batch)
        for weight in (2.0, 0.0)
    )
    jax.tree.map(np.testing.assert_array_equal, with_it, without)


def test_the_figure_is_the_log_mel_distance_of_real_frames():
    batch = batch_of()
    made = 0.5 * batch["samples"]
    whole, weight = distance(jnp.asarray(made), batch["samples"], batch["real"], RATE, MEL)
    np.testing.assert_allclose(whole, log_mel_distance(made, batch["samples"], RATE, MEL).mean(), rtol=64 * EPS)
    assert weight == ROWS * (LENGTH // 256 + 1)
    np.testing.assert_allclose(whole, 20 * np.log10(2), rtol=1e-3)  # all bands are above the floor
    batch["real"][:2] = False
    batch["real"][2:, 1_000:] = False
    made[:2] = 0.0  # what is not counted; a frame's window reaches 512 samples beyond its middle
    made[2:, :, 1_800:] = 0.0
    part, weight = distance(jnp.asarray(made), batch["samples"], batch["real"], RATE, MEL)
    assert weight == 2 * 4
    np.testing.assert_allclose(part, 20 * np.log10(2), rtol=1e-3)
    assert real_frames(batch["real"], MEL)[2].tolist() == [True] * 4 + [False] * 5


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_spectra_are_compared_far_below_the_sounds(gain: float):
    """So that training on quiet recordings is training on loud ones."""
    level_db = LEVEL_DB + 20 * np.log10(gain)
    assert relative_mel(RATE, level_db).floor_db == pytest.approx(level_db - 80)
    own = replace(objective(), level_db=level_db)
    random = np.random.default_rng(0)
    sounds, made = (gain * 0.1 * random.standard_normal((2, ROWS, 1, LENGTH))).astype(np.float32)
    hiss = (gain * 10 ** (-110 / 20) * random.standard_normal((ROWS, 1, LENGTH))).astype(np.float32)
    silence = np.zeros_like(hiss)
    assert float(own.spectral(hiss, silence)) < 3  # of which little reaches the floor
    losses = [float(one.spectral(times * made, times * sounds)) for one, times in ((own, 1), (objective(), 1 / gain))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    real = jnp.ones((ROWS, LENGTH), bool)
    metric = float(distance(jnp.asarray(made), jnp.asarray(sounds), real, RATE, own.mel)[0])
    scaled = (jnp.asarray(each / gain) for each in (made, sounds))
    assert metric == pytest.approx(float(distance(*scaled, real, RATE, MEL)[0]), rel=1e-3)


@pytest.mark.parametrize("phase", [EXPECTED, SPECTRAL])
def test_what_lies_above_a_recording_of_a_lower_rate_is_not_learned(phase: int):
    frames = Frames(RATE, 128, 512, (440.0, 7_000.0), first=-4)
    ends = np.full(ROWS, RATE / 2, np.float32)
    ends[0] = 4_000.0
    batch = batch_of() | {"bandwidth": ends}
    batch["samples"][0] = band_limited(batch["samples"][0], RATE, 4_000.0)
    params, bins = parameters(), np.linspace(0, RATE / 2, 257)

    def decode_all(coder: Any, *rest: Any) -> jax.Array:
        return coder["made"]

    def powers(coder: Any, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
        return coder["noise"], coder["tones"]

    shape = (ROWS, 1, LENGTH // 128 + 4)
    coder = params["coder"] | {
        "made": 0.1 * jax.random.normal(jax.random.key(1), (ROWS, 1, LENGTH)),
        "noise": jnp.full((*shape, 257), 0.1), "tones": jnp.full((*shape, 2), 0.1),
    }  # fmt: skip
    own = replace(objective(), decode=decode_all, average=Average(frames, powers))
    gradients = jax.grad(lambda coder: own._coder_loss(coder, params, batch, jax.random.key(0), phase)[0])(coder)
    if phase == SPECTRAL:
        power = np.abs(np.fft.rfft(gradients["made"][:, 0]))
        above = np.arange(power.shape[1]) > 0.9 * 4_000 / RATE * LENGTH
        assert power[0, above].max() < 1e-5 * power[0, ~above].max()
        assert (power[1:, above].max(axis=1) > 1e-3 * power[1:, ~above].max(axis=1)).all()
        np.testing.assert_array_equal(own._known(coder["made"], batch)[1:], coder["made"][1:])
    else:
        noise, tones = gradients["noise"][..., bins > 0.9 * 4_000], gradients["tones"]
        assert [bool(row.any()) for row in noise] == [False] + [True] * (ROWS - 1)
        assert [bool(tones[0, ..., tone].any()) for tone in (0, 1)] == [True, False]


def test_the_level_of_a_code_has_no_noise_and_no_divergence():
    params, batch, seen = parameters(), batch_of(), []
    level = np.random.default_rng(3).uniform(0, 2, (ROWS, FRAMES, 1)).astype(np.float32)

    def encode_leveled(coder: Any, sounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_variance = encode(coder, sounds)
        return jnp.concatenate([mean, level], axis=-1), log_variance

    def decode_leveled(coder: Any, codes: jax.Array, *rest: Any) -> jax.Array:
        seen.append(np.asarray(codes))
        return decode(coder, codes[..., :2], *rest)

    plain = replace(objective(), probe_logits=None)
    leveled = replace(plain, encode=encode_leveled, decode=decode_leveled)
    key = jax.random.key(0)
    _, (metrics, _, mean) = leveled._coder_loss(params["coder"], params, batch, key, SPECTRAL)
    _, (expected, *_) = plain._coder_loss(params["coder"], params, batch, key, SPECTRAL)
    assert metrics == expected
    (codes,) = seen
    np.testing.assert_array_equal(codes[..., 2:], level)
    np.testing.assert_array_equal(mean[..., 2:], level)
    assert (codes[..., :2] != mean[..., :2]).all()


# Stereo.


@pytest.fixture(scope="module")
def stereo() -> np.ndarray:
    """Sounds [ROWS, 2, LENGTH] whose channels differ."""
    return 0.1 * np.random.default_rng(5).standard_normal((ROWS, 2, LENGTH), np.float32)


def test_a_channel_that_is_swapped_or_inverted_changes_the_loss(stereo: np.ndarray):
    own = objective()
    assert float(own.spectral(stereo, stereo)) <= 64 * EPS
    # The spectra of left and right are those of the original in each of these: the last two, one by one.
    for made in (stereo[:, ::-1], stereo * np.float32([[1], [-1]]), stereo * np.float32([[-1], [1]])):
        assert float(own.spectral(made, stereo)) > 1


def test_a_mono_sound_on_both_channels_is_compared_with_itself_as_0(stereo: np.ndarray):
    own = objective(replace(TRAINING, convergence_weight=0.0))  # which does not see the middle and the side
    both = np.repeat(stereo[:, :1], 2, axis=1)
    loss, gradients = jax.value_and_grad(lambda made: own.spectral(made, both))(jnp.asarray(both))
    assert float(loss) <= 64 * EPS  # decibels, of spectra computed twice
    assert np.isfinite(gradients).all()
    assert float(own.spectral(both, stereo)) > 1
    apart = float(own.spectral(both * np.float32(0.5), both))
    alone = float(own.spectral(both[:, :1] * np.float32(0.5), both[:, :1]))
    assert apart == pytest.approx(
        3 / 4 * alone, rel=0.03
    )  # of four views the side is silent; the middle has a higher floor


# Steps.


def test_average_powers_are_learned_first_and_pull_the_level_to_that_of_the_sounds():
    frames = Frames(RATE, 128, 512, (440.0,), first=-4)
    hiss = 0.1 * np.random.default_rng(5).standard_normal((ROWS, 1, LENGTH), np.float32)
    batch = batch_of() | {"samples": hiss}

    def powers(params: Any, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (ROWS, 1, LENGTH // 128 + 4)
        return jnp.full((*shape, 257), 1.0) * params["amplitude"] ** 2, jnp.zeros((*shape, 1))

    training = replace(TRAINING, expected_until=0.3, adversarial_from=0.6, convergence_weight=0.0)
    own = replace(objective(training), average=Average(frames, powers))
    assert [own.phase(step) for step in range(10)] == [EXPECTED] * 3 + [SPECTRAL] * 3 + [ADVERSARIAL] * 4
    assert objective(training).phase(0) == SPECTRAL  # a decoder that does not know its average

    def loss(amplitude: float) -> jax.Array:
        coder = parameters()["coder"] | {"amplitude": jnp.float32(amplitude)}
        _, (metrics, _, _) = own._coder_loss(coder, parameters(), batch, jax.random.key(0), EXPECTED)
        assert "distance" not in metrics
        return metrics["average"]

    assert float(loss(0.1)) < 5 < float(loss(0.04))  # noise fluctuates
    assert float(jax.grad(loss)(0.07)) < 0 < float(jax.grad(loss)(0.14))


@pytest.mark.parametrize("audio", [1, 2])
def test_average_powers_of_silence_have_finite_gradients(audio: int):
    frames = Frames(RATE, 128, 512, (440.0,), first=-4)
    channels = 4 if audio == 2 else 1
    sounds = jnp.zeros((ROWS, audio, LENGTH))

    def loss(level: jax.Array) -> jax.Array:
        shape = (ROWS, channels, LENGTH // 128 + 4)
        made = level**2 * jnp.ones((*shape, 257)), level * jnp.ones((*shape, 1))
        own = replace(objective(), average=Average(frames, lambda params, codes: made))
        return own._expected({}, jnp.zeros(0), {"samples": sounds})

    assert float(loss(jnp.float32(0.0))) < 0.01  # a thousandth of the convergence of sounds that differ
    for level in (0.0, 1e-6, 0.1):
        assert np.isfinite(jax.grad(loss)(jnp.float32(level)))
    assert float(loss(jnp.float32(0.1))) > 10


def test_phases_are_programs_of_their_own_and_discriminators_learn_in_the_last():
    own = objective()
    assert isinstance(own, Phased)
    assert [own.phase(step) for step in range(5)] == [SPECTRAL] * 3 + [ADVERSARIAL] * 2
    assert [own.other_aim(phase) for phase in (SPECTRAL, ADVERSARIAL)] == [False, True]
    assert objective(replace(TRAINING, adversarial_from=1.0)).phase(9) == SPECTRAL
    step, state, batch, healthy = compiled(own), own.init(parameters()), batch_of(), jnp.asarray(True)
    discriminators = jax.tree.map(np.asarray, state.params["discriminators"])
    names = []
    for index in range(5):
        state, metrics, healthy = step(state, batch, healthy, own.phase(index), Pace.of(TRAINING))
        names.append("accuracy" in metrics)
        same = np.array_equal(state.params["discriminators"]["kernel"], discriminators["kernel"])
        assert same == (index < 3)
    assert names == [False, False, False, True, True]
    assert int(state.step) == 5


def test_the_discriminators_rate_is_a_multiple_of_the_coders_at_the_same_step():
    # Adam's first step is the learning rate itself, whenever it is taken.
    training = replace(TRAINING, schedule="cosine", warmup=1, discriminator_rate=0.2, adversarial_from=0.5)
    own, step = objective(training), step_of(training, ADVERSARIAL)
    state = own.init(parameters())
    for index in (5, 8):
        at = replace(state, step=jnp.int32(index))
        stepped, _ = step(at, batch_of())
        moved = jnp.abs(stepped.params["discriminators"]["kernel"] - state.params["discriminators"]["kernel"]).max()
        rate = float(learning_rate(training)(index))
        assert float(moved) == pytest.approx(0.2 * rate, rel=1e-3)
        others = jnp.abs(stepped.params["coder"]["sound"] - state.params["coder"]["sound"]).max()
        assert float(others) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_discriminators_learn_to_rank_and_the_coder_to_please_them(loss: Any):
    own, params, batch = objective(replace(TRAINING, loss=loss)), parameters(), batch_of()
    key = jax.random.key(0)
    (_, (metrics, made, _)) = own._coder_loss(params["coder"], params, batch, key, ADVERSARIAL)
    before, input_gradients = jax.value_and_grad(
        lambda discriminators: own._discriminator_loss(discriminators, batch["samples"], made, key)[0]
    )(params["discriminators"])
    stepped = jax.tree.map(lambda leaf, slope: leaf - 0.3 * slope, params["discriminators"], input_gradients)
    assert own._discriminator_loss(stepped, batch["samples"], made, key)[0] < before
    real, fake = (discriminate(params["discriminators"], views(sounds), key)[0] for sounds in (batch["samples"], made))
    wanted = -fake.mean() if loss == "hinge" else jax.nn.softplus(real - fake).mean()
    np.testing.assert_allclose(metrics["adversary"], wanted, rtol=64 * EPS, atol=64 * EPS)
    activations = [
        np.asarray(discriminate(params["discriminators"], views(sounds), key)[1][0][0])
        for sounds in (batch["samples"], made)
    ]
    apart = np.abs(activations[0] - activations[1]).mean() / np.abs(activations[0]).mean()
    np.testing.assert_allclose(metrics["features"], apart, rtol=1e-4)


@pytest.mark.parametrize("phase", [SPECTRAL, ADVERSARIAL])
def test_a_step_without_a_finite_loss_changes_nothing(phase: int):
    state, batch = objective().init(parameters()), batch_of()
    batch["samples"][1, 0, 7] = np.nan
    kept, metrics = step_of(phase=phase)(state, batch)
    assert not metrics["healthy"]
    jax.tree.map(np.testing.assert_array_equal, kept, state)


def test_steps_lower_the_loss_and_the_average_follows():
    state, batch = objective().init(parameters()), batch_of()
    losses = []
    for _ in range(30):
        state, metrics = step_of()(state, batch)
        assert metrics["healthy"]
        losses.append(float(metrics["spectral"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert state.ema.keys() == {"coder"}
    again = objective().init(parameters())
    for _ in range(30):
        again, _ = step_of()(again, batch)
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_a_probe_of_no_weight_rests():
    training = replace(TRAINING, pitch_adversary=0.0)
    state = objective(training).init(parameters())
    stepped, metrics = step_of(training)(state, batch_of())
    assert metrics["healthy"]
    assert "pitch" not in metrics
    np.testing.assert_array_equal(stepped.params["probe"]["table"], state.params["probe"]["table"])
    assert not replace(objective(), probe_logits=None).probing


WRONG = [
    (dict(kl_weight=-1.0), "kl_weight is -1.0: it must be at least 0"),
    (dict(discriminator_rate=0.0), "discriminator_rate is 0.0: it must be above 0"),
    (dict(adversarial_from=1.5), "adversarial_from is 1.5: it must be at least 0 and at most 1"),
    (dict(loss="least squares"), "loss is 'least squares': choose one of 'hinge', 'relativistic'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TRAINING, **change)

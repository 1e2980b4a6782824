"""The spectral loss equals its parts, computed one by one from sounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.audio.rates import power_of_two
from wavesynth.audio.spectral import (
    RANGE_DB,
    RESOLUTIONS,
    log_mel,
    multi_resolution_distance,
    relative_mel,
    stft_magnitude,
)
from wavesynth.audio.stereo import mid_side
from wavesynth.training.spectral_loss import FAINT_DB, FINE_DB, IMAGE_DB, SpectralLoss, convergence

LEVEL_DB = -20.0
LOSS_DB = 1e-4  # logarithms of rounded magnitudes near the floor, averaged


def plain(made: jax.Array, sounds: jax.Array, rate: int, weight: float) -> jax.Array:
    """Middle and side are transformed like left and right, and every part transforms the sounds anew."""

    def apart(made: jax.Array, sounds: jax.Array, range_db: float, fine_db: float) -> jax.Array:
        mel = relative_mel(rate, LEVEL_DB, range_db)
        floor = 10 ** ((LEVEL_DB - fine_db) / 20)
        fine = multi_resolution_distance(made, sounds, rate, floor=floor).mean()
        return jnp.abs(log_mel(made, rate, mel) - log_mel(sounds, rate, mel)).mean() + fine

    own = apart(made, sounds, RANGE_DB, FINE_DB)
    if sounds.shape[1] == 2:
        own = (own + apart(mid_side(made), mid_side(sounds), IMAGE_DB, IMAGE_DB)) / 2
    loudest = []
    for seconds in RESOLUTIONS:
        window = power_of_two(seconds, rate, least=4)
        spectra = [stft_magnitude(each, window, window // 4) for each in (made, sounds)]
        loudest.append(convergence(*spectra, floor=10 ** ((LEVEL_DB - FAINT_DB) / 20)).mean())
    return own + weight * sum(loudest) / len(loudest)


@pytest.mark.parametrize(("rate", "channels", "length"), [(16_000, 1, 4_000), (44_100, 2, 44_032), (1_000, 2, 500)])
def test_shared_transforms_give_the_loss_and_the_gradient_of_separate_ones(rate: int, channels: int, length: int):
    random = np.random.default_rng(0)
    sounds = (0.1 * random.standard_normal((2, channels, length))).astype(np.float32)
    sounds[1, :, length // 2 :] = 0.0
    made = jnp.asarray(sounds + (0.02 * random.standard_normal(sounds.shape)).astype(np.float32))
    shared, separate = (
        jax.value_and_grad(loss)(made)
        for loss in (
            lambda made: SpectralLoss(rate, LEVEL_DB, 10.0)(made, sounds),
            lambda made: plain(made, jnp.asarray(sounds), rate, 10.0),
        )
    )
    assert float(separate[0]) > 1
    assert float(shared[0]) == pytest.approx(float(separate[0]), abs=LOSS_DB)
    largest = float(jnp.abs(separate[1]).max())
    np.testing.assert_allclose(shared[1], separate[1], atol=1e-3 * largest)


@pytest.mark.parametrize("silent", ["made", "sounds", "both"])
def test_silence_has_a_finite_loss_and_gradient(silent: str):
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 2, 4_000)).astype(np.float32)
    made, sounds = (noise * (silent not in (name, "both")) for name in ("made", "sounds"))
    loss, gradient = jax.value_and_grad(lambda made: SpectralLoss(16_000, LEVEL_DB, 10.0)(made, sounds))(
        jnp.asarray(made)
    )
    assert np.isfinite(gradient).all()
    assert (float(loss) == 0) == (silent == "both")


def test_convergence_is_1_of_silence_and_0_of_the_sound_itself():
    real = jnp.abs(jax.random.normal(jax.random.key(0), (3, 20, 65)))
    assert float(jnp.abs(convergence(real, real, 1e-3)).max()) == 0
    np.testing.assert_allclose(convergence(0 * real, real, 1e-3), 1, rtol=1e-5)
    assert float(convergence(real, 0 * real, 0.1).min()) > 1

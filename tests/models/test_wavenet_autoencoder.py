"""The encoder of a WaveNet autoencoder: what a code can see, and what it makes of silence."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.models.functional import initialize, pure
from wavesynth.models.wavenet_autoencoder import Encoder, WaveNetAutoencoderConfig

CONFIG = WaveNetAutoencoderConfig(
    hop_length=8, code_hop=16, code_channels=3, encoder_stride=4, encoder_channels=16, encoder_layers=3
)
REACH = CONFIG.encoder_reach
FRAMES = 5


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    def make(rngs) -> Encoder:
        return Encoder(CONFIG, rngs=rngs)

    return pure(make)(initialize(make, jax.random.key(0)))


def noise(*shape: int) -> jax.Array:
    return jnp.clip(0.2 * jax.random.normal(jax.random.key(1), shape), -1, 1)


def test_codes_are_bounded_and_differ(encoder: Encoder):
    codes = encoder(noise(2, REACH + FRAMES * CONFIG.code_hop + REACH))
    assert codes.shape == (2, FRAMES, 3)
    assert codes.dtype == jnp.float32
    assert float(jnp.abs(codes).max()) <= CONFIG.encoder_channels**0.5
    assert float(codes.std(axis=(0, 1)).min()) > 0.01


def test_quiet_sounds_are_heard_too(encoder: Encoder):
    """A sound at -54 dB of full scale, and at -60, differ from silence and from each other."""
    samples = noise(1, REACH + CONFIG.code_hop + REACH) / 0.2
    silence, quiet, louder = (encoder(samples * level)[0, 0] for level in (0.0, 0.001, 0.002))
    assert float(jnp.abs(quiet - silence).max()) > 0.01
    assert float(jnp.abs(louder - quiet).max()) > 0.01


def test_silence_has_a_code_and_a_gradient(encoder: Encoder):
    silent = jnp.zeros((1, REACH + 2 * CONFIG.code_hop + REACH))
    codes, gradient = encoder(silent), jax.grad(lambda samples: encoder(samples).sum())(silent)
    np.testing.assert_array_equal(codes[0, 0], codes[0, 1])
    assert np.isfinite(codes).all()
    assert np.isfinite(gradient).all()


def test_bfloat16_is_close_to_float32(encoder: Encoder):
    def make(rngs) -> Encoder:
        return Encoder(replace(CONFIG, dtype="bfloat16"), rngs=rngs)

    half = pure(make)(initialize(make, jax.random.key(0)))
    samples = noise(1, REACH + FRAMES * CONFIG.code_hop + REACH)
    np.testing.assert_allclose(half(samples), encoder(samples), atol=0.05)
    assert not np.array_equal(half(samples), encoder(samples))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(code_hop=20), "code_hop is 20: it must be a multiple of hop_length, 8"),
        (dict(code_hop=24, encoder_stride=5), "code_hop is 24: it must be a multiple of encoder_stride, 5"),
        (dict(code_channels=0), "code_channels is 0: it must be at least 1"),
        (dict(encoder_layers=0), "encoder_layers is 0: it must be at least 1"),
        (
            dict(encoder_layers=12, encoder_stride=2_048, code_hop=2_048),
            "encoder_layers is 12: the encoder would see",
        ),
        (dict(code_noise=-0.1), "code_noise is -0.1: it must be at least 0"),
        (dict(channels=0), "channels is 0: it must be at least 1"),
    ],
)
def test_an_impossible_shape_is_named(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **change)

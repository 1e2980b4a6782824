"""Every layer and model that streams keeps the contract of `verify_streaming`; and what breaks it is found."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.streaming import Streaming, verify_streaming
from wavesynth.models.autoencoder import CODE_DILATIONS, Autoencoder, AutoencoderConfig, Stack
from wavesynth.models.frames import overlapped, ramps
from wavesynth.models.functional import initialize, pure
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.models.wavenet_autoencoder import Encoder as WaveNetEncoder
from wavesynth.models.wavenet_autoencoder import WaveNetAutoencoderConfig

AUTOENCODER = AutoencoderConfig(
    code_channels=3, hop_seconds=0.0005, overlap=4, stride=2, gains=2, encoder_channels=8, encoder_dilations=(1, 2),
    channels=12, dilations=(1, 3), spectral_windows=(0.004,), pitches=128, long_seconds=0.008, sample_rate=16_000,
)  # fmt: skip
SHAPES = {
    "four windows overlap": AUTOENCODER,
    "two windows overlap, a frame per code": replace(AUTOENCODER, stride=1, overlap=2),
    "eight windows overlap": replace(AUTOENCODER, overlap=8, gains=1),
    "stereo": replace(AUTOENCODER, audio_channels=2),
    "tones": replace(AUTOENCODER, pitches=0, tones=(200.0, 555.0)),
    "no long window": replace(AUTOENCODER, long_seconds=0.0),
}
PITCH = jnp.array([69.0, jnp.nan])
KEYS = jax.random.split(jax.random.key(3), 2)


def drawn(make):
    """A module whose parameters are all drawn, so that none hides behind a zero."""
    params = jax.jit(lambda: initialize(make, jax.random.key(0)))()
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    leaves = [leaf + 0.05 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    return pure(make)(jax.tree.unflatten(tree, leaves))


def noise(*shape: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def test_stacks_of_causal_convolutions() -> None:
    stack = drawn(lambda rngs: Stack(4, (1, 2, 4), True, rngs=rngs))
    verify_streaming(
        Streaming(lambda x: stack(x, None)[0], lambda _: stack.init_cache(2, jnp.float32), stack, past=2 * (1 + 2 + 4)),
        noise(2, 20, 4),
    )


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_encoder(config: AutoencoderConfig) -> None:
    encoder = drawn(lambda rngs: Autoencoder(config, rngs=rngs)).encoder

    def step(samples, cache):
        mean, log_variance, cache = encoder.step(samples.transpose(0, 2, 1), cache)
        return jnp.concatenate([mean, log_variance], axis=-1), cache

    # A spectrum is relative to the level of all frames of its code.
    frames = -(-2 * sum(config.encoder_dilations) // config.stride) * config.stride
    streaming = Streaming(
        lambda sounds: jnp.concatenate(encoder(sounds.transpose(0, 2, 1)), axis=-1),
        lambda ahead: encoder.init_cache(ahead.transpose(0, 2, 1)), step, hop=config.code_hop,
        lookahead=config.lookahead, future=config.lookahead,
        past=max(frames * config.hop, config.lookback) + 2 * sum(CODE_DILATIONS) * config.code_hop - 1,  # Hann's 0
    )  # fmt: skip
    verify_streaming(streaming, noise(2, 18 * config.code_hop, config.audio_channels, scale=0.1))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_decoder(config: AutoencoderConfig) -> None:
    decoder = drawn(lambda rngs: Autoencoder(config, rngs=rngs)).decoder
    # Frames at the decoder's rate that a hop of sound sees before its own code: of the windows, and of the convolutions. All
    # windows of a code are scaled together.
    windows, frames = -(-(config.overlap - 1) // config.stride) * config.stride, 2 * sum(config.dilations)
    codes = 2 * sum(CODE_DILATIONS) + -(-(windows + frames) // config.stride)

    def step(codes, cache):
        sounds, cache = decoder.step(codes, PITCH, KEYS, cache)
        return sounds.transpose(0, 2, 1), cache

    streaming = Streaming(
        lambda codes: decoder(codes, PITCH, KEYS).transpose(0, 2, 1), lambda _: decoder.init_cache(2), step,
        out_hop=config.code_hop, held=config.held, past=codes,
    )  # fmt: skip
    assert streaming.latency == config.held
    given = noise(2, 20, config.code_width)
    given[..., -1] = 1 + 0.1 * given[..., -1]  # louder than silence
    verify_streaming(streaming, given)


@pytest.mark.parametrize("kernel_width", [2, 3])
@pytest.mark.parametrize("output", ["mixture", "softmax"])
def test_wavenet(output: str, kernel_width: int) -> None:
    """As a stream it keeps its receptive field's samples: how many targets it is given changes nothing."""
    config = WaveNetConfig(
        stacks=2, layers_per_stack=2, channels=8, skip_channels=12, head_channels=10, taps=4, vector_channels=0,
        kernel_width=kernel_width, output=output, quantization="mulaw" if output == "softmax" else "int16",
    )  # fmt: skip
    network, field = drawn(lambda rngs: WaveNet(config, rngs=rngs)), config.receptive_field

    def step(samples, before):
        window = jnp.concatenate([before, samples], axis=1)
        return network(window), window[:, -field:]

    streaming = Streaming(
        lambda samples: network(jnp.pad(samples, ((0, 0), (field, 0)))), lambda _: jnp.zeros((1, field)), step,
        past=field, future=-1, differentiable=False,
    )  # fmt: skip
    verify_streaming(streaming, np.clip(noise(1, field + 14, scale=0.2), -1, 1), [(7,), (16, 1, 17)])


def test_wavenet_autoencoders_encoder() -> None:
    config = WaveNetAutoencoderConfig(
        hop_length=8, code_hop=8, code_channels=3, encoder_stride=4, encoder_channels=16, encoder_layers=2
    )
    encoder, reach = drawn(lambda rngs: WaveNetEncoder(config, rngs=rngs)), config.encoder_reach

    def step(samples, around):
        window = jnp.concatenate([around, samples], axis=1)
        return encoder(window), window[:, -2 * reach :]

    streaming = Streaming(
        lambda samples: encoder(jnp.pad(samples, ((0, 0), (reach, reach)))),
        lambda ahead: jnp.pad(ahead, ((0, 0), (reach, 0))), step,
        hop=config.code_hop, lookahead=reach, past=reach, future=reach, differentiable=False,
    )  # fmt: skip
    verify_streaming(streaming, noise(1, 48, scale=0.2))


def test_overlapping_windows() -> None:
    start = jnp.zeros((2, 3, 4))
    streaming = Streaming(
        lambda windows: overlapped(windows, 4, start)[0], lambda _: start,
        lambda windows, before: overlapped(windows, 4, before), past=3,
    )  # fmt: skip
    verify_streaming(streaming, noise(2, 9, 16))


def test_ramps() -> None:
    streaming = Streaming(
        lambda points: ramps(points, jnp.zeros((2, 1)), 4), lambda _: jnp.zeros((2, 1)),
        lambda points, before: (ramps(points, before, 4), points[:, -1:]), out_hop=4, past=1,
    )  # fmt: skip
    verify_streaming(streaming, noise(2, 9))


def running_mean(width: int, **changes) -> Streaming:
    """The mean of the last inputs, as a stream."""

    def step(x, before):
        x = jnp.concatenate([before, x], axis=1)
        total = sum(x[:, k : x.shape[1] - width + 1 + k] for k in range(width))
        return total / width, x[:, 1 - width :]

    start = jnp.zeros((1, width - 1))
    given = dict(whole=lambda x: step(x, start)[0], init=lambda _: start, step=step, past=width - 1)
    return Streaming(**given | changes)


BROKEN = {
    "forgets between blocks": (
        dict(step=lambda x, before: running_mean(4).step(x, jnp.zeros_like(before))), "Mismatched elements",
    ),
    "sees further back than it says": (dict(past=2), "sees from input"),
    "sees less far back than it says": (dict(past=4), "sees from input"),
    "sees ahead": (dict(whole=lambda x: running_mean(4).whole(jnp.pad(x, ((0, 0), (0, 1)))[:, 1:])), "Mismatched"),
    "says that it sees ahead": (dict(lookahead=1, future=1, init=lambda _: jnp.zeros((1, 3))), "Mismatched|sees up to"),
    "has no gradient": (
        dict(
            whole=lambda x: jax.lax.stop_gradient(running_mean(4).whole(x)),
            step=lambda x, before: jax.lax.stop_gradient(running_mean(4).step(x, before)),
        ),
        "no gradient",
    ),
    "has another gradient": (
        dict(step=lambda x, before: running_mean(4).step(x, jax.lax.stop_gradient(before))), "Mismatched elements",
    ),
}  # fmt: skip


def test_the_contract_holds_for_a_running_mean() -> None:
    verify_streaming(running_mean(4), noise(1, 12))


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_contract_is_found(changes: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        verify_streaming(running_mean(4, **changes), noise(1, 12))

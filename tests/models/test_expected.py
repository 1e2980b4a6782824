"""The band powers that a decoder's frames have on average are those of the sounds that it makes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.audio.stereo import mid_side
from wavesynth.models.autoencoder import Autoencoder, AutoencoderConfig
from wavesynth.models.expected import Bands, Frames, bands
from wavesynth.models.functional import initialize, pure

RATE, HOP, WINDOW, LENGTH = 16_000, 128, 512, 16_384
CONFIG = AutoencoderConfig(
    code_channels=3, hop_seconds=0.008, overlap=4, stride=1, gains=1, encoder_channels=8, encoder_dilations=(1,), channels=12,
    dilations=(1,), sample_rate=RATE,
)  # fmt: skip
ROWS = 48  # sounds of other noise
INNER = slice(4, -4)  # windows that lie within the sound


def overlap_add(windows: np.ndarray, first: int) -> np.ndarray:
    """Windows [F, window], each times a Hann window that adds up to 1, from hop `first` on; the samples of the sound."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    made = np.zeros((len(windows) + 8) * HOP)
    for index, window in enumerate(windows * hann * 2 * HOP / WINDOW):
        made[index * HOP : index * HOP + WINDOW] += window
    return made[-first * HOP :][:LENGTH]


@pytest.mark.parametrize("place", [7.0, 12.3, 20.5])
@pytest.mark.parametrize("index", range(5))
def test_a_tone_whose_amplitude_changes(place: float, index: int):
    hertz = place * RATE / bands(Frames(RATE, HOP, WINDOW, ()))[index].window
    frames = Frames(RATE, HOP, WINDOW, (hertz, 3_000.0), first=-4)
    own: Bands = bands(frames)[index]
    count = LENGTH // HOP + 4
    amplitudes = 0.1 + 0.08 * np.sin(np.arange(count) / 40)
    time = (np.arange(count)[:, None] - 4) * HOP + np.arange(WINDOW)
    sound = overlap_add(amplitudes[:, None] * np.cos(2 * np.pi * hertz / RATE * time), -4)
    tones = np.stack([amplitudes, np.zeros(count)], axis=1)
    expected = np.asarray(
        own.expected(jnp.zeros((1, 1, count, WINDOW // 2 + 1)), jnp.asarray(tones)[None, None], LENGTH)
    )
    measured = np.asarray(own.measured(jnp.asarray(sound, jnp.float32)[None, None]))
    assert expected.shape == measured.shape
    expected, measured = expected[0, 0, INNER], measured[0, 0, INNER]
    loud = measured > 3e-3 * measured.max()
    np.testing.assert_allclose(10 * np.log10(expected[loud]), 10 * np.log10(measured[loud]), atol=0.3)


@pytest.mark.parametrize("index", range(5))
def test_noise_of_any_colour_on_average(index: int):
    own = bands(Frames(RATE, HOP, WINDOW, (), first=-4))[index]
    count, bins = LENGTH // HOP + 4, WINDOW // 2 + 1
    gain = 0.02 * np.exp(-np.arange(bins) / 100)
    random = np.random.default_rng(0)
    taper = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))
    powers = []
    for _ in range(12):
        noise = random.standard_normal((count + 3) * HOP)
        windows = np.stack([noise[i * HOP : i * HOP + WINDOW] for i in range(count)]) * taper
        filtered = np.fft.irfft(np.fft.rfft(windows) * gain, WINDOW)
        sound = np.zeros((count + 8) * HOP)
        for i, window in enumerate(filtered * taper * 2 * HOP / WINDOW):
            sound[i * HOP : i * HOP + WINDOW] += window
        powers.append(
            np.asarray(own.measured(jnp.asarray(sound[4 * HOP :][:LENGTH], jnp.float32)[None, None]))[0, 0, INNER]
        )
    measured = np.mean(powers, axis=(0, 1))
    noise = jnp.broadcast_to(jnp.asarray(np.square(gain), jnp.float32), (1, 1, count, bins))
    expected = np.asarray(own.expected(noise, jnp.zeros((1, 1, count, 0)), LENGTH))[0, 0, INNER].mean(axis=0)
    apart = 10 * np.log10(expected / measured)
    assert abs(np.median(apart)) < 0.3
    assert np.abs(apart).max() < 2.5


@pytest.mark.parametrize("audio", [1, 2])
def test_a_decoder_tells_the_average_of_its_sounds(audio: int):
    config = replace(CONFIG, audio_channels=audio, tones=(200.0, 900.0, 2_500.0))

    def make(rngs):
        return Autoencoder(config, rngs=rngs)

    params = initialize(make, jax.random.key(0))
    out, bias = params["decoder"]["out"], params["decoder"]["out_bias"]
    smooth = 0.3 * np.sin(np.arange(len(bias)) / 60)  # neighbouring bins that differ add up to less
    params["decoder"] |= {"out": jnp.zeros_like(out), "out_bias": bias + smooth.astype(np.float32)}
    decoder = pure(make)(params).decoder
    codes = np.random.default_rng(0).standard_normal((1, 1, config.code_width), np.float32)
    codes = codes.repeat(LENGTH // config.code_hop, axis=1)  # steady, because frames that differ add up to less
    codes[..., -1] = 1.4
    noise, tones = decoder.powers(jnp.asarray(codes))
    frames = Frames(RATE, config.hop, config.window, config.tones, first=-config.held * config.stride)
    keys = jax.random.split(jax.random.key(1), ROWS)
    made = decoder(jnp.asarray(codes.repeat(ROWS, axis=0)), jnp.full(ROWS, jnp.nan), keys)
    if audio == 2:
        made = jnp.concatenate([made, mid_side(made)], axis=1)
    for own in bands(frames):
        expected = np.asarray(own.expected(noise, tones, LENGTH))[0, :, INNER].mean(axis=1)
        measured = np.asarray(own.measured(made))[:, :, INNER].mean(axis=(0, 2))
        apart = 10 * np.log10(expected / measured)
        assert np.abs(np.median(apart, axis=1)).max() < 0.3
        assert np.abs(apart).max() < 2.0


def test_windows_and_bands_follow_the_rate():
    for rate in (8_000, 44_100, 96_000):
        hop = 2 ** round(np.log2(0.0075 * rate))
        for own, seconds in zip(
            bands(Frames(rate, hop, 4 * hop, ())), (0.186, 0.093, 0.046, 0.023, 0.0116), strict=True
        ):
            assert 0.7 < own.window / rate / seconds < 1.42
            assert own.window % own.hop == 0
            assert own.filters.any(axis=0).all()  # no band is empty

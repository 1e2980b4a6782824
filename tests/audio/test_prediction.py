import numpy as np
import pytest

from wavesynth.audio.prediction import QUIETEST, fit


def test_a_sine_needs_two_taps():
    signal = 0.5 * np.sin(0.3 * np.arange(4_000))
    prediction = fit(signal[None], order=2)
    np.testing.assert_allclose(prediction.coefficients, [-1, 2 * np.cos(0.3)], atol=1e-6)
    assert prediction.scale < 3 * QUIETEST


@pytest.mark.parametrize("order", [1, 8, 32])
def test_an_autoregressive_process_is_found_again(order):
    random = np.random.default_rng(0)
    true = np.zeros(order)
    true[-1] = 0.9
    noise = 0.01 * random.normal(size=100_000)
    signal = np.zeros_like(noise)
    for t in range(order, len(noise)):
        signal[t] = true @ signal[t - order : t] + noise[t]
    prediction = fit(signal.reshape(4, -1), order)
    np.testing.assert_allclose(prediction.coefficients, true, atol=0.02)
    assert prediction.scale == pytest.approx(0.01, rel=0.02)


def test_the_past_becomes_white(sounds):
    import soundfile

    signal, _ = soundfile.read(next(iter(sorted((sounds / "cello").glob("*.flac")))))
    prediction = fit(signal[None], 16)
    past = np.lib.stride_tricks.sliding_window_view(signal[:-1], 16)
    white = past @ prediction.whitening
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(16), atol=0.05)
    later = np.tril(prediction.whitening, -1)
    assert np.abs(later).max() < 1e-9 * np.abs(prediction.whitening).max(), (
        "a column must depend on older samples alone"
    )


def test_silence_is_no_division_by_zero():
    prediction = fit(np.zeros((2, 500)), 32)
    assert np.all(prediction.coefficients == 0)
    assert prediction.scale == pytest.approx(QUIETEST)
    assert np.all(np.isfinite(prediction.whitening))

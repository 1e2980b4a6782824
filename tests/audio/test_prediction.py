"""Linear prediction of signals whose coefficients are known."""

import numpy as np
import pytest

from tests.tolerances import rounding, sampling
from wavesynth.audio.prediction import NOISE_FLOOR, fit, fit_lagged
from wavesynth.errors import UserError


def test_a_sine_needs_two_taps():
    signal = 0.5 * np.sin(0.3 * np.arange(4_000))
    prediction = fit(signal[None], order=2)
    # The assumed noise biases them by its share of the power, divided by the smallest eigenvalue of the covariance.
    bias = NOISE_FLOOR**2 / (0.125 * (1 - np.cos(0.3)))
    np.testing.assert_allclose(prediction.coefficients, [-1, 2 * np.cos(0.3)], atol=4 * bias)
    assert prediction.scale < 3 * NOISE_FLOOR


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
    np.testing.assert_allclose(prediction.coefficients, true, atol=sampling(1, 100_000))
    assert prediction.scale == pytest.approx(0.01, rel=sampling(np.sqrt(0.5), 100_000))


def test_the_past_becomes_white(sounds):
    import soundfile

    signal, _ = soundfile.read(next(iter(sorted((sounds / "cello").glob("*.flac")))))
    prediction = fit(signal[None], 16)
    past = np.lib.stride_tricks.sliding_window_view(signal[:-1], 16)
    white = past @ prediction.whitening
    # The assumed noise counts where the signal has none, so that whitened directions may have less than variance 1.
    variances = np.linalg.eigvalsh(white.T @ white / len(white))
    assert variances[-1] == pytest.approx(1, abs=0.01)
    assert variances[0] > 0.9
    later = np.tril(prediction.whitening, -1)
    assert np.abs(later).max() < rounding("float64", terms=16, scale=prediction.whitening), (
        "a column must depend only on older samples"
    )


def test_silence_does_not_divide_by_zero():
    prediction = fit(np.zeros((2, 500)), 32)
    assert np.all(prediction.coefficients == 0)
    assert prediction.scale == pytest.approx(NOISE_FLOOR)
    assert np.all(np.isfinite(prediction.whitening))


def test_too_few_samples_and_nan_are_named():
    with pytest.raises(UserError, match=r"^windows: 32 samples are too few to predict from 32"):
        fit(np.zeros((2, 32)), 32)
    for rows in ([], [np.zeros((0, 3))], [np.full((1, 3), np.nan)]):
        with pytest.raises(UserError, match=r"^lagged: "):
            fit_lagged(rows)

"""Baselines for a loss in bits per sample: simple models, scored on the same held-out sounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio import mulaw
from wavesynth.audio.prediction import fit
from wavesynth.data.batches import Batches, mono
from wavesynth.models.likelihoods import LogisticMixture, Quantization, pcm_steps

ORDER = 32
RECENT = 256  # prediction errors from which the current error scale is estimated
USUAL_WEIGHT = 0.01  # probability that an error has the scale of the training data and not the recent one
TRAINING_BATCHES = 8


def baselines(training: Batches, held_out: Batches, quantization: Quantization) -> dict[str, float]:
    """Bits per sample of three baselines on held-out sounds.

    - "uniform": the cross-entropy of a uniform guess.
    - "unigram": the frequency of each bin in the training data.
    - "linear prediction": of order 32, with logistic errors. Their scale is that of the last 256 errors or, with a
      probability of 1 %, that of the training data. The past has 16 bits, whatever the bins.

    Args:
        training: batches to fit the baselines to, of which 8 are used.
        held_out: batches to score.
        quantization: the bins, "int16" or "mulaw".

    Returns:
        Bits per sample by name.
    """
    examples = np.concatenate([mono(training.batch(step)["samples"]) for step in range(TRAINING_BATCHES)])
    scored = list(held_out.held_out())
    windows = np.concatenate([mono(batch["samples"]) for batch in scored])
    real = np.concatenate([batch["real"] for batch in scored])
    levels = mulaw.CODES if quantization == "mulaw" else 65_536

    counts = np.bincount(_bins(examples, quantization).ravel(), minlength=levels) + 1.0
    unigram = -np.log2(counts / counts.sum())[_bins(windows, quantization)][:, -real.shape[1] :]
    return {
        "uniform": math.log2(levels),
        "unigram": float(unigram[real].mean()),
        "linear prediction": float(_linear_prediction(examples, windows, real.shape[1], quantization)[real].mean()),
    }


def _bins(samples: np.ndarray, quantization: Quantization) -> np.ndarray:
    if quantization == "mulaw":
        return np.asarray(mulaw.encode(jnp.asarray(samples)))
    return np.asarray(pcm_steps(jnp.asarray(samples))).astype(np.int64) + 32_768


def _linear_prediction(examples: np.ndarray, windows: np.ndarray, crop: int, quantization: Quantization) -> np.ndarray:
    """Bits [N, crop] of the last samples of each window."""
    predictor = fit(examples, ORDER)
    padded = np.pad(windows, ((0, 0), (ORDER + RECENT, 0)))
    lagged = np.lib.stride_tricks.sliding_window_view(padded[:, :-1], ORDER, axis=1)
    predicted = lagged @ predictor.coefficients
    errors = np.abs(padded[:, ORDER:] - predicted)
    summed = np.cumsum(errors, axis=1)
    recent = (summed[:, RECENT:-1] - summed[:, : -RECENT - 1]) / RECENT  # mean error before the sample to predict
    recent = np.concatenate([errors[:, :RECENT].mean(axis=1, keepdims=True), recent], axis=1)[:, -crop:]
    adaptive = np.maximum(
        recent / (2 * math.log(2)), 0.3 / 32_768
    )  # a logistic has a mean absolute error of 2 ln 2 scales
    zeros, location = np.zeros_like(adaptive), predicted[:, -crop:]
    usual = np.full_like(
        adaptive, math.log(max(predictor.scale, 1e-3))
    )  # for onsets, which recent errors do not predict
    outputs = np.stack(
        [zeros, np.full_like(zeros, math.log(USUAL_WEIGHT)), location, location, np.log(adaptive), usual], axis=-1
    )
    score = jax.jit(LogisticMixture(2, quantization).log_prob)
    log_prob = score(jnp.asarray(outputs, jnp.float32), jnp.asarray(windows[:, -crop:]))
    return -np.asarray(log_prob) / math.log(2)

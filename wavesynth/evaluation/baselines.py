"""What a loss in bits per sample means: the same held-out sounds, scored by models anyone can compute."""

import math

import jax.numpy as jnp
import numpy as np

from wavesynth.audio import mulaw
from wavesynth.audio.prediction import fit
from wavesynth.data.batches import Batches, mono
from wavesynth.models.likelihoods import LogisticMixture, Quantization, pcm_steps

ORDER = 32
RECENT = 256  # errors from which the linear prediction's own uncertainty is judged
SURPRISE = 0.01  # odds that an error is of the usual size and not of the recent one
TRAINING_BATCHES = 8


def baselines(training: Batches, held_out: Batches, quantization: Quantization) -> dict[str, float]:
    """Bits per sample of three baselines on `held_out`, each fitted to some batches of `training`.

    uniform: knows nothing. unigram: knows how often each bin occurs. linear prediction: of order 32, with logistic
    errors whose scale follows the last 256 of them, or seldom is the training data's. It is given the past as it is,
    16 bits of it, whatever the bins.
    """
    examples = np.concatenate([mono(training.batch(step)["samples"]) for step in range(TRAINING_BATCHES)])
    held = list(held_out.held_out())
    windows = np.concatenate([mono(batch["samples"]) for batch in held])
    real = np.concatenate([batch["real"] for batch in held])
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
    recent = (summed[:, RECENT:-1] - summed[:, : -RECENT - 1]) / RECENT  # of the errors before the sample to predict
    recent = np.concatenate([errors[:, :RECENT].mean(axis=1, keepdims=True), recent], axis=1)[:, -crop:]
    adaptive = np.maximum(recent / (2 * math.log(2)), 0.3 / 32_768)  # a logistic errs by 2 ln 2 scales on the average
    zeros, location = np.zeros_like(adaptive), predicted[:, -crop:]
    surprise = np.full_like(adaptive, math.log(max(predictor.scale, 1e-3)))  # a sound that begins is no slow change
    outputs = np.stack(
        [zeros, np.full_like(zeros, math.log(SURPRISE)), location, location, np.log(adaptive), surprise], axis=-1
    )
    nats = LogisticMixture(2, quantization).log_prob(jnp.asarray(outputs, jnp.float32), jnp.asarray(windows[:, -crop:]))
    return -np.asarray(nats) / math.log(2)

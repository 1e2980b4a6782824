"""WaveNet: a network of causal convolutions, maximum likelihood, and the op that decodes it sample by sample."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.prediction import fit_lagged
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.evaluation.baselines import baselines
from wavesynth.evaluation.descriptors import onset_time
from wavesynth.families.base import ONE_SHOT_SECONDS, PITCHES, Family, Request
from wavesynth.kernels.wavenet_decode import DecodeSpec
from wavesynth.models.functional import initialize, pure
from wavesynth.models.layers import one_hot
from wavesynth.models.likelihoods import LogisticMixture, MulawSoftmax, quantize
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.sampling.autoregressive import ConditioningSchedule, stream
from wavesynth.sampling.devices import packed_weights
from wavesynth.timbre.refine import refine
from wavesynth.training.likelihood import Likelihood
from wavesynth.training.objective import Batch
from wavesynth.training.state import Params

LOWEST_HZ = 27.5  # of the pitches whose period is looked back at: the lowest key of a piano
CLOCK = 17  # channels that tell how long a sound has been going on
CLOCK_SECONDS = 0.01 * (2 ** ((CLOCK - 1) / 2) - 1)  # what it counts to: 2.55
NOISE = 0.02  # 34 dB below the sounds: without it, what is sampled swells to full scale now and then
SCORED_AT_ONCE = 16_384  # samples; bounds the memory of scoring
EXCERPT = 8_192  # samples of a sound, from its onset on, by which its timbre is looked for
STARTS, SEARCH_STEPS, SEARCH_RATE = 4, 60, 0.05


class WaveNetFamily(Family):
    name = "wavenet"
    model_config = WaveNetConfig
    autoregressive = True
    presets: ClassVar = {
        "wavenet-tiny": Config(
            "wavenet",
            WaveNetConfig(channels=32, skip_channels=64, head_channels=64),
            TrainingConfig(steps=500, batch_size=4, crop=2_048, learning_rate=5e-3, noise=NOISE),
        ),
        "wavenet-small": Config(
            "wavenet", WaveNetConfig(), TrainingConfig(steps=4_000, batch_size=4, crop=4_096, noise=NOISE)
        ),
        "wavenet": Config(
            "wavenet",
            WaveNetConfig(stacks=3, layers_per_stack=10, channels=128, skip_channels=256, head_channels=256, dtype="bfloat16"),
            TrainingConfig(steps=100_000, batch_size=16, crop=16_384, learning_rate=1e-3, warmup=500, ema=0.9998, noise=NOISE),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: WaveNetConfig, dataset: DatasetInfo) -> WaveNetConfig:
        return replace(
            model,
            labels=len(dataset.labels),
            vector_channels=model.vector_channels if dataset.labels else 0,
            frame_channels=PITCHES * dataset.pitched + CLOCK * (dataset.clip_seconds <= ONE_SHOT_SECONDS),
            longest_period=round(dataset.sample_rate / LOWEST_HZ) if dataset.pitched else 0,
        )

    @property
    def context(self) -> int:
        return self.model.receptive_field

    @property
    def align(self) -> int:
        return self.model.hop_length if self.clocked else 1

    @property
    def clocked(self) -> bool:
        """Whether the network is told how long a sound has been going on: what a note does depends on it."""
        return self.model.frame_channels % PITCHES == CLOCK

    def init(self, key: jax.Array, windows: Batch) -> Params:
        params = initialize(self._make, key)
        if self.model.output == "mixture":
            predictor = fit_lagged(self._lagged(windows))
            white_coefficients = np.linalg.solve(predictor.whitening, predictor.coefficients)
            params["fixed_linear"] = jnp.asarray(white_coefficients, jnp.float32)
            params["fixed_whitening"] = jnp.asarray(predictor.whitening, jnp.float32)
            params["fixed_log_scale"] = jnp.asarray(np.log(predictor.scale), jnp.float32)
            spread = jnp.linspace(-2.0, 0.0, self.model.mixtures)  # components of several widths, to tell them apart
            scales = slice(2 * self.model.mixtures, 3 * self.model.mixtures)
            params["out_bias"] = params["out_bias"].at[scales].set(spread)
            adaptive_coefficients = slice(3 * self.model.mixtures, None)  # begin as the least squares solution
            params["out"] = params["out"].at[:, adaptive_coefficients].set(0.0)
        return params

    def _lagged(self, windows: Batch) -> Iterator[np.ndarray]:
        """Each window's samples with what the first layer looks at before them, oldest first: [T - history, inputs + 1]."""
        model = self.model
        heard = np.asarray(quantize(jnp.asarray(windows["samples"]), model.likelihood.quantization))
        periods = np.asarray(self._periods(jnp.asarray(windows["pitch"])))
        for samples, period in zip(heard, periods, strict=True):
            rows = np.lib.stride_tricks.sliding_window_view(samples, model.history + 1)
            place = (model.history - period - model.taps_ago // 2) * (period > 0)
            ago = rows[:, place : place + model.taps_ago] * (period > 0)
            yield np.concatenate([ago, rows[:, -model.taps - 1 :]], axis=1)

    def shapes(self) -> Params:
        return jax.eval_shape(lambda: initialize(self._make, jax.random.key(0)))

    def objective(self, training: TrainingConfig) -> Likelihood:
        return Likelihood(partial(self._batch_log_prob, self.model.likelihood), training)

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        return baselines(training, held_out, self.model.likelihood.quantization)

    def stream(self, params: Params, request: Request) -> Iterator[np.ndarray]:
        model = self.model
        self.check_pitch(request)
        self.check_truncation(request, "set temperature below 1")
        vector = frames = None
        if model.labels:
            vector = _rows(params["label_table"], jnp.full(request.n, request.label))
            vector = vector if request.latent is None else jnp.asarray(request.latent)
        if model.frame_channels:
            frames = self._frames(*pitch_and_start(request), self._frames_until_held)
        if vector is not None and vector.ndim == 3:
            vector, frames = self._moving(vector, frames)
        return self._decode(params, request, vector, frames)

    def _moving(self, vector: jax.Array, frames: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        """A vector that moves [B, F, D], and local conditions, as long as the longer of them; what they end with is held."""
        vector = jnp.pad(vector, ((0, 0), (self._frames_before, 0), (0, 0)), mode="edge")
        if frames is None or frames.shape[1] == 1:
            return vector, frames
        longest = max(vector.shape[1], frames.shape[1])
        vector, frames = (
            jnp.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0)), mode="edge") for part in (vector, frames)
        )
        return vector, frames

    def _decode(
        self, params: Params, request: Request, vector: jax.Array | None, frames: jax.Array | None
    ) -> Iterator[np.ndarray]:
        """Samples for ever by the decoder of these parameters, under conditions as its network takes them."""
        model, spec = self.model, DecodeSpec.of(self.model)
        schedule = ConditioningSchedule.of(params, vector, frames, spec, self._frames_before, model.hop_length)
        return stream(
            packed_weights(params, spec, request.dtype or model.dtype, request.implementation), request.n, request.seed,
            shared_noise=request.shared_noise, strategy=request.strategy, schedule=schedule,
            periods=self._periods(pitch_and_start(request)[0]) if model.taps_ago else None,
            prime=None if request.prime is None else request.prime[-self.context :],
        )  # fmt: skip

    def log_prob(self, params: Params, samples: np.ndarray, request: Request, quantization: str | None) -> np.ndarray:
        likelihood = self._likelihood(quantization)
        self.check_pitch(request)
        nats = [self._score(likelihood, params, batch)[0] for batch in self._pieces(params, samples, request)]
        return np.concatenate(nats)[: len(samples)]

    def _pieces(self, params: Params, samples: np.ndarray, request: Request) -> Iterator[Batch]:
        """A whole sound [T] as batches of one window, one after the other, silence before the first and behind the last."""
        step = SCORED_AT_ONCE - SCORED_AT_ONCE % self.align
        padded = np.pad(np.asarray(samples, np.float32), (self.context, -len(samples) % step))
        for start in range(0, len(samples), step):
            yield {
                "samples": padded[None, start : start + self.context + step],
                "label": np.array([request.label], np.int32),
                "pitch": np.array([np.nan if request.pitch is None else request.pitch], np.float32),
                "start": np.array([start], np.int32),
            }

    def latent(self, params: Params, label: int) -> np.ndarray:
        if not self.model.labels:
            self.unsupported("turn a label into a timbre", "it was trained without labels")
        return np.asarray(params["label_table"][label])

    @property
    def glide_rate(self) -> float | None:
        return self.dataset.sample_rate / self.model.hop_length if self.model.labels else None

    def encode(self, params: Params, samples: np.ndarray, request: Request, progress: bool) -> np.ndarray:
        """The embedding under which the sound is likeliest, searched by gradients from those of the likeliest labels."""
        if not self.model.labels:
            self.unsupported("turn a sound into a timbre", "it was trained without labels, and has no timbres")
        self.check_pitch(request)
        table = np.asarray(params["label_table"])
        onset = int(float(onset_time(samples, self.dataset.sample_rate)) * self.dataset.sample_rate)
        start = onset - onset % self.align
        heard = np.pad(samples, (self.context, EXCERPT))[start : start + self.context + EXCERPT]
        batch = {
            "samples": heard[None], "start": np.array([start], np.int32), "label": np.array([-1], np.int32),
            "pitch": np.array([np.nan if request.pitch is None else request.pitch], np.float32),
        }  # fmt: skip
        starts = table[[request.label]] if request.label >= 0 else table
        bits = [float(self._unlikeliness(jnp.asarray(row[None]), params, batch)[0]) for row in starts]
        best = starts[np.argsort(bits)[:STARTS]]
        found, _ = refine(
            self._unlikeliness, best, given=(params, batch), steps=SEARCH_STEPS, learning_rate=SEARCH_RATE,
            progress=progress, what="encoding",
        )  # fmt: skip
        return found

    @cached_property
    def _unlikeliness(self):
        """Embeddings [S, D] to bits per sample [S] of a batch of one sound."""

        def unlikeliness(vectors: jax.Array, params: Params, batch: Batch) -> jax.Array:
            each = {name: jnp.repeat(leaf, len(vectors), axis=0) for name, leaf in batch.items()}
            nats = self._batch_log_prob(self.model.likelihood, params, each | {"vector": vectors})
            return -nats.mean(axis=1) / math.log(2)

        return jax.jit(unlikeliness)

    def _make(self, rngs) -> WaveNet:
        return WaveNet(self.model, rngs=rngs)

    @cached_property
    def _bind(self):
        return pure(self._make)

    @cached_property
    def _score(self):
        return jax.jit(self._batch_log_prob, static_argnums=0)

    def _batch_log_prob(self, likelihood: LogisticMixture | MulawSoftmax, params: Params, batch: Batch) -> jax.Array:
        vector = frames = None
        if self.model.labels:
            vector = batch["vector"] if "vector" in batch else _rows(params["label_table"], batch["label"])
        if self.model.frame_channels:
            targets = batch["samples"].shape[1] - self.context
            frames = self._frames(batch["pitch"], batch["start"], -(-targets // self.model.hop_length))
        periods = self._periods(batch["pitch"]) if self.model.taps_ago else None
        outputs = self._bind(params)(batch["samples"], vector, frames, periods)
        return likelihood.log_prob(outputs, batch["samples"][:, self.context :])

    def _periods(self, pitch: jax.Array) -> jax.Array:
        """How many samples one period of these pitches [B] lasts, int32 [B]; 0 for NaN and where none can be looked back at."""
        period = jnp.round(self.dataset.sample_rate / (440.0 * 2.0 ** ((pitch - 69) / 12)))
        seen = (period > self.model.taps_ago // 2) & (period <= self.model.longest_period)
        return jnp.where(seen, period, 0).astype(jnp.int32)

    def _frames(self, pitch: jax.Array, start: jax.Array, num_frames: int) -> jax.Array:
        """Local conditioning [B, F, frame_channels] of windows of `num_frames` frames that begin at sample `start` [B].

        F counts the frames of the left context too; it is 1 where nothing changes in time.
        """
        model = self.model
        parts = []
        before = self._frames_before
        length = before + num_frames if self.clocked else 1
        if self.dataset.pitched:
            parts.append(jnp.repeat(one_hot(pitch, PITCHES)[:, None], length, axis=1))
        if self.clocked:
            place = start[:, None] + (jnp.arange(length) - before)[None] * model.hop_length
            parts.append(clock(place / self.dataset.sample_rate))
        return jnp.concatenate(parts, axis=-1)

    @property
    def _frames_before(self) -> int:
        """How many frames of local conditioning the left context takes; 0 where nothing changes in time."""
        return self.model.context_frames if self.clocked else 0

    @property
    def _frames_until_held(self) -> int:
        """After how many frames the clock of a sound stands still."""
        return -(-int(CLOCK_SECONDS * self.dataset.sample_rate) // self.model.hop_length) + 1

    def _likelihood(self, quantization: str | None) -> LogisticMixture | MulawSoftmax:
        own = self.model.likelihood
        if quantization in (None, own.quantization):
            return own
        if isinstance(own, MulawSoftmax) or quantization not in ("int16", "mulaw"):
            self.unsupported(f"score in bins of {quantization!r}", f"its own are {own.quantization!r}")
        return replace(own, quantization=quantization)


def _rows(table: jax.Array, labels: jax.Array) -> jax.Array:
    """Rows of a table of label embeddings; the mean of all for the label -1, "any"."""
    return jnp.where(labels[:, None] < 0, table.mean(axis=0, keepdims=True), table[labels])


def pitch_and_start(request: Request) -> tuple[jax.Array, jax.Array]:
    """The pitch of each sound, NaN for none, and how many samples of it there are already, both [n]."""
    pitch = jnp.full(request.n, jnp.nan if request.pitch is None else request.pitch)
    return pitch, jnp.full(request.n, 0 if request.prime is None else len(request.prime))


def clock(seconds: jax.Array) -> jax.Array:
    """Time since a sound began [...] to channels [..., CLOCK], on a scale that doubles: two for each octave over 10 ms.

    Before the beginning it stands at 0, after CLOCK_SECONDS at its end.
    """
    octaves = jnp.log2(1 + jnp.maximum(seconds, 0.0) / 0.01)
    return one_hot(jnp.minimum(2 * octaves, CLOCK - 1), CLOCK)

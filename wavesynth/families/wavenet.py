"""WaveNet (van den Oord et al., 2016): causal convolutions trained by maximum likelihood, decoded sample by sample."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.prediction import fit_lagged
from wavesynth.audio.rates import multiple, power_of_two
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import Batches, mono
from wavesynth.evaluation.baselines import baselines
from wavesynth.evaluation.descriptors import onset_time
from wavesynth.families.base import Family
from wavesynth.families.protocols import Request
from wavesynth.kernels.wavenet_decode import DecodeSpec
from wavesynth.models.functional import initialize, pure, shapes
from wavesynth.models.layers import PITCH_FEATURES, one_hot, pitch_features
from wavesynth.models.likelihoods import LogisticMixture, MulawSoftmax, quantize
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.sampling.autoregressive import ConditioningSchedule, stream
from wavesynth.sampling.devices import packed_weights
from wavesynth.timbre.interpolation import straight
from wavesynth.timbre.refine import refine
from wavesynth.training.likelihood import Likelihood
from wavesynth.training.objective import Batch
from wavesynth.training.state import Params

LOWEST_HZ = 27.5  # the lowest pitch for which the network looks back one period: the lowest key of a piano
CLOCK = 17  # channels that encode the time since a sound began
CLOCK_SECONDS = 0.01 * (2 ** ((CLOCK - 1) / 2) - 1)  # where the clock stops: 2.55
NOISE = 0.02  # 34 dB below the sounds; without it, generated sounds occasionally grow to full scale
SCORED_AT_ONCE = 16_384  # samples; bounds the memory of scoring
EXCERPT_SECONDS = 0.5  # from the onset of a sound, for a search for its timbre
STARTS, SEARCH_STEPS, SEARCH_RATE = 4, 60, 0.05


Shape = TypeVar("Shape", bound=WaveNetConfig)


class WaveNetFamily(Family):
    """A WaveNet. A timbre is a label's embedding; without labels there are none."""

    name = "wavenet"
    model_config = WaveNetConfig
    autoregressive: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = False
    frame_rate = None
    presets: ClassVar = {
        "wavenet-tiny": Config(
            "wavenet",
            WaveNetConfig(channels=32, skip_channels=64, head_channels=64),
            TrainingConfig(steps=500, batch_size=4, crop_seconds=0.128, learning_rate=5e-3, noise=NOISE),
        ),
        "wavenet-small": Config(
            "wavenet", WaveNetConfig(), TrainingConfig(steps=4_000, batch_size=4, crop_seconds=0.256, noise=NOISE)
        ),
        "wavenet": Config(
            "wavenet",
            WaveNetConfig(
                stacks=3, longest_dilation=0.03, channels=128, skip_channels=256, head_channels=256, dtype="bfloat16"
            ),
            TrainingConfig(
                steps=100_000, batch_size=16, crop_seconds=1.0, learning_rate=1e-3, warmup=500, ema=0.9998, noise=NOISE
            ),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: Shape, dataset: DatasetInfo) -> Shape:
        rate = dataset.sample_rate
        return replace(
            model,
            layers_per_stack=model.layers_per_stack or power_of_two(model.longest_dilation, rate).bit_length(),
            hop_length=model.hop_length or power_of_two(model.hop_seconds, rate),
            labels=len(dataset.labels) if model.vector_channels else 0,
            vector_channels=model.vector_channels if dataset.labels else 0,
            frame_channels=PITCH_FEATURES * dataset.pitched + CLOCK * dataset.one_shots,
            longest_period=round(rate / LOWEST_HZ) if dataset.pitched else 0,
        )

    @property
    def context(self) -> int:
        return self.model.receptive_field

    @property
    def label_conditioned(self) -> bool:
        return bool(self.model.labels)

    @property
    def align(self) -> int:
        return self.model.hop_length if self.clocked else 1

    @property
    def clocked(self) -> bool:
        """Whether the network is conditioned on the time since the beginning of a sound, as suits notes."""
        return self.model.frame_channels == PITCH_FEATURES * self.dataset.pitched + CLOCK

    def init(self, key: jax.Array, windows: Batch) -> Params:
        params = initialize(self._make, key)
        if self.model.output == "mixture":
            predictor = fit_lagged(self._lagged(windows))
            white_coefficients = np.linalg.solve(predictor.whitening, predictor.coefficients)
            params["fixed_linear"] = jnp.asarray(white_coefficients, jnp.float32)
            params["fixed_whitening"] = jnp.asarray(predictor.whitening, jnp.float32)
            params["fixed_log_scale"] = jnp.asarray(np.log(predictor.scale), jnp.float32)
            spread = jnp.linspace(-2.0, 0.0, self.model.mixtures)  # components start with different widths
            scales = slice(2 * self.model.mixtures, 3 * self.model.mixtures)
            params["out_bias"] = params["out_bias"].at[scales].set(spread)
            adaptive_coefficients = slice(3 * self.model.mixtures, None)  # start as the least-squares solution
            params["out"] = params["out"].at[:, adaptive_coefficients].set(0.0)
        return params

    def _lagged(self, windows: Batch) -> Iterator[np.ndarray]:
        """For each window, every sample after the past that the first layer sees, oldest first: [T - history, inputs + 1]."""
        model = self.model
        quantized = np.asarray(quantize(jnp.asarray(mono(windows["samples"])), model.likelihood.quantization))
        periods = np.asarray(self._periods(jnp.asarray(windows["conditions"].constant_pitch)))
        for samples, period in zip(quantized, periods, strict=True):
            rows = np.lib.stride_tricks.sliding_window_view(samples, model.history + 1)
            place = (model.history - period - model.taps_ago // 2) * (period > 0)
            ago = rows[:, place : place + model.taps_ago] * (period > 0)
            yield np.concatenate([ago, rows[:, -model.taps - 1 :]], axis=1)

    def shapes(self) -> Params:
        return shapes(self._make)

    def label_parts(self) -> dict[str, tuple[int, int]]:
        return {"label_table": (0, 0)} if self.model.labels else {}

    def objective(self, training: TrainingConfig) -> Likelihood:
        return Likelihood(partial(self._batch_log_prob, self.model.likelihood), training)

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        return baselines(training, held_out, self.model.likelihood.quantization)

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        model = self.model
        self.check_pitch(conditions)
        self.check_truncation(request, "set temperature below 1")
        vector = frames = None
        if model.labels:
            vector = _embeddings(params["label_table"], jnp.asarray(conditions.labels))
            vector = vector if request.latents is None else jnp.asarray(request.latents)
        if model.frame_channels:
            frames = self._frames(*pitch_and_start(conditions, request), self._frames_until_held)
        if vector is not None and vector.ndim == 3:
            vector, frames = self._moving(vector, frames)
        return self._decode(params, conditions, request, vector, frames)

    def _moving(self, vector: jax.Array, frames: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        """A moving vector [B, F, D] and local conditioning of equal length: the shorter one's last frame is held."""
        vector = jnp.pad(vector, ((0, 0), (self._frames_before, 0), (0, 0)), mode="edge")
        if frames is None or frames.shape[1] == 1:
            return vector, frames
        longest = max(vector.shape[1], frames.shape[1])
        vector, frames = (
            jnp.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0)), mode="edge") for part in (vector, frames)
        )
        return vector, frames

    def _decode(
        self, params: Params, conditions: Conditions, request: Request, vector: jax.Array | None, frames: jax.Array | None
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """Generates endless blocks from global and local conditioning in the network's form."""
        model, spec = self.model, DecodeSpec.of(self.model)
        schedule = ConditioningSchedule.of(params, vector, frames, spec, self._frames_before, model.hop_length)
        blocks = stream(
            packed_weights(params, spec, request.dtype or model.dtype, request.implementation), conditions.batch,
            request.seed, shared_noise=request.shared_noise, strategy=request.strategy, schedule=schedule,
            periods=self._periods(jnp.asarray(conditions.constant_pitch)) if model.taps_ago else None,
            prime=None if request.prime is None else mono(request.prime)[-self.context :],
        )  # fmt: skip
        return (block[:, None] for block in blocks)

    def log_prob(
        self, params: Params, samples: np.ndarray, conditions: Conditions, quantization: str | None
    ) -> np.ndarray:
        likelihood = self._likelihood(quantization)
        self.check_pitch(conditions)
        pieces = self._pieces(params, samples, conditions)
        log_probs = [self._score(likelihood, params, batch)[0] for batch in pieces]
        return np.concatenate(log_probs)[: samples.shape[-1]]

    def _pieces(self, params: Params, samples: np.ndarray, conditions: Conditions) -> Iterator[Batch]:
        """A whole sound [C, T] as consecutive batches of one window, with silence before and after it."""
        step = SCORED_AT_ONCE - SCORED_AT_ONCE % self.align
        length = samples.shape[-1]
        padded = np.pad(np.asarray(samples, np.float32), ((0, 0), (self.context, -length % step)))
        for start in range(0, length, step):
            yield {
                "samples": padded[None, :, start : start + self.context + step],
                "start": np.array([start], np.int32),
                "conditions": conditions,
            }

    @property
    def latent_channels(self) -> int:
        return self.model.vector_channels

    def latent_of(self, params: Params, label: int) -> np.ndarray:
        return np.asarray(params["label_table"][label])

    def draw(self, params: Params, seed: int, labels: np.ndarray) -> np.ndarray:
        self.unsupported("draw random timbres", "its latent space contains only the labels")

    def between(self, a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
        return straight(a, b, t)

    @property
    def glide_rate(self) -> float | None:
        return self.dataset.sample_rate / self.model.hop_length if self.model.labels else None

    def encode(
        self, params: Params, samples: np.ndarray, conditions: Conditions, seed: int, progress: bool
    ) -> np.ndarray:
        """The most likely embedding of a sound, by gradient search from the embeddings of the most likely labels."""
        if not self.model.labels:
            self.unsupported("turn a sound into a timbre", "without label conditioning it has no timbres")
        self.check_pitch(conditions)
        table, known = np.asarray(params["label_table"]), np.asarray(conditions.labels)[0]
        sound = mono(samples)
        onset = int(float(onset_time(sound, self.dataset.sample_rate)) * self.dataset.sample_rate)
        start = onset - onset % self.align
        length = multiple(EXCERPT_SECONDS, self.dataset.sample_rate, of=self.align)
        excerpt = np.pad(sound, (self.context, length))[start : start + self.context + length]
        batch = {"samples": excerpt[None, None], "start": np.array([start], np.int32), "conditions": conditions}
        starts = (known @ table)[None] if known.any() else table
        bits = [float(self._unlikeliness(jnp.asarray(row[None]), params, batch)[0]) for row in starts]
        best = starts[np.argsort(bits)[:STARTS]]
        found, _ = refine(
            self._unlikeliness, best, given=(params, batch), steps=SEARCH_STEPS, learning_rate=SEARCH_RATE,
            progress=progress, description="encoding",
        )  # fmt: skip
        return found

    @cached_property
    def _unlikeliness(self):
        """The bits per sample [S] of a batch of one sound, given embeddings [S, D]."""

        def unlikeliness(vectors: jax.Array, params: Params, batch: Batch) -> jax.Array:
            each = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(vectors), axis=0), batch)
            log_probs = self._batch_log_prob(self.model.likelihood, params, each | {"vector": vectors})
            return -log_probs.mean(axis=1) / math.log(2)

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
        """Log-probabilities [B, crop] of a batch. Its "vector" [B, D], if present, replaces the labels' embeddings."""
        samples, conditions = mono(batch["samples"]), batch["conditions"]
        vector = frames = None
        if self.model.labels:
            vector = batch["vector"] if "vector" in batch else _embeddings(params["label_table"], conditions.labels)
        if self.model.frame_channels:
            targets = samples.shape[1] - self.context
            frames = self._frames(conditions.constant_pitch, batch["start"], -(-targets // self.model.hop_length))
        periods = self._periods(conditions.constant_pitch) if self.model.taps_ago else None
        outputs = self._bind(params)(samples, vector, frames, periods)
        return likelihood.log_prob(outputs, samples[:, self.context :])

    def _periods(self, pitch: jax.Array) -> jax.Array:
        """The periods of pitches [B] in samples, int32 [B]; 0 for NaN and for periods longer than the network can see."""
        period = jnp.round(self.dataset.sample_rate / (440.0 * 2.0 ** ((pitch - 69) / 12)))
        seen = (period > self.model.taps_ago // 2) & (period <= self.model.longest_period)
        return jnp.where(seen, period, 0).astype(jnp.int32)

    def _frames(self, pitch: jax.Array, start: jax.Array, num_frames: int) -> jax.Array:
        """Local conditioning [B, F, frame_channels] of windows of `num_frames` frames that begin at sample `start` [B].

        F includes the frames of the left context; it is 1 if the conditions are constant.
        """
        model = self.model
        parts = []
        before = self._frames_before
        length = before + num_frames if self.clocked else 1
        if self.dataset.pitched:
            parts.append(jnp.repeat(pitch_features(pitch)[:, None], length, axis=1))
        if self.clocked:
            place = start[:, None] + (jnp.arange(length) - before)[None] * model.hop_length
            parts.append(clock(place / self.dataset.sample_rate))
        return jnp.concatenate(parts, axis=-1)

    @property
    def _frames_before(self) -> int:
        """Frames of local conditioning in the left context; 0 if the conditions are constant."""
        return self.model.context_frames if self.clocked else 0

    @property
    def _frames_until_held(self) -> int:
        """Number of frames until the clock stops."""
        return -(-int(CLOCK_SECONDS * self.dataset.sample_rate) // self.model.hop_length) + 1

    def _likelihood(self, quantization: str | None) -> LogisticMixture | MulawSoftmax:
        own = self.model.likelihood
        if quantization in (None, own.quantization):
            return own
        if isinstance(own, MulawSoftmax) or quantization not in ("int16", "mulaw"):
            self.unsupported(f"score in bins of {quantization!r}", f"it was trained with {own.quantization!r}")
        return replace(own, quantization=quantization)


def _embeddings(table: jax.Array, weights: jax.Array) -> jax.Array:
    """The embeddings [B, D] of label weights [B, labels]: weighted means of the table's rows. No label gives the mean."""
    none = 1 - weights.sum(axis=1, keepdims=True)
    return weights @ table + none * table.mean(axis=0, keepdims=True)


def pitch_and_start(conditions: Conditions, request: Request) -> tuple[jax.Array, jax.Array]:
    """The pitch of each sound (NaN for none), and the number of samples in the prime, both [n]."""
    existing = 0 if request.prime is None else request.prime.shape[-1]
    return jnp.asarray(conditions.constant_pitch), jnp.full(conditions.batch, existing)


def clock(seconds: jax.Array) -> jax.Array:
    """Encodes the time since the beginning of a sound [...] as channels [..., CLOCK], on a logarithmic scale.

    There are two channels per octave above 10 ms. Times before the beginning count as 0, those after CLOCK_SECONDS as that.
    """
    octaves = jnp.log2(1 + jnp.maximum(seconds, 0.0) / 0.01)
    return one_hot(jnp.minimum(2 * octaves, CLOCK - 1), CLOCK)

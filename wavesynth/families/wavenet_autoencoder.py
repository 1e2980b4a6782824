"""The WaveNet autoencoder (NSynth; Engel et al., 2017): a convolutional encoder, and a WaveNet as its decoder."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.rates import power_of_two
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo, TrainingConfig
from wavesynth.data.batches import mono
from wavesynth.families.coding import CodingFamily
from wavesynth.families.protocols import Request
from wavesynth.families.wavenet import WaveNetFamily, pitch_and_start
from wavesynth.models.functional import initialize, pure, shapes
from wavesynth.models.likelihoods import LogisticMixture, MulawSoftmax
from wavesynth.models.wavenet_autoencoder import Encoder, WaveNetAutoencoderConfig
from wavesynth.sampling.blocks import until
from wavesynth.training.likelihood import Likelihood
from wavesynth.training.objective import Batch, Metrics
from wavesynth.training.state import Params, TrainState

STRIDES = 16  # of the encoder, in a code
PIECE = 16  # codes of a long sound computed at once, so that memory does not grow with its length
ROWS = 8  # pieces per batch; smaller batches are padded, so that one program is compiled


class NoisyLikelihood(Likelihood):
    """Maximum likelihood with a random key for each training step, but not for scoring."""

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return super().step(state, batch | {"key": jax.random.fold_in(jax.random.key(self.training.seed), state.step)})


def beside(preset: str, **encoder: Any) -> Config:
    """A WaveNet preset with an encoder: decoder and training settings are the same, so that both can be compared."""
    plain = WaveNetFamily.presets[preset]
    return Config("wavenet-autoencoder", WaveNetAutoencoderConfig(**asdict(plain.model) | encoder), plain.training)


class WaveNetAutoencoderFamily(CodingFamily, WaveNetFamily):
    """A WaveNet autoencoder. A timbre is a path of codes, repeated at the decoder's frame rate. Before a sound, codes are 0.

    The decoder is not conditioned on labels, because the codes contain that information. The parameters are "decoder", those
    of a WaveNet, and "encoder".
    """

    name = "wavenet-autoencoder"
    model_config = WaveNetAutoencoderConfig
    reconstructs: ClassVar[bool] = True
    presets: ClassVar = {
        "wavenet-autoencoder-tiny": beside("wavenet-tiny", encoder_channels=32),
        "wavenet-autoencoder-small": beside("wavenet-small"),
        "wavenet-autoencoder": beside("wavenet", encoder_channels=128, encoder_layers=6),
    }

    @classmethod
    def adapt(cls, model: WaveNetAutoencoderConfig, dataset: DatasetInfo) -> WaveNetAutoencoderConfig:
        adapted = super().adapt(model, dataset)
        code_hop = model.code_hop or power_of_two(model.code_seconds, dataset.sample_rate, least=16)
        return replace(
            adapted,
            labels=0,
            vector_channels=0,
            frame_channels=adapted.frame_channels + model.code_channels,
            code_hop=code_hop,
            encoder_stride=model.encoder_stride or max(1, code_hop // STRIDES),
        )

    @property
    def context(self) -> int:
        """The receptive field of the decoder, in whole codes."""
        return -(-self.model.receptive_field // self.code_hop) * self.code_hop

    @property
    def clocked(self) -> bool:
        return self.dataset.one_shots

    def init(self, key: jax.Array, windows: Batch) -> Params:
        decoder = super().init(key, windows)
        return {"decoder": decoder, "encoder": initialize(self._make_encoder, jax.random.fold_in(key, 1))}

    def shapes(self) -> Params:
        return {"decoder": super().shapes(), "encoder": shapes(self._make_encoder)}

    def objective(self, training: TrainingConfig) -> Likelihood:
        return NoisyLikelihood(partial(self._batch_log_prob, self.model.likelihood), training)

    def codes(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        reach, step = self.model.encoder_reach, PIECE * self.code_hop
        rows, length = len(sounds), sounds.shape[-1]
        padded = np.pad(mono(sounds), ((0, 0), (reach, reach + -length % step)))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, reach + step + reach, axis=1)[:, ::step]
        pieces = pieces.reshape(-1, pieces.shape[-1])
        pieces = np.pad(pieces, ((0, -len(pieces) % ROWS), (0, 0)))
        parts = [self._encode(params["encoder"], pieces[first : first + ROWS]) for first in range(0, len(pieces), ROWS)]
        joined = np.concatenate(parts).reshape(-1, self.code_width)
        each = -(-length // step) * PIECE
        return joined[: rows * each].reshape(rows, each, -1)[:, : length // self.code_hop]

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        self.check_pitch(conditions)
        self.check_truncation(request, "set temperature below 1")
        paths = self.paths(params, conditions, request)
        ends = paths.shape[1] * self.code_hop
        if request.endless:  # the clock runs until it stops
            until_held = -(-self._frames_until_held * self.model.hop_length // self.code_hop)
            paths = np.pad(paths, ((0, 0), (0, max(0, until_held - paths.shape[1])), (0, 0)), mode="edge")
        before = np.broadcast_to(self._codes_of_prime(params, request.prime), (conditions.batch, *self._codes_before))
        frames = self._local(jnp.concatenate([before, paths], axis=1), *pitch_and_start(conditions, request))
        blocks = self._decode(params["decoder"], conditions, request, None, frames)
        return blocks if request.endless else until(blocks, ends)

    def _codes_of_prime(self, params: Params, prime: np.ndarray | None) -> np.ndarray:
        """The codes [K, D] of the left context of a sound that continues `prime`; the last code ends with it."""
        if prime is None:
            return np.zeros(self._codes_before, np.float32)
        past = prime[:, -self.context :]
        return self.codes(params, np.pad(past, ((0, 0), (self.context - past.shape[-1], 0)))[None])[0]

    def _pieces(self, params: Params, samples: np.ndarray, conditions: Conditions) -> Iterator[Batch]:
        """Like a WaveNet's, with codes that are computed from the whole sound."""
        path = self.encode(params, np.asarray(samples, np.float32), conditions, seed=0, progress=False)
        before = self._codes_before[0]
        for piece in super()._pieces(params, samples, conditions):
            count = piece["samples"].shape[-1] // self.code_hop
            first = int(piece["start"][0]) // self.code_hop
            codes = np.pad(path, ((before, count), (0, 0)))[first : first + count]
            yield piece | {"codes": codes[None]}

    def _batch_log_prob(self, likelihood: LogisticMixture | MulawSoftmax, params: Params, batch: Batch) -> jax.Array:
        """Like a WaveNet's. A batch may have "codes" [B, K, D], otherwise computed from its samples, and a "key" for noise."""
        samples, conditions, model = mono(batch["samples"]), batch["conditions"], self.model
        codes = batch.get("codes")
        if codes is None:
            around = model.encoder_reach, model.encoder_reach + -samples.shape[1] % self.code_hop
            codes = self._bind_encoder(params["encoder"])(jnp.pad(samples, ((0, 0), around)))
        if "key" in batch:
            codes += model.code_noise * jax.random.normal(batch["key"], codes.shape)
        targets = samples.shape[1] - self.context
        frames = self._local(codes, conditions.constant_pitch, batch["start"])
        frames = frames[:, : self._frames_before + -(-targets // model.hop_length)]
        periods = self._periods(conditions.constant_pitch) if model.taps_ago else None
        seen = samples[:, self.context - model.receptive_field :]
        outputs = self._bind(params["decoder"])(seen, None, frames, periods)
        return likelihood.log_prob(outputs, samples[:, self.context :])

    def _local(self, codes: jax.Array, pitch: jax.Array, start: jax.Array) -> jax.Array:
        """Local conditioning [B, F, frame_channels] from codes [B, K, D] that begin with the left context of `start` [B]."""
        place = start[:, None] + (jnp.arange(codes.shape[1]) - self._codes_before[0])[None] * self.code_hop
        codes = jnp.where((place > -self.code_hop)[..., None], codes, 0.0)
        frames = jnp.repeat(codes, self.code_hop // self.model.hop_length, axis=1)
        if self.model.frame_channels == self.code_width:
            return frames
        others = self._frames(pitch, start, frames.shape[1] - self._frames_before)
        others = jnp.broadcast_to(others, (*frames.shape[:2], others.shape[-1]))
        return jnp.concatenate([frames, others], axis=-1)

    @property
    def _frames_before(self) -> int:
        return self.context // self.model.hop_length

    @property
    def _codes_before(self) -> tuple[int, int]:
        """The shape [K, D] of the left context's codes."""
        return self.context // self.code_hop, self.code_width

    def _make_encoder(self, rngs) -> Encoder:
        return Encoder(self.model, rngs=rngs)

    @cached_property
    def _bind_encoder(self):
        return pure(self._make_encoder)

    @cached_property
    def _encode(self):
        return jax.jit(lambda params, samples: self._bind_encoder(params)(samples))

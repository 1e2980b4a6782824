"""The convolutional autoencoder: encodes a sound to a path of codes, and decodes a path at any pitch."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import chain
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.spectral import band_edges, log_mel, relative_mel
from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families.coding import CodingFamily
from wavesynth.families.protocols import Request
from wavesynth.models.autoencoder import Autoencoder, AutoencoderConfig, Probe
from wavesynth.models.discriminators import Discriminators, views
from wavesynth.models.expected import Frames
from wavesynth.models.functional import initialize, pure, shapes
from wavesynth.training.objective import Batch
from wavesynth.training.reconstruction import Average, Reconstruction, ReconstructionTraining, real_frames
from wavesynth.training.state import Params

ROWS = 8  # batch size of encoding and decoding several sounds
BLOCK = 16  # code frames encoded or decoded at once: half a second
SILENCE = 0.5  # of a crop: the longest silence before or after a clip in a training window
DISCRIMINATOR_SECONDS = 1.0  # sets the depth of the discriminators, independently of the crop
PITCHES = 128  # that the probe tells apart
NEIGHBOURS = 200  # training clips compared for the baseline "nearest training sound"


class AutoencoderFamily(CodingFamily):
    """An autoencoder whose decoder filters noise and harmonics, or mixes noise with steady tones.

    Its convolutions are causal or look both ways.
    """

    channels: ClassVar[int] = 2
    autoregressive: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = True
    name = "autoencoder"
    model_config = AutoencoderConfig
    training_config = ReconstructionTraining
    presets: ClassVar = {
        "autoencoder-tiny": Config(
            "autoencoder",
            AutoencoderConfig(encoder_channels=64, encoder_dilations=(1, 2, 4), channels=96, dilations=(1, 2, 4, 8)),
            ReconstructionTraining(steps=1_500, batch_size=8, learning_rate=4e-3, ema=0.99),
        ),
        "autoencoder-small": Config(
            "autoencoder",
            AutoencoderConfig(),
            ReconstructionTraining(
                steps=8_000, crop_seconds=0.25, validation_windows=256, optimizer="muon", learning_rate=3e-3, ema=0.998
            ),
        ),
        "autoencoder": Config(
            "autoencoder",
            AutoencoderConfig(
                encoder_channels=256, channels=512, dilations=(1, 2, 4, 8, 1, 2, 4, 8), periods=(2, 3, 5, 7, 11),
                spectral_windows=(0.015, 0.03, 0.06, 0.12), spectral_channels=128, dtype="bfloat16",
            ),
            ReconstructionTraining(
                steps=200_000, batch_size=32, crop_seconds=2.0, learning_rate=1e-3, ema=0.9995, expected_until=0.2,
                adversarial_from=0.6,
            ),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: AutoencoderConfig, dataset: DatasetInfo) -> AutoencoderConfig:
        return replace(
            model, sample_rate=dataset.sample_rate, audio_channels=dataset.channels, pitches=PITCHES * dataset.pitched,
            tones=() if dataset.pitched else dataset.partials,
        )  # fmt: skip

    def init(self, key: jax.Array, windows: Batch) -> Params:
        if not np.any(windows["samples"]):
            raise UserError("the training sounds are silent: prepare a folder with audible sounds")
        makers = self._makers
        return {
            name: initialize(make, own)
            for (name, make), own in zip(makers.items(), jax.random.split(key, len(makers)), strict=True)
        }

    def shapes(self) -> Params:
        return {name: shapes(make) for name, make in self._makers.items()}

    def published(self, params: Params) -> Params:
        return {"coder": params["coder"]}

    def windows(self, shards: Shards, training: ReconstructionTraining) -> Batches:
        learned = super().windows(shards, training)
        silence = int(SILENCE * learned.crop) // self.code_hop * self.code_hop
        return replace(learned, silence=silence if self.dataset.one_shots else 0)

    def objective(self, training: ReconstructionTraining) -> Reconstruction:
        def decode(params: Params, codes: jax.Array, conditions: Conditions, keys: jax.Array) -> jax.Array:
            return self._bind["coder"](params).decoder(codes, conditions.constant_pitch, keys)

        def powers(params: Params, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self._bind["coder"](params).decoder.powers(codes)

        def probe_logits(params: Params, codes: jax.Array) -> jax.Array:
            return self._bind["probe"](params)(codes[..., : self.model.code_channels])

        def discriminate(params: Params, seen: list, key: jax.Array) -> tuple:
            unconditional = jnp.zeros((len(seen[0]), 0))
            return self._bind["discriminators"](params).discriminate(seen, unconditional, key)

        return Reconstruction(
            encode=lambda params, sounds: self._bind["coder"](params).encoder(sounds), decode=decode,
            views=partial(views, self.model),
            discriminate=discriminate,
            probe_logits=probe_logits if self.model.pitches else None,
            sample_rate=self.dataset.sample_rate, level_db=self.dataset.level_db, training=training,
            average=Average(self._frames, powers) if self.model.knows_average else None,
        )  # fmt: skip

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The distances of silence, and of the nearest training clip with the same label, from held-out sounds."""
        shards, crop = training.shards, held_out.crop
        chosen = np.unique(np.linspace(0, len(training.clips) - 1, NEIGHBOURS).astype(int))
        labels = {clip: self.dataset.label_index(shards.clips[clip].label) for clip in np.array(training.clips)[chosen]}
        mel = relative_mel(self.dataset.sample_rate, self.dataset.level_db)
        frames = partial(log_mel, sample_rate=self.dataset.sample_rate, settings=mel)
        silence = np.asarray(frames(np.zeros((1, crop), np.float32)))
        upper = band_edges(self.dataset.sample_rate, mel)[2:]

        @cache
        def learned(clip: int, start: int) -> np.ndarray:
            sound = training.excerpt(clip, start, start + crop)
            return np.asarray(frames(np.pad(sound, ((0, 0), (0, crop - sound.shape[-1])))))

        values, weights = [], []
        for batch in held_out.held_out():
            counted = np.asarray(real_frames(batch["real"], mel))
            own = batch["conditions"].label_indices
            for row in np.flatnonzero(counted.any(axis=1)):
                target = np.asarray(frames(batch["samples"][row]))
                near = [clip for clip, label in labels.items() if label == own[row]] or list(labels)
                others = [silence, *(learned(clip, int(batch["start"][row])) for clip in near)]
                compared = upper <= 1.001 * batch["bandwidth"][row] if "bandwidth" in batch else np.ones(len(upper))
                distances = [(np.abs(target - other)[:, counted[row]] * compared).mean() for other in others]
                values.append([distances[0], min(distances[1:])])
                weights.append(counted[row].sum())
        means = np.average(values, axis=0, weights=weights)
        return {"silence": float(means[0]), "nearest training sound": float(means[1])}

    def codes(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        parts, size = [], _rows_at_once(len(sounds))
        encode = self._encoded_in_blocks if self.model.causal else self._encoded_at_once
        for first in range(0, len(sounds), size):
            rows = np.asarray(sounds[first : first + size], np.float32)
            padded = np.pad(rows, ((0, size - len(rows)), (0, 0), (0, 0)))
            parts.append(encode(params["coder"], padded)[: len(rows)])
        return np.concatenate(parts)

    def generate(self, params: Params, conditions: Conditions, request: Request) -> Iterator[np.ndarray]:
        """Yields blocks while they are decoded; a model that is not causal yields one block with the whole sounds."""
        alternative = "encode a sound of your own"
        self.check_no_sampling(
            conditions, request, "it decodes timbres: encode the prime and continue from its timbre", alternative
        )
        self.check_truncation(request, alternative)
        if request.endless and not self.model.causal:
            self.unsupported("generate endless sound", "its convolutions look ahead: train one with causal=True")
        paths, n = self.paths(params, conditions, request), conditions.batch
        size, pitches = _rows_at_once(n), np.asarray(conditions.constant_pitch)
        decode = self._decoded_in_blocks if self.model.causal else self._decoded_at_once
        groups = []
        for first in range(0, n, size):
            rows = np.arange(first, first + size) * (not request.shared_noise)
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(request.seed)))(rows)
            chosen = np.minimum(np.arange(first, first + size), n - 1)
            groups.append(decode(params["coder"], paths[chosen], pitches[chosen], keys, request.endless))
        for blocks in zip(*groups, strict=True):
            yield np.clip(np.concatenate(blocks)[:n], -1.0, 1.0)  # as in a WAV file

    @property
    def code_width(self) -> int:
        return self.model.code_width

    @property
    def latency(self) -> float:
        if not self.model.causal:
            return math.inf
        return (self.code_hop + self.model.lookahead) / self.dataset.sample_rate

    def resynthesize(
        self, params: Params, blocks: Iterator[np.ndarray], conditions: Conditions, seed: int
    ) -> Iterator[np.ndarray]:
        if not self.model.causal:
            self.unsupported("resynthesize live sound", "its convolutions look ahead: train one with causal=True")
        self.check_pitch(conditions)
        return self._resynthesized(params, blocks, conditions, seed)

    def _resynthesized(
        self, params: Params, blocks: Iterator[np.ndarray], conditions: Conditions, seed: int
    ) -> Iterator[np.ndarray]:
        coder, hop, ahead = params["coder"], self.code_hop, self.model.lookahead
        pitch = jnp.asarray(conditions.constant_pitch)
        keys = jax.random.fold_in(jax.random.key(seed), 0)[None]
        waiting = np.zeros((1, self.dataset.channels, 0), np.float32)  # samples that are not encoded yet
        owed = 0  # number of samples that are not decoded yet
        encoder = decoder = None
        for block in chain(blocks, [None]):
            owed += 0 if block is None else block.shape[-1]
            # Silence after the end flushes the last frames.
            samples = np.zeros((waiting.shape[1], ahead + hop - 1), np.float32) if block is None else block
            waiting = np.concatenate([waiting, samples[None]], axis=2)
            if encoder is None and waiting.shape[2] >= ahead:
                encoder = self._bind["coder"](coder).encoder.init_cache(jnp.asarray(waiting[..., :ahead]))
                waiting = waiting[..., ahead:]
            while encoder is not None and owed and waiting.shape[2] >= hop:
                code, encoder = self._programs["encode block"](coder, waiting[..., :hop], encoder)
                waiting = waiting[..., hop:]
                if decoder is None:
                    decoder = self._bind["coder"](coder).decoder.init_cache(1)
                    for _ in range(self.model.held):
                        _, decoder = self._programs["decode block"](coder, code, pitch, keys, decoder)
                decoded, decoder = self._programs["decode block"](coder, code, pitch, keys, decoder)
                yield np.clip(np.asarray(decoded)[0, :, :owed], -1.0, 1.0)
                owed -= min(hop, owed)

    def _encoded_in_blocks(self, coder: Params, sounds: np.ndarray) -> np.ndarray:
        frames, size, ahead = sounds.shape[2] // self.code_hop, BLOCK * self.code_hop, self.model.lookahead
        padded = np.pad(sounds, ((0, 0), (0, 0), (0, ahead + -sounds.shape[2] % size)))
        state = self._bind["coder"](coder).encoder.init_cache(padded[..., :ahead])
        codes = []
        for first in range(ahead, padded.shape[2], size):
            block, state = self._programs["encode block"](coder, padded[..., first : first + size], state)
            codes.append(np.asarray(block))
        return np.concatenate(codes, axis=1)[:, :frames]

    def _encoded_at_once(self, coder: Params, sounds: np.ndarray) -> np.ndarray:
        frames = sounds.shape[2] // self.code_hop
        behind = (_power_of_two(frames) - frames) * self.code_hop
        return np.asarray(self._programs["encode"](coder, np.pad(sounds, ((0, 0), (0, 0), (0, behind)))))[:, :frames]

    def _decoded_in_blocks(
        self, coder: Params, paths: np.ndarray, pitch: np.ndarray, keys: jax.Array, endless: bool
    ) -> Iterator[np.ndarray]:
        before, frames = self.model.held, paths.shape[1]
        state = self._bind["coder"](coder).decoder.init_cache(len(paths))
        first = -before
        while endless or first < frames:
            places = np.clip(np.arange(first, first + BLOCK), 0, frames - 1)
            decoded, state = self._programs["decode block"](coder, paths[:, places], pitch, keys, state)
            begin, end = max(-first, 0), BLOCK if endless else min(BLOCK, frames - first)
            if begin < end:
                yield np.asarray(decoded)[..., begin * self.code_hop : end * self.code_hop]
            first += BLOCK

    def _decoded_at_once(
        self, coder: Params, paths: np.ndarray, pitch: np.ndarray, keys: jax.Array, endless: bool
    ) -> Iterator[np.ndarray]:
        frames = paths.shape[1]
        places = np.minimum(np.arange(_power_of_two(frames)), frames - 1)
        decoded = self._programs["decode"](coder, paths[:, places], pitch, keys)
        yield np.asarray(decoded)[..., : frames * self.code_hop]

    @property
    def _makers(self) -> dict[str, Callable]:
        makers: dict[str, Callable] = {
            "coder": lambda rngs: Autoencoder(self.model, rngs=rngs),
            "discriminators": lambda rngs: Discriminators(
                self.model, round(DISCRIMINATOR_SECONDS * self.dataset.sample_rate), 0, whole=False, rngs=rngs
            ),
        }
        return makers | ({"probe": lambda rngs: Probe(self.model, rngs=rngs)} if self.model.pitches else {})

    @property
    def _frames(self) -> Frames:
        model = self.model
        return Frames(model.sample_rate, model.hop, model.window, model.tones, first=-model.held * model.stride)

    @cached_property
    def _bind(self):
        return {name: pure(make) for name, make in self._makers.items()}

    @cached_property
    def _programs(self) -> dict[str, Callable]:
        """Compiled functions that encode and decode whole sounds, or the next block given a state."""

        def encode_block(params: Params, samples: jax.Array, state: Any) -> tuple[jax.Array, Any]:
            mean, _, state = self._bind["coder"](params).encoder.step(samples, state)
            return mean, state

        return {
            "encode": jax.jit(lambda params, sounds: self._bind["coder"](params).encoder(sounds)[0]),
            "encode block": jax.jit(encode_block),
            "decode": jax.jit(lambda params, *rest: self._bind["coder"](params).decoder(*rest)),
            "decode block": jax.jit(lambda params, *rest: self._bind["coder"](params).decoder.step(*rest)),
        }


def _rows_at_once(n: int) -> int:
    """The batch size, 1 or ROWS, so that only two programs are compiled."""
    return 1 if n == 1 else ROWS


def _power_of_two(frames: int) -> int:
    """The smallest power of two that is at least `frames`, so that few lengths are compiled."""
    return 1 << max(frames - 1, 0).bit_length()

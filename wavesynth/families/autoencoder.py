"""A convolutional autoencoder: a sound to a path of codes, and such a path, at any pitch, to a sound."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import chain
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from wavesynth.audio.pcm import to_float
from wavesynth.audio.spectral import log_mel
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batches
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families.base import PITCHES, Request
from wavesynth.families.coding import CodingFamily
from wavesynth.models.autoencoder import Autoencoder, AutoencoderConfig, Probe
from wavesynth.models.discriminators import Discriminators, views
from wavesynth.models.functional import initialize, pure
from wavesynth.training.objective import Batch
from wavesynth.training.reconstruction import Reconstruction, ReconstructionTraining, real_frames
from wavesynth.training.state import Params

ROWS = 8  # sounds encoded or decoded at once, where there are several
BLOCK = 16  # frames of the code at once: half a second
DISCRIMINATOR_LENGTH = 16_384  # samples; discriminators are as deep as sounds of this length need, whatever the crop
NEIGHBOURS = 200  # training clips among which the nearest is looked for


class AutoencoderFamily(CodingFamily):
    name = "autoencoder"
    model_config = AutoencoderConfig
    training_config = ReconstructionTraining
    presets: ClassVar = {
        "autoencoder-tiny": Config(
            "autoencoder",
            AutoencoderConfig(encoder_channels=64, encoder_dilations=(1, 2, 4), channels=96, dilations=(1, 2, 4, 8)),
            ReconstructionTraining(steps=1_500, batch_size=8, learning_rate=4e-3, ema=0.99, adversarial_from=1.0),
        ),
        "autoencoder-small": Config("autoencoder", AutoencoderConfig(), ReconstructionTraining(steps=6_000, ema=0.998)),
        "autoencoder": Config(
            "autoencoder",
            AutoencoderConfig(
                encoder_channels=256, channels=512, dilations=(1, 2, 4, 8, 1, 2, 4, 8), periods=(2, 3, 5, 7, 11),
                spectral_windows=(256, 512, 1024, 2048), spectral_channels=128, dtype="bfloat16",
            ),
            ReconstructionTraining(steps=200_000, batch_size=32, crop=32_768, learning_rate=1e-3, ema=0.9995),
        ),
    }  # fmt: skip

    @classmethod
    def adapt(cls, model: AutoencoderConfig, dataset: DatasetInfo) -> AutoencoderConfig:
        return replace(model, pitches=PITCHES * dataset.pitched, sample_rate=dataset.sample_rate)

    def init(self, key: jax.Array, windows: Batch) -> Params:
        if not np.any(windows["samples"]):
            raise UserError("the sounds to learn are silence: prepare a folder with sounds that can be heard")
        makers = self._makers
        return {
            name: initialize(make, own)
            for (name, make), own in zip(makers.items(), jax.random.split(key, len(makers)), strict=True)
        }

    def shapes(self) -> Params:
        key = jax.random.key(0)
        return {name: jax.eval_shape(partial(initialize, make, key)) for name, make in self._makers.items()}

    def published(self, params: Params) -> Params:
        return {"coder": params["coder"]}

    def windows(self, shards: Shards, training: ReconstructionTraining) -> Batches:
        if training.crop % self.code_hop or not training.crop:
            raise UserError(
                f"crop is {training.crop}: it must be a multiple of the {self.code_hop} samples of a frame of the code"
            )
        return super().windows(shards, training)

    def objective(self, training: ReconstructionTraining) -> Reconstruction:
        return Reconstruction(
            encode=lambda params, sounds: self._bind["coder"](params).encoder(sounds),
            decode=lambda params, *rest: self._bind["coder"](params).decoder(*rest),
            views=partial(views, self.model),
            discriminate=lambda params, seen, key: self._bind["discriminators"](params).discriminate(seen, jnp.zeros((len(seen[0]), 0)), key),
            probe_logits=(lambda params, codes: self._bind["probe"](params)(codes)) if self.model.pitches else None,
            sample_rate=self.dataset.sample_rate, training=training,
        )  # fmt: skip

    def baselines(self, training: Batches, held_out: Batches) -> dict[str, float]:
        """The distance of silence, and of the nearest of some training clips of the same label, from held-out sounds."""
        shards, crop = training.shards, held_out.crop
        chosen = np.unique(np.linspace(0, len(training.clips) - 1, NEIGHBOURS).astype(int))
        labels = {clip: self.dataset.label_index(shards.clips[clip].label) for clip in np.array(training.clips)[chosen]}
        heard = partial(log_mel, sample_rate=self.dataset.sample_rate)
        silence = np.asarray(heard(np.zeros(crop, np.float32)))

        @cache
        def learned(clip: int, start: int) -> np.ndarray:
            sound = to_float(shards.samples(clip)[start : start + crop])
            return np.asarray(heard(np.pad(sound, (0, crop - len(sound)))))

        metrics, weights = [], []
        for batch in held_out.held_out():
            counted = np.asarray(real_frames(batch["real"]))
            for row in np.flatnonzero(counted.any(axis=1)):
                target = np.asarray(heard(batch["samples"][row]))
                near = [clip for clip, label in labels.items() if label == batch["label"][row]] or list(labels)
                others = [silence, *(learned(clip, int(batch["start"][row])) for clip in near)]
                apart = [np.abs(target - other)[counted[row]].mean() for other in others]
                metrics.append([apart[0], min(apart[1:])])
                weights.append(counted[row].sum())
        means = np.average(metrics, axis=0, weights=weights)
        return {"silence": float(means[0]), "nearest training sound": float(means[1])}

    def codes(self, params: Params, sounds: np.ndarray) -> np.ndarray:
        parts, size = [], _rows_at_once(len(sounds))
        for first in range(0, len(sounds), size):
            rows = np.asarray(sounds[first : first + size], np.float32)
            padded = np.pad(rows, ((0, size - len(rows)), (0, 0)))
            encode = self._encoded_in_blocks if self.model.causal else self._encoded_at_once
            parts.append(encode(params["coder"], padded)[: len(rows)])
        return np.concatenate(parts)

    def stream(self, params: Params, request: Request) -> Iterator[np.ndarray]:
        """Blocks as they are decoded; one with all of the sounds where convolutions look ahead."""
        self.check_whole(
            request, "it makes sounds of timbres: encode the prime, and go on from that", "encode a sound of your own"
        )
        self.check_truncation(request, "encode a sound of your own")
        if request.endless and not self.model.causal:
            self.unsupported("go on for ever", "its convolutions look ahead: train one with causal=True")
        paths = request.latent
        if paths is None:
            paths = self.latents(params, request.n, request.seed, request.label)
        size = _rows_at_once(request.n)
        pitch = jnp.full(size, np.nan if request.pitch is None else request.pitch)
        groups = []
        for first in range(0, request.n, size):
            rows = np.arange(first, first + size) * (not request.shared_noise)
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(request.seed)))(rows)
            chosen = np.minimum(np.arange(first, first + size), request.n - 1)
            decode = self._decoded_in_blocks if self.model.causal else self._decoded_at_once
            groups.append(decode(params["coder"], paths[chosen], pitch, keys, request.endless))
        for blocks in zip(*groups, strict=True):
            yield np.clip(np.concatenate(blocks)[: request.n], -1.0, 1.0)  # as a wav would

    def resynthesize(self, params: Params, blocks: Iterator[np.ndarray], request: Request) -> Iterator[np.ndarray]:
        if not self.model.causal:
            self.unsupported("follow a sound", "its convolutions look ahead: train one with causal=True")
        self.check_pitch(request)
        return self._resynthesized(params, blocks, request)

    def _resynthesized(self, params: Params, blocks: Iterator[np.ndarray], request: Request) -> Iterator[np.ndarray]:
        coder, hop, ahead = params["coder"], self.code_hop, self.model.lookahead
        pitch = jnp.full(1, np.nan if request.pitch is None else request.pitch)
        keys = jax.random.fold_in(jax.random.key(request.seed), 0)[None]
        waiting, wanted = np.zeros((1, 0), np.float32), 0  # samples that are not encoded yet, or not decoded
        heard = state = None
        for block in chain(blocks, [None]):
            wanted += 0 if block is None else len(block)
            # Behind the end lies the silence that brings the last frames out.
            block = np.zeros(ahead + hop - 1, np.float32) if block is None else block
            waiting = np.concatenate([waiting, block[None]], axis=1)
            if heard is None and waiting.shape[1] >= ahead:
                heard = self._bind["coder"](coder).encoder.init_cache(jnp.asarray(waiting[:, :ahead]))
                waiting = waiting[:, ahead:]
            while heard is not None and wanted and waiting.shape[1] >= hop:
                code, heard = self._programs["encode block"](coder, waiting[:, :hop], heard)
                waiting = waiting[:, hop:]
                if state is None:
                    state = self._bind["coder"](coder).decoder.init_cache(1)
                    for _ in range(self.model.held):
                        _, state = self._programs["decode block"](coder, code, pitch, keys, state)
                made, state = self._programs["decode block"](coder, code, pitch, keys, state)
                yield np.clip(np.asarray(made)[0, :wanted], -1.0, 1.0)
                wanted -= min(hop, wanted)

    def _encoded_in_blocks(self, coder: Params, sounds: np.ndarray) -> np.ndarray:
        frames, size, ahead = sounds.shape[1] // self.code_hop, BLOCK * self.code_hop, self.model.lookahead
        padded = np.pad(sounds, ((0, 0), (0, ahead + -sounds.shape[1] % size)))
        state = self._bind["coder"](coder).encoder.init_cache(jnp.asarray(padded[:, :ahead]))
        codes = []
        for first in range(ahead, padded.shape[1], size):
            block, state = self._programs["encode block"](coder, padded[:, first : first + size], state)
            codes.append(np.asarray(block))
        return np.concatenate(codes, axis=1)[:, :frames]

    def _encoded_at_once(self, coder: Params, sounds: np.ndarray) -> np.ndarray:
        frames = sounds.shape[1] // self.code_hop
        behind = (_power_of_two(frames) - frames) * self.code_hop
        return np.asarray(self._programs["encode"](coder, np.pad(sounds, ((0, 0), (0, behind)))))[:, :frames]

    def _decoded_in_blocks(
        self, coder: Params, paths: np.ndarray, pitch: jax.Array, keys: jax.Array, endless: bool
    ) -> Iterator[np.ndarray]:
        before, frames = self.model.held, paths.shape[1]
        state = self._bind["coder"](coder).decoder.init_cache(len(paths))
        first = -before
        while endless or first < frames:
            places = np.clip(np.arange(first, first + BLOCK), 0, frames - 1)
            made, state = self._programs["decode block"](coder, paths[:, places], pitch, keys, state)
            wanted = slice(max(-first, 0), BLOCK if endless else min(BLOCK, frames - first))
            if wanted.start < wanted.stop:
                yield np.asarray(made)[:, wanted.start * self.code_hop : wanted.stop * self.code_hop]
            first += BLOCK

    def _decoded_at_once(
        self, coder: Params, paths: np.ndarray, pitch: jax.Array, keys: jax.Array, endless: bool
    ) -> Iterator[np.ndarray]:
        frames = paths.shape[1]
        places = np.minimum(np.arange(_power_of_two(frames)), frames - 1)
        yield np.asarray(self._programs["decode"](coder, paths[:, places], pitch, keys))[:, : frames * self.code_hop]

    @property
    def _makers(self) -> dict[str, Callable]:
        makers: dict[str, Callable] = {
            "coder": lambda rngs: Autoencoder(self.model, rngs=rngs),
            "discriminators": lambda rngs: Discriminators(self.model, DISCRIMINATOR_LENGTH, 0, whole=False, rngs=rngs),
        }
        return makers | ({"probe": lambda rngs: Probe(self.model, rngs=rngs)} if self.model.pitches else {})

    @cached_property
    def _bind(self):
        return {name: pure(make) for name, make in self._makers.items()}

    @cached_property
    def _programs(self) -> dict[str, Callable]:
        """What encodes and decodes, compiled when it is first used: whole sounds, or the next block and a state."""

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
    """How many sounds a program takes: one alone, or as many as are wanted in groups; two programs to compile."""
    return 1 if n == 1 else ROWS


def _power_of_two(frames: int) -> int:
    """The smallest that is at least so many: few lengths, few programs to compile."""
    return 1 << max(frames - 1, 0).bit_length()

"""Cases of the op: a network with random weights for each ArgSpec."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import rounding
from wavesynth.kernels.wavenet_decode import (
    Conditioning,
    DecodeSpec,
    condition_table,
    pack,
    reference,
    silent_cache,
    wavenet_decode,
)
from wavesynth.models.functional import initialize, pure
from wavesynth.models.likelihoods import quantize
from wavesynth.models.wavenet import WaveNet

ROUNDED = 2.0**-8  # of the largest value: what inputs rounded to bfloat16 may change
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile in half the time


class Case:
    """One ArgSpec with parameters, packed weights, conditions, and samples to score."""

    decode_plain = staticmethod(
        jax.jit(reference.decode, static_argnames=("top_k", "top_p", "log_probs"), compiler_options=QUICK)
    )

    def __init__(self, spec, dtype="float32"):
        model = self.model = spec.model
        self.spec, self.dtype = spec, dtype

        def make(rngs):
            return WaveNet(model, rngs=rngs)

        params = initialize(make, jax.random.key(0))
        keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
        self.params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(next(keys), leaf.shape), params)
        if model.output == "mixture":
            self.params["fixed_log_scale"] -= 4.0  # the scale of sound, well inside [-1, 1]
        self.bind = pure(make)
        self.decode_spec = DecodeSpec.of(model)
        self.weights = pack(self.params, self.decode_spec, dtype)
        vectors, frames, samples = jax.random.split(jax.random.key(2), 3)
        shape = (spec.batch, spec.frames, model.frame_channels)
        self.vector = jax.random.normal(vectors, (spec.batch, model.vector_channels)) if model.vector_channels else None
        self.frames = jax.random.normal(frames, shape) if spec.frames else None
        self.periods = None
        if model.taps_ago:
            lags = np.linspace(model.taps_ago, model.longest_period, spec.batch).astype(np.int32)
            self.periods = (
                jnp.asarray(lags).at[-1].set(0 if spec.batch > 1 else lags[-1])
            )  # of the last, it is not known
        noise = 0.2 * jax.random.normal(samples, (spec.batch, spec.steps))
        self.samples = quantize(jnp.clip(noise, -1, 1), model.likelihood.quantization)

    @property
    def terms(self):
        """Additions on the longest path from a past sample to an output."""
        model = self.model
        layers = len(model.dilations) * model.channels * (model.kernel_width + 2)
        return model.inputs + layers + model.skip_channels + model.head_channels

    @property
    def conditioning(self):
        table = condition_table(self.params, self.decode_spec, self.vector, self.frames)
        if table is None:
            return None
        return Conditioning(table, jnp.minimum(jnp.arange(self.spec.steps) // self.model.hop_length, len(table) - 1))

    def cache(self):
        conditioning = self.conditioning
        return silent_cache(self.weights, self.spec.batch, None if conditioning is None else conditioning.table[0])

    @property
    def uniforms(self):
        return jax.random.uniform(jax.random.key(3), (self.spec.steps, 2, self.spec.batch))

    def arguments(self, **options):
        """The arguments of an implementation's `decode`."""
        conditioning = self.conditioning or (None, None)
        options = dict(forced=None, temperature=jnp.float32(1), top_k=None, top_p=None, log_probs=True) | options
        return dict(
            weights=self.weights, cache=self.cache(), conditioning=conditioning[0], frame_index=conditioning[1],
            periods=self.periods, uniforms=self.uniforms, **options,
        )  # fmt: skip

    def check_scores(self, decode, rounded=False):
        """`decode` scores as the plain loop does and leaves the same state, from sample 0 on.

        rounded: whether it rounds the inputs of bfloat16 weights to bfloat16, that is to 8 bits.
        """
        forced = self.arguments(forced=self.samples.T)
        plain, fast = self.decode_plain(**forced), decode(**forced)
        np.testing.assert_array_equal(fast[0], plain[0])
        scores = ROUNDED * np.abs(plain[1]).max() if rounded else rounding("float32", self.terms, scale=plain[1])
        np.testing.assert_allclose(fast[1], plain[1], rtol=0, atol=scores)
        largest = max(float(jnp.abs(plain[2].rings).max()), 1)
        state = ROUNDED * largest if rounded else rounding("float32", self.terms, scale=largest)
        np.testing.assert_allclose(fast[2].rings, plain[2].rings, rtol=0, atol=state)
        np.testing.assert_array_equal(fast[2].recent, plain[2].recent)
        assert int(fast[2].phase) == int(plain[2].phase)

    def decode(self, implementation, first=0, last=None, cache=None, **options):
        last = last or self.spec.steps
        conditioning = self.conditioning
        if conditioning is not None:
            conditioning = Conditioning(conditioning.table, conditioning.index[first:last])
        uniforms = options.pop("uniforms", jnp.zeros((self.spec.steps, 2, self.spec.batch)))[first:last]
        return wavenet_decode(
            self.weights, cache or self.cache(), conditioning, uniforms, periods=self.periods, implementation=implementation,
            **options,
        )  # fmt: skip

    def parallel(self):
        """Log-probabilities [B, T] of the samples by the parallel network, after silence."""
        window = jnp.pad(self.samples, ((0, 0), (self.model.receptive_field, 0)))
        frames = self.frames
        if frames is not None:
            frames = jnp.concatenate([jnp.repeat(frames[:, :1], self.model.context_frames, axis=1), frames], axis=1)
        outputs = self.bind(self.params)(window, self.vector, frames, self.periods)
        return self.model.likelihood.log_prob(outputs, self.samples)


@pytest.fixture(scope="session")
def make_case():
    """(spec, dtype of the weights) to the case, made once."""
    return cache(Case)

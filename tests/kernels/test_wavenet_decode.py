"""One suite for every implementation of the op, over the shapes that the benchmarks replay."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close, rounding, sampling
from wavesynth.config import DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families import family_type, preset
from wavesynth.kernels.wavenet_decode import (
    IMPLEMENTATIONS,
    Conditioning,
    silent_cache,
    wavenet_decode,
)
from wavesynth.kernels.wavenet_decode.arg_specs import MODELS, TESTED
from wavesynth.kernels.wavenet_decode.reference import draw
from wavesynth.kernels.wavenet_decode.strategy import Strategy, pick, restrict
from wavesynth.kernels.wavenet_decode.weights import unpack
from wavesynth.models.likelihoods import LogisticMixture, quantize

DISTRIBUTIONS = ("mixture", "mixture-mulaw", "mixture-periods", "softmax")


@pytest.fixture(params=TESTED.values(), ids=TESTED, scope="module")
def case(request, make_case):
    return make_case(request.param)


@pytest.fixture(params=DISTRIBUTIONS, scope="module")
def distribution(request, make_case):
    """A case of each output distribution."""
    return make_case(TESTED[request.param])


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, make_case):
    reason = IMPLEMENTATIONS[request.param].unsupported_reason(
        make_case(TESTED["mixture"]).weights, jax.default_backend()
    )
    if reason is not None:
        pytest.skip(f"{request.param} cannot serve: {reason}")
    return request.param


def test_log_probs_equal_the_parallel_network_from_sample_0(case, implementation):
    """Up to rounding; the sharpest bins magnify an error of the output by their log-probability."""
    decoded = case.decode(implementation, forced=case.samples.T, log_probs=True)
    expected = case.parallel()
    assert_close(decoded.log_probs.T, expected, terms=case.terms)
    np.testing.assert_array_equal(decoded.samples.T, case.samples)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mixture", "mixture-odd", "softmax-width-3"])
def test_packed_weights_unpack_to_the_parameters(make_case, name, dtype):
    case = make_case(TESTED[name], dtype)
    found, params = unpack(case.weights), case.params
    layers = [params["layers"][str(index)] for index in range(len(case.decode_spec.dilations))]
    for matrix, expected in (
        (found.dilated, jnp.stack([layer["dilated"] for layer in layers])),
        (found.residual, jnp.stack([layer["residual"] for layer in layers])),
        (found.skip, params["skip"].reshape(found.skip.shape)),
        (found.head, params["head"]),
        (found.out, params["out"]),
    ):
        np.testing.assert_array_equal(matrix, expected.astype(dtype).astype(jnp.float32))


def test_the_silent_cache_is_where_silence_leads(case, implementation):
    """A receptive field of silent steps from an empty cache ends where the closed form begins."""
    model, spec = case.model, case.spec
    steps = 2 * model.receptive_field
    conditioning = case.conditioning
    if conditioning is not None:
        conditioning = Conditioning(conditioning.table, jnp.zeros(steps, jnp.int32))
    silence = jnp.zeros((steps, spec.batch))
    empty = jax.tree.map(jnp.zeros_like, case.cache())
    empty = replace(empty, recent=quantize(empty.recent, model.likelihood.quantization))
    idle = jnp.zeros((steps, 2, spec.batch))
    after = wavenet_decode(case.weights, empty, conditioning, idle, forced=silence, implementation=implementation).cache
    assert_close(after.rings, case.cache().rings, terms=case.terms)


def test_chunks_equal_the_whole(case, implementation):
    uniforms = case.uniforms
    whole = case.decode(implementation, uniforms=uniforms)
    cache, parts = None, []
    for first, last in [(0, 1), (1, 30), (30, case.spec.steps)]:
        decoded = case.decode(implementation, first, last, cache, uniforms=uniforms)
        cache = decoded.cache
        parts.append(decoded.samples)
    np.testing.assert_array_equal(jnp.concatenate(parts), whole.samples)


def test_drawn_samples_lie_on_the_grid_and_vary(distribution, implementation):
    uniforms = distribution.uniforms
    samples = distribution.decode(implementation, uniforms=uniforms).samples
    np.testing.assert_array_equal(samples, quantize(samples, distribution.model.likelihood.quantization))
    assert len(np.unique(samples)) > distribution.spec.steps // 4
    assert float(jnp.abs(samples).max()) <= 1


def test_drawing_follows_the_predicted_distribution(distribution, implementation):
    """The first sample of many streams: its mean log-probability is the distribution's own negative entropy."""
    streams = 4_000
    weights = distribution.weights
    cache = silent_cache(weights, streams)
    uniforms = jax.random.uniform(jax.random.key(4), (1, 2, streams))
    decoded = wavenet_decode(weights, cache, None, uniforms, log_probs=True, implementation=implementation)
    grid = jnp.arange(-32_768, 32_768) / 32_768
    if distribution.model.likelihood.quantization == "mulaw":
        grid = jnp.unique(quantize(grid, "mulaw"))
    forced = wavenet_decode(
        weights, silent_cache(weights, len(grid)), None, jnp.zeros((1, 2, len(grid))), forced=grid[None], log_probs=True,
        implementation=implementation,
    )  # fmt: skip
    log_probs = np.asarray(forced.log_probs[0], np.float64)
    mass = np.exp(log_probs)
    entropy, spread = -(mass * log_probs).sum(), np.sqrt((mass * log_probs**2).sum() - (mass * log_probs).sum() ** 2)
    assert -float(decoded.log_probs.mean()) == pytest.approx(
        entropy, abs=float(sampling(spread, streams) + rounding("float32", distribution.terms, scale=log_probs))
    )
    mean, deviation = (mass * grid).sum(), np.sqrt((mass * np.square(grid)).sum() - (mass * grid).sum() ** 2)
    assert float(decoded.samples.mean()) == pytest.approx(float(mean), abs=float(sampling(deviation, streams)))


def test_colder_and_cut_distributions_are_narrower(distribution, implementation):
    """Of the first sample of many streams, which all draw from the same distribution."""
    uniforms = jax.random.uniform(jax.random.key(3), (1, 2, 500))

    def draw(**options):
        cache = silent_cache(distribution.weights, 500)
        return wavenet_decode(
            distribution.weights, cache, None, uniforms, log_probs=True, implementation=implementation, **options
        )

    plain, cold, cut = draw(), draw(temperature=0.3), draw(top_p=0.3)
    for narrower in (cold, cut):
        if distribution.model.output == "softmax":
            assert narrower.log_probs.mean() > plain.log_probs.mean()
        else:
            assert narrower.samples.std() < plain.samples.std()


def test_one_likeliest_choice_leaves_no_chance_to_the_first_uniform(distribution, implementation):
    uniforms = distribution.uniforms
    other = uniforms.at[:, 0].set(1 - uniforms[:, 0])
    drawn = [distribution.decode(implementation, uniforms=each, top_k=1).samples for each in (uniforms, other)]
    np.testing.assert_array_equal(*drawn)


def test_restrict_keeps_the_likeliest():
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))
    kept = [np.isfinite(restrict(logits, *how))[0].tolist() for how in ((2, None), (None, 0.5), (None, 1.0), (1, 0.9))]
    assert kept == [[False, True, False, True], [False, True, False, True], [True] * 4, [False, True, False, False]]


def test_pick_never_takes_what_has_no_mass():
    logits = jnp.array([[-jnp.inf, 0.0, -jnp.inf, 0.0, -jnp.inf]])
    for uniform in (0.0, 0.25, 0.5, 0.75, float(np.nextafter(np.float32(1), np.float32(0)))):
        assert int(pick(logits, jnp.array([uniform]), 5)[0]) in (1, 3)


def test_a_mixture_falls_in_the_right_component():
    likelihood = LogisticMixture(2)
    outputs = jnp.array([[0.0, 0.0, -0.5, 0.5, -9.0, -9.0]])
    low, high = (float(draw(Strategy(), likelihood, outputs, jnp.array([[u], [0.5]]))[0]) for u in (0.4, 0.6))
    assert (low, high) == (-0.5, 0.5)


def test_an_unknown_implementation_is_named(make_case):
    with pytest.raises(UserError, match="abacus"):
        make_case(TESTED["mixture"]).decode("abacus")


@pytest.mark.parametrize(("name", "preset_name"), [("small", "wavenet-small"), ("full", "wavenet")])
def test_measured_networks_are_presets(name, preset_name):
    pieces = DatasetInfo(16_000, clip_seconds=60.0)
    assert MODELS[name] == family_type("wavenet").adapt(preset(preset_name).model, pieces)

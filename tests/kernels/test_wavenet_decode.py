"""One suite for every implementation of the op, over the shapes that the benchmarks replay."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wavesynth.errors import UserError
from wavesynth.kernels.wavenet_decode import (
    IMPLEMENTATIONS,
    Conditioning,
    silent_cache,
    wavenet_decode,
)
from wavesynth.kernels.wavenet_decode.arg_specs import TESTED
from wavesynth.kernels.wavenet_decode.reference import draw
from wavesynth.kernels.wavenet_decode.strategy import Strategy, pick, restrict
from wavesynth.kernels.wavenet_decode.weights import unpack
from wavesynth.models.likelihoods import LogisticMixture, quantize

EPS = np.finfo(np.float32).eps


@pytest.fixture(params=TESTED.values(), ids=TESTED, scope="module")
def case(request, make_case):
    return make_case(request.param)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, make_case):
    reason = IMPLEMENTATIONS[request.param].unsupported_reason(
        make_case(TESTED["mixture"]).weights, jax.default_backend()
    )
    if reason is not None:
        pytest.skip(f"{request.param} cannot serve: {reason}")
    return request.param


def test_log_probs_equal_the_parallel_network_from_sample_0(case, implementation):
    """Within float32: sums over a few thousand terms, and the sharpest bins magnify an error of the output by their nats."""
    decoded = case.decode(implementation, forced=case.samples.T, log_probs=True)
    expected = case.parallel()
    terms = case.model.skip_channels + len(case.model.dilations) * case.model.channels
    np.testing.assert_allclose(decoded.log_probs.T, expected, rtol=0, atol=EPS * terms * np.abs(expected).max())
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
    np.testing.assert_allclose(
        after.rings, case.cache().rings, rtol=0, atol=64 * EPS * float(jnp.abs(after.rings).max())
    )


def test_chunks_equal_the_whole(case, implementation):
    uniforms = case.uniforms
    whole = case.decode(implementation, uniforms=uniforms)
    cache, parts = None, []
    for first, last in [(0, 1), (1, 30), (30, case.spec.steps)]:
        decoded = case.decode(implementation, first, last, cache, uniforms=uniforms)
        cache = decoded.cache
        parts.append(decoded.samples)
    np.testing.assert_array_equal(jnp.concatenate(parts), whole.samples)


def test_drawn_samples_lie_on_the_grid_and_vary(case, implementation):
    uniforms = case.uniforms
    samples = case.decode(implementation, uniforms=uniforms).samples
    np.testing.assert_array_equal(samples, quantize(samples, case.model.likelihood.quantization))
    assert len(np.unique(samples)) > case.spec.steps // 4
    assert float(jnp.abs(samples).max()) <= 1


def test_drawing_follows_the_predicted_distribution(case, implementation):
    """The first sample of many streams: its mean log-probability is the distribution's own negative entropy."""
    streams = 4_000
    weights = case.weights
    cache = silent_cache(weights, streams)
    uniforms = jax.random.uniform(jax.random.key(4), (1, 2, streams))
    decoded = wavenet_decode(weights, cache, None, uniforms, log_probs=True, implementation=implementation)
    grid = jnp.arange(-32_768, 32_768) / 32_768
    if case.model.likelihood.quantization == "mulaw":
        grid = jnp.unique(quantize(grid, "mulaw"))
    forced = wavenet_decode(
        weights, silent_cache(weights, len(grid)), None, jnp.zeros((1, 2, len(grid))), forced=grid[None], log_probs=True,
        implementation=implementation,
    )  # fmt: skip
    nats = np.asarray(forced.log_probs[0], np.float64)
    mass = np.exp(nats)
    entropy, spread = -(mass * nats).sum(), np.sqrt((mass * nats**2).sum() - (mass * nats).sum() ** 2)
    assert -float(decoded.log_probs.mean()) == pytest.approx(entropy, abs=5 * spread / np.sqrt(streams) + 1e-3)
    mean, deviation = (mass * grid).sum(), np.sqrt((mass * np.square(grid)).sum() - (mass * grid).sum() ** 2)
    assert float(decoded.samples.mean()) == pytest.approx(mean, abs=5 * deviation / np.sqrt(streams))


def test_colder_and_cut_distributions_are_narrower(case, implementation):
    """Of the first sample of many streams, which all draw from the same distribution."""
    uniforms = jax.random.uniform(jax.random.key(3), (1, 2, 500))

    def draw(**options):
        cache = silent_cache(case.weights, 500)
        return wavenet_decode(
            case.weights, cache, None, uniforms, log_probs=True, implementation=implementation, **options
        )

    plain, cold, cut = draw(), draw(temperature=0.3), draw(top_p=0.3)
    for narrower in (cold, cut):
        if case.model.output == "softmax":
            assert narrower.log_probs.mean() > plain.log_probs.mean()
        else:
            assert narrower.samples.std() < plain.samples.std()


def test_one_likeliest_choice_leaves_no_chance_to_the_first_uniform(case, implementation):
    uniforms = case.uniforms
    other = uniforms.at[:, 0].set(1 - uniforms[:, 0])
    drawn = [case.decode(implementation, uniforms=each, top_k=1).samples for each in (uniforms, other)]
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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"implementation": "abacus"}, "abacus"),
        ({"forced": jnp.zeros((3, 1))}, "forced"),
        ({"uniforms": 2}, "uniforms"),
    ],
)
def test_what_does_not_fit_is_named(make_case, change, named):
    case = make_case(TESTED["mixture"])
    if "uniforms" in change:
        change = {"uniforms": jnp.zeros((case.spec.steps, 2, 2))}
    with pytest.raises(UserError, match=named):
        case.decode(change.pop("implementation", None), **change)

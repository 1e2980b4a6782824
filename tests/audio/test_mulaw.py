import jax.numpy as jnp
import numpy as np

from tests.tolerances import assert_close, rounding
from wavesynth.audio import mulaw


def test_codes_survive_decoding_and_encoding():
    codes = jnp.arange(256)
    np.testing.assert_array_equal(mulaw.encode(mulaw.decode(codes)), codes)


def test_silence_is_one_of_the_two_codes_nearest_to_it():
    distance = np.abs(np.asarray(mulaw.decode(jnp.arange(256))))
    silence = int(mulaw.encode(jnp.zeros(())))
    assert distance[silence] == distance.min()


def test_codes_are_without_bias():
    decoded = np.asarray(mulaw.decode(jnp.arange(256)))
    np.testing.assert_array_equal(decoded, -decoded[::-1])


def test_full_scale_stays_inside():
    assert mulaw.encode(jnp.array([-1.0, 1.0, -7.0, 7.0])).tolist() == [0, 255, 0, 255]


def test_every_sample_lies_in_the_bin_of_its_code():
    samples = jnp.linspace(-1, 1, 20_001)
    lower, upper = mulaw.bin_edges(mulaw.encode(samples))
    slack = rounding("float32")
    assert bool(jnp.all((lower <= samples + slack) & (samples <= upper + slack)))


def test_bins_are_side_by_side():
    lower, upper = mulaw.bin_edges(jnp.arange(256))
    assert_close(lower[1:], upper[:-1])

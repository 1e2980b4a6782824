"""Neighbours: `log_mel_distance` of padded pairs, copies, blocks of any size; and memorization."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.tolerances import rounding
from wavesynth.audio.spectral import log_mel_distance, relative_mel
from wavesynth.errors import UserError
from wavesynth.evaluation.neighbours import SAME, memorization, nearest_sounds

SAMPLE_RATE = 16_000
ROUNDING = rounding("float32", terms=1024, scale=60)  # decibels, of two float32 transforms of one sound


def noise(num_samples: int, seed: int, amplitude: float = 0.1) -> np.ndarray:
    """Float32 noise, each seed with another colour."""
    white = np.random.default_rng(seed).normal(0, amplitude, num_samples)
    return np.convolve(white, np.exp(-np.arange(32) / (1 + seed)), mode="same").astype(np.float32)


LENGTHS = (3000, 900, 7000, 2048, 1, 7000, 20_000, 4000, 4000)
LIBRARY = [(f"{seed}.wav", noise(length, seed)) for seed, length in enumerate(LENGTHS)]
SAMPLES = np.stack([noise(4000, seed=20), noise(4000, seed=3), noise(4000, seed=0)])


def padded_distance(a: np.ndarray, b: np.ndarray) -> float:
    length = max(len(a), len(b))
    a, b = (np.pad(sound, (0, length - len(sound))) for sound in (a, b))
    return float(log_mel_distance(a, b, SAMPLE_RATE))


def test_every_distance_is_that_of_the_padded_pair() -> None:
    expected = np.array([[padded_distance(sample, sound) for _, sound in LIBRARY] for sample in SAMPLES])
    found = nearest_sounds(SAMPLES, LIBRARY, SAMPLE_RATE, k=len(LIBRARY))
    order = np.argsort(expected, axis=1)
    np.testing.assert_allclose(found.distances, np.take_along_axis(expected, order, axis=1), atol=ROUNDING)
    assert found.distances.dtype == np.float32
    assert found.names == tuple(tuple(LIBRARY[i][0] for i in row) for row in order)


@pytest.mark.parametrize(("block_samples", "k"), [(1, 1), (1, 3), (40_000, 2)])
def test_blocks_of_any_size_find_the_same(block_samples: int, k: int) -> None:
    one_pass = nearest_sounds(SAMPLES, LIBRARY, SAMPLE_RATE, k)
    in_blocks = nearest_sounds(SAMPLES, LIBRARY, SAMPLE_RATE, k, block_samples=block_samples)
    assert in_blocks.names == one_pass.names
    np.testing.assert_allclose(in_blocks.distances, one_pass.distances, atol=ROUNDING)


def test_a_library_is_read_once_and_never_held() -> None:
    alive = 0

    class Sound(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def library() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal alive
        for seed in range(40):
            assert alive <= 6
            alive += 1
            yield str(seed), noise(4000, seed).view(Sound)

    found = nearest_sounds(noise(4000, 33)[None], library(), SAMPLE_RATE, block_samples=4 * 8192)
    assert found.names == (("33",),)


def test_a_copy_is_found_at_distance_zero() -> None:
    found = nearest_sounds(LIBRARY[7][1][None], LIBRARY, SAMPLE_RATE, k=2)
    assert found.names[0][0] == "7.wav"
    assert found.distances[0, 0] < ROUNDING < SAME < found.distances[0, 1]


def test_quiet_sounds_are_told_apart_above_a_floor_of_their_own() -> None:
    quiet = [(name, 1e-4 * sound) for name, sound in LIBRARY]
    absolute, relative = (
        nearest_sounds(quiet[7][1][None], quiet, SAMPLE_RATE, k=2, mel=mel).distances[0, 1]
        for mel in (None, relative_mel(SAMPLE_RATE, -100.0))
    )
    assert absolute < SAME < 1 < relative


def test_a_scaled_copy_is_found_at_its_gain() -> None:
    loud = [(name, 3 * sound) for name, sound in LIBRARY]  # all bands well above the floor
    found = nearest_sounds(loud[8][1][None] / 1.5, loud, SAMPLE_RATE)
    assert found.names == (("8.wav",),)
    np.testing.assert_allclose(found.distances, 20 * np.log10(1.5), rtol=0.05)  # a few bands lie at the floor


def test_sounds_at_equal_distances_keep_their_order() -> None:
    twice = [("again", LIBRARY[0][1]), *LIBRARY, ("and again", LIBRARY[0][1])]
    found = nearest_sounds(LIBRARY[0][1][None], twice, SAMPLE_RATE, k=3, block_samples=1)
    assert found.names == (("again", "0.wav", "and again"),)


def test_memorization_separates_copies_from_new_sounds() -> None:
    rng = np.random.default_rng(5)
    library = [(str(seed), noise(4000, seed)) for seed in range(8)]
    held_out = np.stack([noise(4000, seed + 100) * gain for seed, gain in enumerate((1, 2, 3))])
    copies = np.stack([library[i][1] for i in (0, 1, 2)]) + rng.normal(0, 1e-4, (3, 4000)).astype(np.float32)
    learned = memorization(copies, held_out, iter(library), SAMPLE_RATE)
    assert learned.generated < 0.1 * learned.held_out
    fresh = memorization(held_out[::-1], held_out, iter(library), SAMPLE_RATE)
    assert fresh.generated == pytest.approx(fresh.held_out, abs=ROUNDING)
    nearest_real = nearest_sounds(held_out, library, SAMPLE_RATE).distances
    np.testing.assert_allclose(learned.held_out, np.median(nearest_real), atol=ROUNDING)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: nearest_sounds(np.zeros(5), LIBRARY, SAMPLE_RATE), "samples"),
        (lambda: nearest_sounds(np.full((1, 5), np.nan), LIBRARY, SAMPLE_RATE), "samples"),
        (lambda: nearest_sounds(SAMPLES, LIBRARY, SAMPLE_RATE, k=0), "k"),
        (lambda: nearest_sounds(SAMPLES, [], SAMPLE_RATE), "library"),
        (lambda: nearest_sounds(SAMPLES, LIBRARY, SAMPLE_RATE, k=10), "library"),
        (lambda: nearest_sounds(SAMPLES, [("x", np.zeros((2, 9)))], SAMPLE_RATE), "library"),
        (lambda: nearest_sounds(SAMPLES, [("x", np.zeros(0))], SAMPLE_RATE), "library"),
        (lambda: memorization(SAMPLES, SAMPLES[:, 1:], LIBRARY, SAMPLE_RATE), "held_out"),
        (lambda: memorization(SAMPLES, SAMPLES, zip("abc", SAMPLES), SAMPLE_RATE), "held_out"),
    ],
)
def test_a_wrong_argument_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()

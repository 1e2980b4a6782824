import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wavesynth.errors import UserError
from wavesynth.timbre.interpolation import arc, held, looped, shifted, stretched
from wavesynth.timbre.timbre import Timbre, lerp, mean, onset_at, slerp

A = Timbre(np.array([1.0, 2.0], np.float32), "one")
B = Timbre(np.array([3.0, -2.0], np.float32), "one")
EPS = float(np.finfo(np.float32).eps)
latents = st_numpy.arrays(np.float32, 6, elements=st.floats(-4, 4, width=32))
paths = pytest.mark.parametrize("path", [lerp, slerp])


def test_arithmetic_is_that_of_the_latents():
    np.testing.assert_array_equal((A + 0.5 * (B - A)).latent, [2.0, 0.0])


@paths
def test_the_ends_of_a_path_are_exact(path):
    np.testing.assert_array_equal(path(A, B, 0).latent, A.latent)
    np.testing.assert_array_equal(path(A, B, 1).latent, B.latent)
    np.testing.assert_array_equal(path(A, A, 0.3).latent, A.latent)


@paths
@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_beyond_the_ends_is_an_error(path, t):
    with pytest.raises(UserError, match="t is"):
        path(A, B, t)


def test_timbres_of_two_synths_do_not_mix():
    with pytest.raises(UserError, match=r"one.*two|two.*one"):
        A + Timbre(B.latent, "two")
    with pytest.raises(UserError, match=r"one.*two|two.*one"):
        slerp(A, Timbre(B.latent, "two"), 0.5)


# Arcs.


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(np.float64(a), b) / (np.linalg.norm(np.float64(a)) * np.linalg.norm(np.float64(b))))


@given(a=latents, b=latents, t=st.floats(0, 1))
def test_an_arc_goes_from_one_length_to_the_other(a: np.ndarray, b: np.ndarray, t: float):
    point = arc(a, b, t)
    assert point.dtype == np.float32
    assert np.isfinite(point).all()
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    # Ends that are alike, opposite or zero have no arc: those are joined by a line.
    if min(lengths) > 1e-3 and abs(cosine(a, b)) < 1 - 1e-4:
        expected = (1 - t) * lengths[0] + t * lengths[1]
        assert np.linalg.norm(point) == pytest.approx(expected, rel=1_000 * EPS)  # by the sine of an angle that small
    np.testing.assert_array_equal(arc(a, b, 0), a)
    np.testing.assert_array_equal(arc(a, b, 1), b)


def test_half_way_lies_amid_the_ends():
    a, b = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    middle = arc(a, b, 0.5)
    assert cosine(a, middle) == pytest.approx(cosine(b, middle), abs=64 * EPS)
    assert cosine(a, middle) == pytest.approx(math.cos(math.acos(cosine(a, b)) / 2), abs=64 * EPS)
    third = arc(a, b, 1 / 3)
    assert cosine(a, third) == pytest.approx(math.cos(math.acos(cosine(a, b)) / 3), abs=64 * EPS)


def test_between_points_of_a_shell_an_arc_stays_on_it_and_a_line_does_not():
    a, b = np.random.default_rng(1).standard_normal((2, 100))
    a, b = (np.float32(10 * end / np.linalg.norm(end)) for end in (a, b))
    lengths = [np.linalg.norm(arc(a, b, t)) for t in np.linspace(0, 1, 9)]
    np.testing.assert_allclose(lengths, 10, rtol=64 * EPS)
    assert np.linalg.norm(lerp(Timbre(a, "one"), Timbre(b, "one"), 0.5).latent) < 9


@pytest.mark.parametrize(
    ("a", "b"), [([3, 4], [3, 4]), ([3, 4], [-3, -4]), ([0, 0], [3, 4]), ([3, 4], [0, 0]), ([0, 0], [0, 0])]
)
def test_ends_without_an_arc_are_joined_by_a_line(a: list, b: list):
    first, last = np.float32(a), np.float32(b)
    np.testing.assert_allclose(arc(first, last, 0.25), 0.75 * first + 0.25 * last, rtol=4 * EPS)


# Paths.

SHORT = Timbre(np.float32([[1, 0], [2, 0]]), "one", frame_rate=10.0, pitch=60.0, seconds=0.2, onset=0.0)
LONG = Timbre(np.float32([[0, 1], [0, 2], [0, 3], [0, 4]]), "one", frame_rate=10.0, pitch=72.0, seconds=0.4, onset=0.1)


def test_the_last_frame_of_the_shorter_path_is_held():
    np.testing.assert_array_equal((SHORT + LONG).latent, [[1, 1], [2, 2], [2, 3], [2, 4]])
    step = Timbre(np.float32([[10, 0]]), "one", frame_rate=10.0)
    np.testing.assert_array_equal((LONG + 2 * step).latent, [[20, 1], [20, 2], [20, 3], [20, 4]])
    np.testing.assert_array_equal(lerp(SHORT, LONG, 0.5).latent, [[0.5, 0.5], [1, 1], [1, 1.5], [1, 2]])
    assert slerp(SHORT, LONG, 0.5).latent.shape == (4, 2)


def test_what_is_known_goes_along():
    half = lerp(SHORT, LONG, 0.5)
    assert (half.pitch, half.seconds, half.onset) == pytest.approx((66.0, 0.3, 0.05))
    assert lerp(SHORT, Timbre(LONG.latent, "one", 10.0), 0.5).pitch == 60.0
    assert SHORT.pitch == 60.0  # nothing that is given changes


@paths
def test_beyond_the_ends_only_when_asked(path):
    assert np.isfinite(path(A, B, 1.5, extrapolate=True).latent).all()
    np.testing.assert_array_equal(lerp(A, B, 1.5, extrapolate=True).latent, 1.5 * B.latent - 0.5 * A.latent)
    with pytest.raises(UserError, match="t is nan"):
        path(A, B, math.nan, extrapolate=True)


def test_the_mean_of_timbres():
    np.testing.assert_array_equal(mean([A, B]).latent, [2.0, 0.0])
    of_paths = mean([SHORT, LONG])
    np.testing.assert_array_equal(of_paths.latent, [[0.5, 0.5], [1, 1], [1, 1.5], [1, 2]])
    assert of_paths.pitch == 66.0
    with pytest.raises(UserError, match="timbres is empty"):
        mean([])


def test_filling_a_path():
    path = np.float32([[0], [1], [2]])
    assert held(path, 5).ravel().tolist() == [0, 1, 2, 2, 2]
    assert looped(path, 5).ravel().tolist() == [0, 1, 2, 0, 1]
    assert stretched(path, 5).ravel().tolist() == [0, 0.5, 1, 1.5, 2]
    assert held(path, 2).ravel().tolist() == looped(path, 2).ravel().tolist() == [0, 1]
    assert shifted(path, 1).ravel().tolist() == [0, 0, 1]
    assert shifted(path, -0.5).ravel().tolist() == [0.5, 1.5, 2]
    assert stretched(path, 1).ravel().tolist() == [0]


# Files.


@pytest.mark.parametrize("timbre", [A, LONG], ids=["point", "path"])
def test_a_timbre_comes_back_from_its_file(timbre: Timbre, tmp_path):
    timbre.save(tmp_path / "new" / "a.json")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.json", "a.safetensors"]
    back = Timbre.load(tmp_path / "new" / "a.json")
    np.testing.assert_array_equal(back.latent, timbre.latent)
    known = ("synth", "frame_rate", "pitch", "seconds", "onset")
    assert [getattr(back, name) for name in known] == [getattr(timbre, name) for name in known]


def test_a_timbre_is_not_overwritten_unasked(tmp_path):
    A.save(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a.json exists"):
        B.save(tmp_path / "a.json")
    B.save(tmp_path / "a.json", force=True)
    np.testing.assert_array_equal(Timbre.load(tmp_path / "a.json").latent, B.latent)
    with pytest.raises(UserError, match=r"ends in .json"):
        A.save(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "damage", ["missing", "no json", "another json", "no numbers", "cut numbers", "unknown field", "odd pitch"]
)
def test_a_file_that_is_no_timbre_is_named(damage: str, tmp_path):
    path, numbers = tmp_path / "a.json", tmp_path / "a.safetensors"
    A.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "no json":
        path.write_text("{")
    elif damage == "another json":
        path.write_text('{"format": 2}')
    elif damage == "no numbers":
        numbers.unlink()
    elif damage == "cut numbers":
        numbers.write_bytes(numbers.read_bytes()[:-3])
    elif damage == "odd pitch":
        path.write_text(path.read_text().replace('"pitch": null', '"pitch": "C4"'))
    else:
        path.write_text(path.read_text().replace('"synth"', '"sinth"'))
    with pytest.raises(UserError, match=r"a\.json"):
        Timbre.load(path)


def test_a_path_can_begin_at_another_time():
    moved = onset_at(LONG, 0.0)
    np.testing.assert_array_equal(moved.latent, [[0, 2], [0, 3], [0, 4], [0, 4]])
    assert moved.onset == 0.0
    for timbre in (A, Timbre(LONG.latent, "one", 10.0)):
        assert onset_at(timbre, 0.0) is timbre

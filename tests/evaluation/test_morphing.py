"""Metrics of morphs on signals of known quality.

Each toy path fails the gate that was made to catch it, and a morph passes all of them.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tolerances import rounding
from wavesynth.audio.files import read
from wavesynth.errors import UserError
from wavesynth.evaluation.analysis import Analysis
from wavesynth.evaluation.morphing import GATES, MorphMetrics, beyond_mixing, crossfade, judge, table

SAMPLE_RATE = 16_000
STEPS = 17
TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
HALFWAY = np.sin(np.pi * np.arange(STEPS) / (STEPS - 1))[:, None]  # 0 at both ends, 1 in the middle
ROUNDING_DB = rounding("float32", terms=1024, scale=60)  # of a level or a log-mel value
ROUNDING_SHARE = rounding("float32", terms=17_000)  # of a norm over a spectrogram


def judged(path: np.ndarray, sample_rate: int = SAMPLE_RATE) -> MorphMetrics:
    return judge(Analysis(path, sample_rate))


def at_one_level(sounds: np.ndarray) -> np.ndarray:
    return 0.1 * sounds / np.sqrt(np.mean(np.square(sounds), axis=-1, keepdims=True))


def tone(share: float, f0: float = 220.0) -> np.ndarray:
    """A decaying harmonic tone; with `share` its formant moves from 400 to 2500 Hz, its attack from 5 to 100 ms."""
    hz = f0 * np.arange(1, 30)
    amplitude = np.exp(-0.5 * (np.log2(hz / (400 * 6.25**share)) / 0.6) ** 2)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, hz.shape)
    waves = amplitude @ np.sin(2 * np.pi * np.outer(hz, TIME) + phase[:, None])
    return at_one_level(waves * np.minimum(TIME / (0.005 * 20**share), 1) * np.exp(-1.5 * TIME))


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, SAMPLE_RATE)


MORPH = np.stack([tone(share) for share in np.linspace(0, 1, STEPS)])
A, B = MORPH[0], MORPH[-1]
SWITCH = np.stack([A] * 9 + [B] * 8)
VIA_NOISE = at_one_level(np.concatenate([crossfade(A, noise(), 9), crossfade(noise(), B, 9)[1:]]))


class TestToys:
    def test_a_morph_passes_every_gate(self) -> None:
        metrics = judged(MORPH)
        assert metrics.failed == ()
        assert 1 <= metrics.evenness < 1.3
        assert 0.65 < metrics.directness < 0.85
        assert metrics.centroid == metrics.attack == 1
        assert metrics.not_a_crossfade > 0.6
        assert abs(metrics.loudness_dip) < ROUNDING_DB

    @pytest.mark.parametrize("other", [B, tone(1, f0=330.0)])
    def test_a_crossfade_is_called_one(self, other: np.ndarray) -> None:
        metrics = judged(crossfade(A, other, STEPS))
        assert {"evenness", "not_a_crossfade", "loudness_dip"} <= set(metrics.failed)
        assert 4 < metrics.evenness < 6
        assert metrics.directness > 0.95
        assert metrics.centroid == 1
        assert metrics.not_a_crossfade < 0.001
        assert metrics.loudness_dip == pytest.approx(20 * np.log10(np.sqrt(0.5)), abs=0.1)  # they correlate a little

    @pytest.mark.parametrize(
        "b", [-B, np.pad(B, (24, 0))[:SAMPLE_RATE], 5 * B], ids=["upside down", "1.5 ms late", "louder"]
    )
    def test_a_mix_of_any_phase_and_gain_is_a_crossfade(self, b: np.ndarray) -> None:
        path = np.stack([A, at_one_level(A + b), B])
        assert "not_a_crossfade" in judged(path).failed

    def test_a_crossfade_of_notes_with_different_onsets_is_one_too(self) -> None:
        late = np.pad(B, (800, 0))[:SAMPLE_RATE]
        assert judged(crossfade(A, late, STEPS)).not_a_crossfade < 0.001

    def test_a_switch_is_uneven(self) -> None:
        metrics = judged(SWITCH)
        assert {"evenness", "monotone", "not_a_crossfade"} == set(metrics.failed)
        np.testing.assert_allclose(metrics.evenness, 16)
        np.testing.assert_allclose(metrics.directness, 1)
        np.testing.assert_allclose(metrics.centroid, 72 / 136)  # 9 times 8 of all pairs of 17
        assert metrics.not_a_crossfade < ROUNDING_SHARE
        assert abs(metrics.loudness_dip) < ROUNDING_DB

    def test_a_detour_through_noise_is_not_monotone(self) -> None:
        metrics = judged(VIA_NOISE)
        assert "monotone" in metrics.failed
        assert metrics.centroid is not None
        assert metrics.centroid < 0.5
        assert metrics.directness < 0.6 * judged(crossfade(A, B, STEPS)).directness

    def test_an_even_detour_is_not_direct(self) -> None:
        """To a third tone and back to near the first."""
        path = np.stack([tone(share) for share in [*np.linspace(0, 1, 9), *np.linspace(1, 0.1, 9)[1:]]])
        assert {"directness", "monotone"} <= set(judged(path).failed)

    @pytest.mark.parametrize(("depth", "failed"), [(0.1, ()), (0.4, ("loudness_dip",))])
    def test_a_dip_fails_by_its_depth_alone(self, depth: float, failed: tuple[str, ...]) -> None:
        metrics = judged(MORPH * (1 - depth * HALFWAY))
        assert metrics.failed == failed
        assert metrics.loudness_dip == pytest.approx(20 * np.log10(1 - depth), abs=ROUNDING_DB)


class TestInvariance:
    @pytest.mark.parametrize(("first", "last"), [(0.05, 1.0), (1.0, 0.3), (0.1, 0.1)])
    def test_an_even_change_of_gain_changes_nothing(self, first: float, last: float) -> None:
        scaled = judged(MORPH * np.geomspace(first, last, STEPS)[:, None])
        plain = judged(MORPH)
        for name in ("evenness", "directness", "centroid", "attack", "not_a_crossfade", "loudness_dip"):
            # The search for the best mix ends at steps of 1e-4.
            np.testing.assert_allclose(
                getattr(scaled, name), getattr(plain, name), atol=1e-4 + ROUNDING_DB, err_msg=name
            )

    def test_backwards_is_as_good(self) -> None:
        forth, back = judged(MORPH), judged(MORPH[::-1])
        for name in ("evenness", "directness", "monotone", "not_a_crossfade"):
            np.testing.assert_allclose(getattr(back, name), getattr(forth, name), rtol=1e-4)  # the search's last step

    def test_different_onsets_count_little(self) -> None:
        shifts = np.random.default_rng(2).integers(0, 800, STEPS)
        shifted = np.stack([np.pad(sound, (shift, 0))[:SAMPLE_RATE] for sound, shift in zip(MORPH, shifts)])
        plain, late = judged(MORPH), judged(shifted)
        np.testing.assert_allclose(late.evenness, plain.evenness, rtol=0.25)
        np.testing.assert_allclose(late.directness, plain.directness, rtol=0.15)

    def test_a_path_that_stands_still(self) -> None:
        still = judged(np.stack([A] * STEPS))
        assert (still.evenness, still.directness, still.monotone) == (1, 1, None)
        assert still.not_a_crossfade < ROUNDING_SHARE
        assert still.failed == ("not_a_crossfade",)

    @pytest.mark.parametrize("silent", [[0], [-1], [0, -1], [8], range(STEPS)])
    def test_silence_leaves_every_metric_finite(self, silent: list[int]) -> None:
        path = MORPH.copy()
        path[silent] = 0
        metrics = judged(path)
        for name in ("evenness", "directness", "not_a_crossfade", "loudness_dip"):
            assert np.isfinite(getattr(metrics, name))
        assert metrics.failed
        assert (metrics.monotone is None) == (list(silent) != [8])

    def test_the_fewest_and_the_shortest_sounds(self) -> None:
        assert judged(MORPH[[0, 8, 16]]).centroid == 1
        assert np.isfinite(judged(np.eye(3, 7)).evenness)

    def test_of_two_middle_sounds_the_one_nearer_to_a_crossfade_counts(self) -> None:
        assert judged(MORPH[[0, 5, 11, 16]]).not_a_crossfade > 0.06
        assert judged(np.stack([A, B, MORPH[8], B])).not_a_crossfade < ROUNDING_SHARE

    def test_stereo_is_judged_by_its_mix(self) -> None:
        stereo = np.stack([2 * MORPH, np.zeros_like(MORPH)], axis=1)
        mixed, plain = judged(stereo), judged(MORPH)
        for name in ("evenness", "directness", "centroid", "not_a_crossfade", "loudness_dip"):
            np.testing.assert_allclose(getattr(mixed, name), getattr(plain, name), atol=ROUNDING_DB, err_msg=name)


class TestRealNotes:
    @pytest.fixture
    def notes(self, sounds: Path) -> list[np.ndarray]:
        labels = ["cello", "church-organ", "flute", "trumpet"]
        return [at_one_level(read(sounds / label / f"{label}_060_100.flac", SAMPLE_RATE)[0]) for label in labels]

    def test_the_crossfade_of_two_notes_of_one_pitch_is_recognised(self, notes: list[np.ndarray]) -> None:
        """Their partials cancel and add: the magnitudes alone, mixed, leave a quarter of the middle unexplained."""
        for a, b in itertools.combinations(notes, 2):
            metrics = judged(crossfade(a, b, STEPS))
            assert metrics.not_a_crossfade < 0.002
            assert metrics.loudness_dip < GATES["loudness_dip"].bound

    def test_the_geometric_mean_of_their_spectra_is_more(self, notes: list[np.ndarray]) -> None:
        for a, b in itertools.combinations(notes, 2):
            assert judged(np.stack([a, geometric_mean(a, b), b])).not_a_crossfade > 0.06


def geometric_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sound whose spectrogram is the geometric mean of two, in the phases of the first."""
    hann = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024))
    starts = range(0, len(a) - 1023, 256)
    mean = np.zeros(len(a))
    for start in starts:
        one, other = (np.fft.rfft(hann * x[start : start + 1024]) for x in (a, b))
        mean[start : start + 1024] += hann * np.fft.irfft(np.sqrt(np.abs(other) / np.maximum(np.abs(one), 1e-9)) * one)
    return mean


class TestMixing:
    @settings(max_examples=30)
    @given(st.floats(0, 1.5), st.floats(0, 1.5), st.integers(0, 100))
    def test_no_mix_is_beyond_mixing(self, p: float, q: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 200, 2)) @ np.array([1, 1j])
        assert beyond_mixing(np.abs(p * a + q * b), np.abs(a), np.abs(b)) < 0.03  # the search may end beside it

    @settings(max_examples=30)
    @given(st.floats(0, np.pi / 2))
    def test_what_lies_outside_is_the_sine_of_its_angle(self, angle: float) -> None:
        target = np.cos(angle) * np.array([0.6, 0.8, 0]) + np.sin(angle) * np.array([0, 0, 1])
        assert beyond_mixing(target, [1, 0, 0], [0, 1, 0]) == pytest.approx(np.sin(angle), abs=5e-4)  # steps of 1e-4

    def test_ends_of_zeros(self) -> None:
        assert beyond_mixing([0, 0], [1, 0], [0, 1]) == 0
        assert beyond_mixing([1, 0], [0, 0], [0, 0]) == 1
        assert beyond_mixing([1, 1], [0, 0], [1, 0]) == pytest.approx(np.sqrt(0.5), abs=rounding("float32", terms=2))


def test_the_table_names_what_fails() -> None:
    metrics = MorphMetrics(2.5, 1.0, 0.04, -3.0, centroid=0.8, attack=1.0)
    assert metrics.monotone == 0.9
    lines = table({"a morph": MorphMetrics(1.15, 0.69, 0.4, 0.0), "mix": metrics}).splitlines()
    assert lines[1].split() == ["a", "morph", "1.15", "0.69", "–", "0.40", "0.00"]
    assert lines[2].split() == ["mix", "2.50*", "1.00", "0.90", "0.04*", "-3.00*"]
    assert lines[3].split()[0] == "gate"
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: judged(MORPH[:2]), "morph"),
        (lambda: judged(A), "sounds"),
        (lambda: judged(MORPH, 60), "sample_rate"),
        (lambda: crossfade(A, B[1:], STEPS), "b"),
        (lambda: crossfade(A, B, 1), "steps"),
    ],
)
def test_a_wrong_argument_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()

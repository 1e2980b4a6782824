"""Metrics of morphs and descriptors of sounds on signals whose answer is known.

Each toy path fails the gate that was made to catch it, and a morph passes all of them.
"""

import doctest
import importlib
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavesynth.audio.files import read
from wavesynth.errors import UserError
from wavesynth.evaluation.descriptors import attack_time, level, onset_time, spectral_centroid, spectral_flatness
from wavesynth.evaluation.morphing import GATES, MorphMetrics, beyond_mixing, crossfade, judge, table

SAMPLE_RATE = 16_000
STEPS = 17
TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
HALFWAY = np.sin(np.pi * np.arange(STEPS) / (STEPS - 1))[:, None]  # 0 at both ends, 1 in the middle


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
        metrics = judge(MORPH, SAMPLE_RATE)
        assert metrics.failed == ()
        assert 1 <= metrics.evenness < 1.3
        assert 0.65 < metrics.directness < 0.85
        assert metrics.centroid == metrics.attack == 1
        assert metrics.not_a_crossfade > 0.6
        assert abs(metrics.loudness_dip) < 1e-3

    @pytest.mark.parametrize("other", [B, tone(1, f0=330.0)])
    def test_a_crossfade_is_called_one(self, other: np.ndarray) -> None:
        metrics = judge(crossfade(A, other, STEPS), SAMPLE_RATE)
        assert {"evenness", "not_a_crossfade", "loudness_dip"} <= set(metrics.failed)
        assert 4 < metrics.evenness < 6
        assert metrics.directness > 0.95
        assert metrics.centroid == 1
        assert metrics.not_a_crossfade < 0.001
        np.testing.assert_allclose(metrics.loudness_dip, -3, atol=0.1)

    @pytest.mark.parametrize(
        "b", [-B, np.pad(B, (24, 0))[:SAMPLE_RATE], 5 * B], ids=["upside down", "1.5 ms late", "louder"]
    )
    def test_a_mix_is_a_crossfade_whatever_its_phase_and_gain(self, b: np.ndarray) -> None:
        path = np.stack([A, at_one_level(A + b), B])
        assert "not_a_crossfade" in judge(path, SAMPLE_RATE).failed

    def test_a_crossfade_of_notes_out_of_line_is_one_too(self) -> None:
        late = np.pad(B, (800, 0))[:SAMPLE_RATE]
        assert judge(crossfade(A, late, STEPS), SAMPLE_RATE).not_a_crossfade < 0.001

    def test_a_switch_is_uneven(self) -> None:
        metrics = judge(SWITCH, SAMPLE_RATE)
        assert {"evenness", "monotone", "not_a_crossfade"} == set(metrics.failed)
        np.testing.assert_allclose(metrics.evenness, 16)
        np.testing.assert_allclose(metrics.directness, 1)
        np.testing.assert_allclose(metrics.centroid, 72 / 136)  # 9 times 8 of all pairs of 17
        assert metrics.not_a_crossfade < 1e-6
        np.testing.assert_allclose(metrics.loudness_dip, 0, atol=1e-5)

    def test_a_way_round_through_noise_is_not_monotone(self) -> None:
        metrics = judge(VIA_NOISE, SAMPLE_RATE)
        assert "monotone" in metrics.failed
        assert metrics.centroid is not None
        assert metrics.centroid < 0.5
        assert metrics.directness < 0.6 * judge(crossfade(A, B, STEPS), SAMPLE_RATE).directness

    def test_an_even_way_round_is_not_direct(self) -> None:
        """To a third tone and back to near the first."""
        path = np.stack([tone(share) for share in [*np.linspace(0, 1, 9), *np.linspace(1, 0.1, 9)[1:]]])
        assert {"directness", "monotone"} <= set(judge(path, SAMPLE_RATE).failed)

    @pytest.mark.parametrize(("depth", "failed"), [(0.1, ()), (0.4, ("loudness_dip",))])
    def test_a_dip_fails_by_its_depth_alone(self, depth: float, failed: tuple[str, ...]) -> None:
        metrics = judge(MORPH * (1 - depth * HALFWAY), SAMPLE_RATE)
        assert metrics.failed == failed
        np.testing.assert_allclose(metrics.loudness_dip, 20 * np.log10(1 - depth), atol=1e-3)


class TestWhatCountsAndWhatDoesNot:
    @settings(max_examples=10)
    @given(st.floats(0.05, 1), st.floats(0.05, 1))
    def test_an_even_change_of_gain_is_free(self, first: float, last: float) -> None:
        path = MORPH[::4]
        louder = path * np.geomspace(first, last, len(path))[:, None]
        plain, scaled = judge(path, SAMPLE_RATE), judge(louder, SAMPLE_RATE)
        for name in ("evenness", "directness", "centroid", "attack", "not_a_crossfade", "loudness_dip"):
            np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), atol=2e-3, err_msg=name)

    def test_backwards_is_as_good(self) -> None:
        forth, back = judge(MORPH, SAMPLE_RATE), judge(MORPH[::-1], SAMPLE_RATE)
        for name in ("evenness", "directness", "monotone", "not_a_crossfade"):
            np.testing.assert_allclose(getattr(back, name), getattr(forth, name), rtol=1e-4)

    def test_onsets_are_brought_into_line(self) -> None:
        shifts = np.random.default_rng(2).integers(0, 800, STEPS)
        shifted = np.stack([np.pad(sound, (shift, 0))[:SAMPLE_RATE] for sound, shift in zip(MORPH, shifts)])
        plain, late = judge(MORPH, SAMPLE_RATE), judge(shifted, SAMPLE_RATE)
        np.testing.assert_allclose(late.evenness, plain.evenness, rtol=0.25)
        np.testing.assert_allclose(late.directness, plain.directness, rtol=0.15)

    def test_a_path_that_stands_still(self) -> None:
        still = judge(np.stack([A] * 5), SAMPLE_RATE)
        assert (still.evenness, still.directness, still.monotone) == (1, 1, None)
        assert still.not_a_crossfade < 1e-6
        assert still.failed == ("not_a_crossfade",)

    @pytest.mark.parametrize("silent", [[0], [-1], [0, -1], [8], range(STEPS)])
    def test_silence_leaves_every_figure_finite(self, silent: list[int]) -> None:
        path = MORPH.copy()
        path[silent] = 0
        metrics = judge(path, SAMPLE_RATE)
        for name in ("evenness", "directness", "not_a_crossfade", "loudness_dip"):
            assert np.isfinite(getattr(metrics, name))
        assert metrics.failed
        assert (metrics.monotone is None) == (list(silent) != [8])

    def test_few_sounds_and_short_ones(self) -> None:
        assert judge(MORPH[[0, 8, 16]], SAMPLE_RATE).centroid == 1
        even = judge(MORPH[[0, 5, 11, 16]], SAMPLE_RATE)  # two in the middle
        assert even.not_a_crossfade > 0.06
        switched = judge(np.stack([A, B, MORPH[8], B]), SAMPLE_RATE)
        assert switched.not_a_crossfade < 1e-6
        assert np.isfinite(judge(np.eye(3, 7), SAMPLE_RATE).evenness)


class TestRealNotes:
    @pytest.fixture
    def notes(self, sounds: Path) -> list[np.ndarray]:
        labels = ["cello", "church-organ", "flute", "trumpet"]
        return [at_one_level(read(sounds / label / f"{label}_060_100.flac", SAMPLE_RATE)[0]) for label in labels]

    def test_two_notes_of_one_pitch_crossfaded_are_called_that(self, notes: list[np.ndarray]) -> None:
        """Their partials cancel and add: the magnitudes alone, mixed, leave a quarter of the middle unexplained."""
        for a, b in itertools.combinations(notes, 2):
            metrics = judge(crossfade(a, b, STEPS), SAMPLE_RATE)
            assert metrics.not_a_crossfade < 0.002
            assert metrics.loudness_dip < GATES["loudness_dip"].bound

    def test_the_geometric_mean_of_their_spectra_is_more(self, notes: list[np.ndarray]) -> None:
        for a, b in itertools.combinations(notes, 2):
            assert judge(np.stack([a, geometric_mean(a, b), b]), SAMPLE_RATE).not_a_crossfade > 0.06


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
    @given(st.floats(0, 1.5), st.floats(0, 1.5), st.integers(0, 100))
    def test_no_mix_is_beyond_mixing(self, p: float, q: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 200, 2)) @ np.array([1, 1j])
        assert beyond_mixing(np.abs(p * a + q * b), np.abs(a), np.abs(b)) < 0.03

    @given(st.floats(0, np.pi / 2))
    def test_what_lies_outside_is_the_sine_of_its_angle(self, angle: float) -> None:
        target = np.cos(angle) * np.array([0.6, 0.8, 0]) + np.sin(angle) * np.array([0, 0, 1])
        np.testing.assert_allclose(beyond_mixing(target, [1, 0, 0], [0, 1, 0]), np.sin(angle), atol=1e-3)

    def test_ends_of_zeros(self) -> None:
        assert beyond_mixing([0, 0], [1, 0], [0, 1]) == 0
        assert beyond_mixing([1, 0], [0, 0], [0, 0]) == 1
        np.testing.assert_allclose(beyond_mixing([1, 1], [0, 0], [1, 0]), np.sqrt(0.5), atol=1e-6)


class TestDescriptors:
    @pytest.mark.parametrize("hz", [100.0, 440.0, 3000.0])
    def test_centroid(self, hz: float) -> None:
        np.testing.assert_allclose(spectral_centroid(np.sin(2 * np.pi * hz * TIME), SAMPLE_RATE), hz, rtol=0.01)
        two = np.sin(2 * np.pi * 1000 * TIME) + 0.5 * np.sin(2 * np.pi * 3000 * TIME)
        np.testing.assert_allclose(spectral_centroid(two, SAMPLE_RATE), (1000 + 0.25 * 3000) / 1.25, rtol=0.01)

    def test_flatness(self) -> None:
        assert -0.5 < spectral_flatness(noise()) <= 0
        assert spectral_flatness(np.sin(2 * np.pi * 1000 * TIME)) < -40
        impulse = np.zeros(8192)
        impulse[4096] = 1
        np.testing.assert_allclose(spectral_flatness(impulse), 0, atol=1e-2)

    @pytest.mark.parametrize("seconds", [0.03, 0.1, 0.4])
    def test_attack_and_onset(self, seconds: float) -> None:
        ramp = np.clip((TIME - 0.2) / seconds, 0, 1) * np.sin(2 * np.pi * 500 * TIME)
        np.testing.assert_allclose(attack_time(ramp, SAMPLE_RATE), 0.4 * seconds, atol=0.003)
        np.testing.assert_allclose(onset_time(ramp, SAMPLE_RATE), 0.2 + 0.1 * seconds, atol=0.015)

    def test_attack_of_a_sudden_sound(self) -> None:
        for rate in (8_000, 16_000, 44_100):
            assert 0.003 < attack_time(np.sin(np.arange(rate)), rate) < 0.006
            assert 0 <= onset_time(np.sin(np.arange(rate)), rate) < 0.003

    def test_gain_is_not_timbre(self) -> None:
        sounds = np.stack([MORPH[::8], 0.01 * MORPH[::8]])
        for values in (
            spectral_centroid(sounds, SAMPLE_RATE),
            spectral_flatness(sounds),
            attack_time(sounds, SAMPLE_RATE),
        ):
            assert values.shape == (2, 3)
            np.testing.assert_allclose(values[0], values[1], rtol=1e-3)
        np.testing.assert_allclose(level(sounds), [[-20] * 3, [-60] * 3], atol=1e-3)

    def test_silence_has_none(self) -> None:
        sounds = np.stack([A, np.zeros_like(A)])
        for measure in (lambda x: spectral_centroid(x, SAMPLE_RATE), spectral_flatness):
            assert np.isnan(np.asarray(measure(sounds))).tolist() == [False, True]
            gradient = jax.grad(lambda x, measure=measure: jnp.nansum(measure(x)))(jnp.asarray(sounds, jnp.float32))
            assert np.isfinite(gradient).all()
            assert gradient[0].any()
        assert np.isnan(np.asarray(attack_time(sounds, SAMPLE_RATE))).tolist() == [False, True]
        np.testing.assert_allclose(level(np.zeros(10)), -90.31, atol=0.01)

    def test_gradient_of_the_centroid_is_its_slope(self) -> None:
        sound, direction = jnp.asarray(MORPH[4], jnp.float32), jnp.asarray(MORPH[12], jnp.float32)
        along = jax.jit(lambda t: spectral_centroid(sound + t * direction, SAMPLE_RATE))
        slope = (along(0.05) - along(-0.05)) / 0.1
        np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=0.02)


def test_the_table_names_what_fails() -> None:
    metrics = MorphMetrics(2.5, 1.0, 0.04, -3.0, centroid=0.8, attack=1.0)
    assert metrics.monotone == 0.9
    lines = table({"a morph": MorphMetrics(1.15, 0.69, 0.4, 0.0), "mix": metrics}).splitlines()
    assert lines[1].split() == ["a", "morph", "1.15", "0.69", "–", "0.40", "0.00"]
    assert lines[2].split() == ["mix", "2.50*", "1.00", "0.90", "0.04*", "-3.00*"]
    assert lines[3].split()[0] == "gate"
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("module", ["descriptors", "morphing", "frechet", "bootstrap", "neighbours"])
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"wavesynth.evaluation.{module}"), extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: judge(MORPH[:2], SAMPLE_RATE), "path"),
        (lambda: judge(A, SAMPLE_RATE), "path"),
        (lambda: judge(np.zeros((3, 0)), SAMPLE_RATE), "path"),
        (lambda: judge(np.full((3, 9), np.inf), SAMPLE_RATE), "path"),
        (lambda: judge(MORPH, 60), "sample_rate"),
        (lambda: attack_time(A, 900), "sample_rate"),
        (lambda: crossfade(A, B[1:], STEPS), "b"),
        (lambda: crossfade(A, B, 1), "steps"),
    ],
)
def test_what_cannot_be_judged_is_named(make, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        make()

"""Discriminators: what they see, what they judge by, and what cannot be one."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import assert_close
from wavesynth.audio.spectral import num_frames
from wavesynth.errors import UserError
from wavesynth.models.discriminators import Discriminators, DiscriminatorsConfig, phase_shuffle, views
from wavesynth.models.functional import initialize, pure

EPS = float(jnp.finfo(jnp.float32).eps)
LENGTH = 1_024
TINY = DiscriminatorsConfig(
    discriminator_channels=4, periods=(2, 3), period_channels=4, spectral_windows=(0.004,), spectral_channels=8,
    sample_rate=16_000,
)  # fmt: skip


def test_views_are_the_sound_its_periods_and_its_spectra():
    sounds = np.random.default_rng(0).standard_normal((2, LENGTH), np.float32)
    wave, *periods, spectrum = views(TINY, jnp.asarray(sounds[:, None]))
    np.testing.assert_array_equal(wave, sounds[..., None])
    for period, view in zip(TINY.periods, periods, strict=True):
        rows = -(-LENGTH // period)
        assert view.shape == (2 * period, rows, 1)
        padded = np.pad(sounds, ((0, 0), (0, rows * period - LENGTH)))
        for example in range(2):
            for phase in range(period):  # every `period`-th sample, an example's phases side by side
                np.testing.assert_array_equal(view[example * period + phase, :, 0], padded[example, phase::period])
    assert spectrum.shape == (2, num_frames(LENGTH, 16), 33)
    silence, tone = views(
        replace(TINY, discriminator_channels=0, periods=()), jnp.stack([jnp.zeros((1, LENGTH)), jnp.ones((1, LENGTH))])
    )[0]
    assert float(silence.max()) == pytest.approx(math.log(1e-3) / 2 + 2)
    assert float(tone.max()) < 2.5


def test_of_stereo_sounds_the_middle_and_the_side_are_seen():
    config = replace(TINY, audio_channels=2)
    left, right = 0.1 * np.random.default_rng(0).standard_normal((2, 3, LENGTH)).astype(np.float32)
    half = np.float32(0.5**0.5)
    wave, *periods, spectrum = views(config, jnp.stack([left, right], axis=1))
    each = [views(TINY, half * part[:, None]) for part in (left + right, left - right)]
    assert_close(wave, np.concatenate([own[0] for own in each], axis=-1), terms=2)
    for index, (period, view) in enumerate(zip(config.periods, periods, strict=True), 1):
        assert view.shape == (3 * period, -(-LENGTH // period), 2)
        assert_close(view, np.concatenate([own[index] for own in each], axis=-1), terms=2)
    assert spectrum.shape == (3, num_frames(LENGTH, 16), 2 * 33)
    # A logarithm magnifies errors of the smallest magnitudes, at the floor of 0.001.
    assert_close(spectrum, np.concatenate([own[-1] for own in each], axis=-1), terms=64, condition=100)


@pytest.mark.parametrize(
    "change", [lambda left, right: (right, -left), lambda left, right: (left, -right), lambda left, right: (left, left)]
)
def test_one_channel_is_told_from_the_other(change: Callable):
    """Swapped with a sign, inverted, or doubled: the side of the sound differs, and so does every judgement."""
    config = replace(TINY, audio_channels=2)
    make = partial(Discriminators, config, LENGTH, 0)
    bind = pure(lambda rngs: make(rngs=rngs))
    params = initialize(lambda rngs: make(rngs=rngs), jax.random.key(0))
    judge = jax.jit(lambda sounds: bind(params)(views(config, sounds), jnp.zeros((1, 0)), jax.random.key(1)))
    left, right = 0.1 * np.random.default_rng(0).standard_normal((2, LENGTH)).astype(np.float32)
    before, after = (np.asarray(judge(np.stack(pair)[None])) for pair in ((left, right), change(left, right)))
    assert before.shape == (1, 4)
    assert (before != after).all()


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 44_100, 96_000])
def test_windows_last_as_long_at_every_rate(sample_rate: int):
    config = DiscriminatorsConfig(spectral_windows=(0.002, 0.015, 0.06, 0.12), sample_rate=sample_rate)
    for seconds, samples in zip(config.spectral_windows, config.spectral_window_samples, strict=True):
        assert samples & (samples - 1) == 0
        assert 2**-0.5 <= samples / sample_rate / seconds <= 2**0.5
    assert replace(config, sample_rate=4_000).spectral_window_samples[0] == 16  # the shortest


def test_phase_shuffle_moves_each_example_and_mirrors_its_edges():
    x = np.random.default_rng(0).standard_normal((64, 9, 2), np.float32)
    moved = np.asarray(phase_shuffle(jnp.asarray(x), 2, jax.random.key(0)))
    padded = np.pad(x, ((0, 0), (2, 2), (0, 0)), mode="reflect")
    found = []
    for before, after in zip(padded, moved, strict=True):
        (shift,) = [shift for shift in range(5) if np.array_equal(before[shift : shift + 9], after)]
        found.append(shift)
    assert set(found) == set(range(5))
    assert not np.array_equal(moved, phase_shuffle(jnp.asarray(x), 2, jax.random.key(1)))


def test_discriminators_judge_each_example_alone_and_know_its_condition():
    make = partial(Discriminators, TINY, LENGTH, 3)
    params, bind, key = (
        initialize(lambda rngs: make(rngs=rngs), jax.random.key(0)),
        pure(lambda rngs: make(rngs=rngs)),
        jax.random.key(1),
    )
    judge = jax.jit(lambda sounds, condition: bind(params)(views(TINY, sounds[:, None]), condition, key))
    sounds = 0.1 * np.random.default_rng(0).standard_normal((3, LENGTH)).astype(np.float32)
    condition = np.eye(3, dtype=np.float32)
    before = np.asarray(judge(sounds, condition))
    other = sounds.copy()
    other[1] *= 2
    after = np.asarray(judge(other, condition))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).all()
    condition[2] = condition[1]
    scores = np.asarray(judge(sounds, condition))
    np.testing.assert_array_equal(scores[:2], before[:2])
    assert (scores[2] != before[2]).all()


def test_scores_are_those_of_the_activations():
    make = partial(Discriminators, TINY, LENGTH, 0)
    discriminators = pure(lambda rngs: make(rngs=rngs))(initialize(lambda rngs: make(rngs=rngs), jax.random.key(0)))
    sounds = jnp.asarray(0.1 * np.random.default_rng(0).standard_normal((2, LENGTH), np.float32))
    seen = views(TINY, sounds[:, None])
    metrics, activations = discriminators.discriminate(seen, jnp.zeros((2, 0)), jax.random.key(1))
    np.testing.assert_array_equal(metrics, discriminators(seen, jnp.zeros((2, 0)), jax.random.key(1)))
    assert [len(layers) for layers in activations] == [3, 3, 3, 4]
    spectral = activations[-1][-1]  # the last discriminator counts all places alike
    by_hand = (spectral.mean(axis=1) * discriminators.members[-1].last[...]).sum(axis=-1)
    np.testing.assert_allclose(metrics[:, -1], by_hand, rtol=64 * EPS, atol=64 * EPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(discriminator_channels=0, periods=(), spectral_windows=()), "give at least one discriminator"),
        (dict(spectral_windows=(30,)), r"spectral_windows\[0\] is 30: it must be at least 0.001 and at most 1"),
        (dict(spectral_windows=(0.0005,)), r"spectral_windows\[0\] is 0.0005: it must be at least 0.001"),
        (dict(audio_channels=3), "audio_channels is 3: it must be at least 1 and at most 2"),
        (dict(widest=0), "widest is 0: it must be at least 1"),
    ],
)
def test_what_cannot_be(change: dict, message: str):
    with pytest.raises(UserError, match=message):
        replace(TINY, **change)

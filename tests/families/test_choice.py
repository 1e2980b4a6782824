"""The preset that suits some sounds."""

import pytest

from wavesynth.config import DatasetInfo
from wavesynth.families import presets
from wavesynth.families.choice import suited_preset

DRUMS = DatasetInfo(16_000, ("kick", "snare"), clip_seconds=0.4, typical=((0.0, -1.0), (1.0, -1.0)))
NOTES = DatasetInfo(16_000, ("flute",), True, 1.0, (60.0, 72.0), typical=((0.0, 60.0), (0.0, 72.0)))
KIT_WITH_A_TUNED_TOM = DatasetInfo(
    16_000, (), True, 0.4, (48.0, 48.0), typical=((-1.0, -1.0), (-1.0, -1.0), (-1.0, 48.0))
)
PIECES = DatasetInfo(44_100, clip_seconds=180.0)


@pytest.mark.parametrize(
    ("dataset", "seconds", "minutes", "expected"),
    [
        (DRUMS, 300, None, "wavegan-small"),
        (DRUMS, 300, 30, "wavegan-small"),
        (DRUMS, 300, 5, "wavegan-tiny"),
        (DRUMS, 30, None, "wavegan-tiny"),
        (KIT_WITH_A_TUNED_TOM, 300, None, "wavegan-small"),
        (DatasetInfo(44_100, clip_seconds=0.4), 300, None, "autoencoder-small"),
        (DatasetInfo(16_000, clip_seconds=1.2), 300, None, "autoencoder-small"),
        (NOTES, 300, None, "autoencoder-small"),
        (NOTES, 300, 3, "autoencoder-tiny"),
        (PIECES, 3_000, None, "autoencoder-small"),
        (PIECES, 59, 600, "autoencoder-tiny"),
    ],
)
def test_what_suits(dataset: DatasetInfo, seconds: float, minutes: float | None, expected: str):
    chosen, reason = suited_preset(dataset, seconds, minutes)
    assert chosen == expected
    named = {word.strip(",:;") for word in reason.split()} & set(presets())
    assert chosen in named
    assert len(named) == 3  # itself, and what else there is
    assert "\n" not in reason


def test_the_reason_names_the_facts():
    assert "sounds without pitches, half of them shorter than 0.4 s, at 16,000 Hz;" in suited_preset(DRUMS, 300)[1]
    assert "and 3 minutes for training" in suited_preset(NOTES, 300, 3)[1]
    assert "only 59 s in all" in suited_preset(PIECES, 59)[1]

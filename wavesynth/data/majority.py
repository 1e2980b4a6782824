"""The sample rate and the number of channels that most files of a folder have.

Only headers are read. A file whose header cannot be read does not vote. The answer depends only on the files' content.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wavesynth.audio.containers import Refused, open_sound
from wavesynth.data.corpus import SourceFile

MOST_HZ = 48_000
"""The highest rate that is chosen: sounds reach up to 24 kHz, above what people hear."""
_WITHOUT_VOTES = 44_100, 1


def rate_for(sample_rate: int) -> int:
    """The rate that a file votes for, Hz: its own, or 44,100 (if it is a multiple of that) or 48,000 for rates above.

    >>> rate_for(22_050), rate_for(88_200), rate_for(96_000)
    (22050, 44100, 48000)
    """
    if sample_rate <= MOST_HZ:
        return sample_rate
    return MOST_HZ if sample_rate % 44_100 else 44_100


def choose(headers: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The rate that most files vote for, the higher of two with as many votes; 2 channels if over half of them have 2 or more.

    Args:
        headers: the sample rate in Hz and the number of channels of each file.

    Returns:
        The sample rate in Hz, at most 48,000, and the number of channels, 1 or 2.

    >>> choose([(44_100, 2), (44_100, 1), (8_000, 2)])
    (44100, 2)
    """
    headers = list(headers)
    if not headers:
        return _WITHOUT_VOTES
    votes = Counter(rate_for(sample_rate) for sample_rate, _ in headers)
    stereo = sum(channels > 1 for _, channels in headers)
    return max(votes, key=lambda rate: (votes[rate], rate)), 2 if 2 * stereo > len(headers) else 1


def read_headers(root: Path, sources: Sequence[SourceFile], workers: int) -> list[tuple[int, int]]:
    """The sample rate in Hz and the number of channels of each file whose header can be read.

    Args:
        root: the folder of the files.
        sources: the files.
        workers: files opened at the same time.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="headers") as pool:
        return [found for found in pool.map(lambda source: _header(root / source.file), sources) if found]


def _header(path: Path) -> tuple[int, int] | None:
    try:
        with open_sound(path) as sound:
            return sound.sample_rate, sound.channels
    except Refused:
        return None

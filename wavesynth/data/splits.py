"""Splits of the clips: training, validation and test.

- Folders named train, valid and test, or another name of a split (`NAMES`, in any case), set the split of their files: see
  `split_folders`. The labels are the folders below or above them.
- metadata.csv sets the split of the files that it names, by the same names.
- All other clips are split by content. The SHA-256 of a clip's samples, read as a number from 0 to 1, is in the range of
  `test`, in the following range of `valid`, or in the rest, train. So copies share a split, and new files do not move old
  ones.

Exceptions: if train would be empty, it gets the clip with the largest hash. If valid would be empty, although `valid` is not 0,
it gets the clip with the nearest hash. A single clip, or a piece that holds over half of the sound, is divided: its end, a
fraction `valid` of it, is for validation.
"""

from collections.abc import Sequence

from wavesynth.config import ONE_SHOT_SECONDS
from wavesynth.errors import UserError

SPLITS = ("train", "valid", "test")
NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test", "holdout": "test",
}  # fmt: skip
"""The names of splits in folders and in metadata.csv, in lower case."""


def split_named(name: str) -> str | None:
    """The split that a name stands for, from `SPLITS`; None if it is not the name of a split.

    >>> split_named("Validation"), split_named("drums")
    ('valid', None)
    """
    return NAMES.get(name.casefold())


def split_folders(files: Sequence[str]) -> tuple[int, dict[str, str]] | None:
    """Finds the level at which the folders of a corpus are splits.

    A level counts if one folder is for training, and there is another split or no other folder beside it.

    Args:
        files: paths relative to the root, with `/`.

    Returns:
        The level (0 for folders in the root) and the split of each folder name; None if there is no such level.

    >>> split_folders(["Train/kick/1.wav", "Test/kick/2.wav", "readme.wav"])
    (0, {'Test': 'test', 'Train': 'train'})
    >>> split_folders(["train/whistle.wav", "dog/bark.wav"])
    """
    folders = [file.split("/")[:-1] for file in files]
    for level in (0, 1):
        names = sorted({parts[level] for parts in folders if len(parts) > level})
        found = {name: split for name in names if (split := split_named(name))}
        splits = set(found.values())
        if "train" in splits and (len(splits) > 1 or len(found) == len(names)):
            return level, found
    return None


def to_divide(seconds: Sequence[float], allowed: Sequence[tuple[str, ...]]) -> int | None:
    """The index of the clip that has to be divided between train and valid, or None.

    It is the only clip, or a piece, not a one-shot, that holds over half of the sound.

    Args:
        seconds: the length of each clip.
        allowed: the splits that each clip may belong to.

    >>> to_divide([0.1, 7_200, 60], [SPLITS] * 3), to_divide([0.5, 1.0], [SPLITS] * 2)
    (1, None)
    """
    if not seconds:
        return None
    index = max(range(len(seconds)), key=lambda i: seconds[i])
    most = len(seconds) == 1 or (seconds[index] > ONE_SHOT_SECONDS and 2 * seconds[index] > sum(seconds))
    return index if most and {"train", "valid"} <= set(allowed[index]) else None


def assign(
    hashes: Sequence[str],
    allowed: Sequence[tuple[str, ...]],
    valid: float,
    test: float,
    divided: int | None = None,
) -> tuple[list[str], list[str]]:
    """Chooses the split of each clip.

    Args:
        hashes: SHA-256 of each clip in hexadecimal, without duplicates.
        allowed: the splits that each clip may belong to, from `SPLITS`.
        valid: fraction of the clips for validation, in [0, 1).
        test: fraction of the clips for testing, in [0, 1).
        divided: the index of a clip that is divided between train and valid later. It goes to train.

    Returns:
        The split of each clip, and remarks for the report.

    Raises:
        UserError: no clip may go to train.

    >>> assign(["08" * 32, "e1" * 32, "2a" * 32], [SPLITS] * 3, valid=0.1, test=0.1)[0]
    ['test', 'train', 'valid']
    """
    places = [int(digest[:13], 16) / 16**13 for digest in hashes]
    splits = [_by_place(place, choices, valid, test) for choices, place in zip(allowed, places)]
    remarks = []
    if divided is not None:
        splits[divided] = "train"
    if "train" not in splits:
        free = [i for i, choices in enumerate(allowed) if "train" in choices]
        if not free:
            raise UserError("no clip may go to train: give some the split train in metadata.csv, or leave it empty")
        splits[max(free, key=lambda i: places[i])] = "train"
        remarks.append("no clip fell into train: the one with the largest hash was put there")
    if valid and "valid" not in splits and divided is None:
        free = [i for i, choices in enumerate(allowed) if "valid" in choices and len(choices) > 1]
        spare = free if splits.count("train") > 1 else [i for i in free if splits[i] != "train"]
        if spare:
            nearest = min(spare, key=lambda i: max(test - places[i], places[i] - (test + valid)))
            splits[nearest] = "valid"
            remarks.append("no clip fell into valid: the one with the nearest hash was put there")
    return splits, remarks


def _by_place(place: float, allowed: tuple[str, ...], valid: float, test: float) -> str:
    test = test if "test" in allowed else 0.0
    if place < test:
        return "test"
    if "valid" in allowed and place < test + valid:
        return "valid"
    return "train" if "train" in allowed else allowed[0]

"""Which clips are for training, which for validation and which for testing: decided by the content of each.

The SHA-256 of a clip's int16 samples, read as a number from 0 to 1, lies below `test`, in the `valid` that follows, or
in the rest, which is train. So copies share a split, and new files change nothing for the old ones. Exceptions, in this
order:

- What metadata.csv says of a clip holds.
- Nothing in train: the clip that the hash puts farthest from the other two goes there.
- Nothing in valid (and `valid` is not 0): the clip nearest to valid goes there; and where there is one clip only, its
  last tenth becomes a valid clip of its own.
"""

from collections.abc import Sequence

from wavesynth.errors import UserError

SPLITS = ("train", "valid", "test")


def assign(
    hashes: Sequence[str], wanted: Sequence[str | None], valid: float, test: float
) -> tuple[list[str], list[str]]:
    """The split of each clip, and remarks on the exceptions that were made.

    Args:
        hashes: SHA-256 of each clip in hexadecimal, no two the same.
        wanted: the split that metadata.csv gives each clip, or None.
        valid: share of the clips for validation, in [0, 1).
        test: share of the clips for testing, in [0, 1).

    Raises:
        UserError: metadata.csv leaves no clip to train on.

    >>> assign(["08" * 32, "e1" * 32, "2a" * 32], [None] * 3, valid=0.1, test=0.1)[0]
    ['test', 'train', 'valid']
    """
    places = [int(digest[:13], 16) / 16**13 for digest in hashes]
    splits = [choice or _by_place(place, valid, test) for choice, place in zip(wanted, places)]
    free = [i for i, choice in enumerate(wanted) if choice is None]
    remarks = []
    if "train" not in splits:
        if not free:
            raise UserError("metadata.csv gives no clip to train: set the split of some to train, or leave it empty")
        splits[max(free, key=lambda i: places[i])] = "train"
        remarks.append("no clip fell into train: the one with the largest hash was put there")
    if valid and "valid" not in splits and len(hashes) > 1:
        spare = free if splits.count("train") > 1 else [i for i in free if splits[i] != "train"]
        if spare:
            nearest = min(spare, key=lambda i: max(test - places[i], places[i] - (test + valid)))
            splits[nearest] = "valid"
            remarks.append("no clip fell into valid: the one with the nearest hash was put there")
    return splits, remarks


def _by_place(place: float, valid: float, test: float) -> str:
    if place < test:
        return "test"
    return "valid" if place < test + valid else "train"

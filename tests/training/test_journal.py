"""The journal: every line whole, nothing twice, and JSON that any reader takes."""

import json
import math
from pathlib import Path

import pytest

from wavesynth.training.journal import Journal, read


def write(run: Path, steps: range, first_step: int = 0) -> None:
    journal = Journal(run / "journal.jsonl", first_step)
    for step in steps:
        journal.write(step, step / 2, bits=float(step))
    journal.close()


def steps(run: Path) -> list[int]:
    return [line["step"] for line in read(run / "journal.jsonl")]


def test_what_is_written_is_read(tmp_path: Path):
    assert read(tmp_path / "journal.jsonl") == []
    write(tmp_path, range(1, 4))
    assert read(tmp_path / "journal.jsonl")[1] == {"step": 2, "seconds": 1.0, "bits": 2.0}
    assert steps(tmp_path) == [1, 2, 3]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path: Path):
    write(tmp_path, range(1, 9))
    journal = Journal(tmp_path / "journal.jsonl", first_step=5)
    assert journal.seconds == 2.5  # training time goes on from there
    journal.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    write(tmp_path, range(6, 8), first_step=5)
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    write(tmp_path, range(1, 3), first_step=0)
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    "torn", ['{"step": 4, "sec', '{"step": 4, "seconds": 2.0}', "\0\0\0\0", "\udce9", "4", "\n", "[]\n", "{}\n"]
)
def test_a_torn_last_line_is_dropped(torn: str, tmp_path: Path):
    write(tmp_path, range(1, 4))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(torn.encode(errors="surrogateescape"))
    assert steps(tmp_path) == [1, 2, 3]
    write(tmp_path, range(4, 6), first_step=4)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_every_line_is_there_at_once(tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write(1, 0.5, bits=2.0)
    assert steps(tmp_path) == [1]
    journal.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(value: float, tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write(1, 0.5, bits=value)
    journal.close()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = json.loads((tmp_path / "journal.jsonl").read_text(), parse_constant=refuse)
    assert line == {"step": 1, "seconds": 0.5, "bits": None}

"""Progress: a line now and then in a log file, a bar in a terminal, nothing where it is not wanted."""

import io
import sys

import pytest

from wavesynth import progress
from wavesynth.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_half_minute(clock: list[float], capsys: pytest.CaptureFixture):
    with Progress(100_000, "step", "train", initial=1_000) as bar:
        for _ in range(1_000):
            clock[0] += 0.1
            bar.update(note="bits 9.1")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: 1,300 of 100,000 steps, 0:30 elapsed, 2:44:30 left, bits 9.1"
    assert len(lines) == 4  # the last one says where it ended
    assert lines[-1].startswith("train: 2,000 of 100,000 steps, 1:40 elapsed")


def test_short_work_gets_a_line_every_twentieth_but_not_at_once(clock: list[float], capsys: pytest.CaptureFixture):
    with Progress(100, "file") as bar:
        for _ in range(100):
            clock[0] += 1.0
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "5 of 100 files, 0:05 elapsed, 1:35 left"
    assert lines[-1] == "100 of 100 files, 1:40 elapsed"
    assert len(lines) == 20
    with Progress(100, "file") as bar:
        for _ in range(100):
            bar.update()
    assert capsys.readouterr().err == "100 of 100 files, 0:00 elapsed\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "step", "train") as bar:
        for _ in range(3):
            bar.update(note="bits 9.1")
    assert "train: 100%" in terminal.getvalue()
    assert "bits 9.1" in terminal.getvalue()


def test_nothing_where_it_is_not_wanted(capsys: pytest.CaptureFixture):
    with Progress(3, "step", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


def test_work_without_an_end_says_how_far_it_is(clock: list[float], capsys: pytest.CaptureFixture):
    with Progress(float("inf"), "second", "sample") as bar:
        for _ in range(40):
            clock[0] += 1.0
            bar.update(0.5)
    assert capsys.readouterr().err.splitlines() == [
        "sample: 15 seconds, 0:30 elapsed",
        "sample: 20 seconds, 0:40 elapsed",
    ]


def test_items_are_counted_when_they_are_done_with(capsys: pytest.CaptureFixture):
    with pytest.raises(ZeroDivisionError), Progress(3, "file") as bar:
        [1 / size for size in bar.over([2, 1, 0])]
    assert capsys.readouterr().err == "2 of 3 files, 0:00 elapsed, 0:00 left\n"

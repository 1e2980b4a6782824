"""Console output that is safe for any terminal, pipe or log, whatever file names it contains."""

import io
import os
import sys

from wavesynth.audio.names import display


def say(text: object = "") -> None:
    """Prints text to stdout and flushes it. Control characters and other unprintable ones are escaped."""
    print("\n".join(map(display, str(text).split("\n"))), flush=True)


def complain(command: str, text: object) -> None:
    """Prints a command's error or warning to stderr, on one line."""
    print(f"wavesynth {command}: {display(str(text))}", file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Makes stdout and stderr accept any text, and opens them if the parent process has closed them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Discards pending and future output to stdout, because its reader has gone or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

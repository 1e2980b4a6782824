"""What the commands print: text that any terminal, pipe or log can take, whoever wrote the names in it."""

import io
import os
import sys

from wavesynth.audio.names import display


def say(text: object = "") -> None:
    """Prints text to stdout at once. What a terminal would not print as it is, such as a control character, is escaped."""
    print("\n".join(map(display, str(text).split("\n"))), flush=True)


def complain(command: str, text: object) -> None:
    """Prints an error or a warning of a command to stderr, on one line."""
    print(f"wavesynth {command}: {display(str(text))}", file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Makes stdout and stderr take any text, and exist: a parent process may have closed them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Drops what stdout has not taken, and all that is still to come: nobody reads it, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

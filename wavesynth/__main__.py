"""The command line: one command with its arguments, and what is said of an error."""

import os
import signal
import sys
import warnings

from wavesynth.commands import COMMANDS
from wavesynth.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status. A user's error is one line on stderr and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name, *rest = arguments or ["--help"]
    commands = {"-h": _overview, "--help": _overview, "--version": _version} | COMMANDS
    if name not in commands:
        print(f"wavesynth: {name!r} is not a command: see wavesynth --help", file=sys.stderr)
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"wavesynth {name}: {message}", file=sys.stderr)
            commands[name](rest)
            sys.stdout.flush()
    except UserError as error:
        print(f"wavesynth {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what was printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        print(f"wavesynth {name}: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"wavesynth {name}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stopped, "signal", signal.SIGINT)
    return 0


def _overview(_: list[str]) -> None:
    print("wavesynth: a folder of sounds becomes an instrument\n\nusage: wavesynth COMMAND ... (--help for each)\n")
    for name, command in COMMANDS.items():
        print(f"  {name:8} {(command.__doc__ or '').splitlines()[0]}")


def _version(_: list[str]) -> None:
    import wavesynth

    print(f"wavesynth {wavesynth.__version__}")


if __name__ == "__main__":
    sys.exit(main())

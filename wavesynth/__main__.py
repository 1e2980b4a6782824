"""The command line: runs one command, and reports any error on one line."""

import os
import signal
import sys
import traceback
import warnings
from types import FrameType

from wavesynth.commands import COMMANDS
from wavesynth.commands.console import abandon_stdout, complain, prepare_streams, say
from wavesynth.errors import UserError
from wavesynth.storage import DISK_FULL

TRACEBACK = "WAVESYNTH_TRACEBACK"
"""The environment variable that turns on tracebacks."""

_ENVIRONMENT = f"""\
Compiled programs are cached in ~/.cache/wavesynth/jax, up to 1 GiB. Set JAX_COMPILATION_CACHE_DIR to use another folder, or
JAX_ENABLE_COMPILATION_CACHE=false to cache nothing. Set {TRACEBACK}=1 to see the traceback of an error."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command's name and its arguments; None for `sys.argv`.

    Returns:
        The exit status: 0 for success, 2 for an error that the user can fix, 1 for any other error, 128 + N for signal N.
    """
    prepare_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    name, *rest = arguments or ["--help"]
    commands = {"-h": _overview, "--help": _overview, "--version": _version} | COMMANDS
    if name not in commands:
        print(f"wavesynth: {name!r} is not a command: see wavesynth --help", file=sys.stderr)
        return 2
    terminate = signal.getsignal(signal.SIGTERM)
    if terminate is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)  # like Ctrl-C: output written so far is kept
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: complain(name, message)
            commands[name](rest)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout has closed it
        abandon_stdout()
    except KeyboardInterrupt as stopped:
        complain(name, str(stopped) or "interrupted")
        return 128 + getattr(stopped, "signal", signal.SIGINT)
    except Exception as error:
        status, text = _explained(error)
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            abandon_stdout()  # it may be what is full; flushing it once more would fail again
        complain(name, text)
        return status
    finally:
        if terminate is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, terminate)
    return 0


def _explained(error: Exception) -> tuple[int, str]:
    """The exit status of an error, and one line about it."""
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, OSError):
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return 2, ": ".join([error.strerror or str(error) or type(error).__name__, *names])
    reason = " ".join(str(error).split())  # JAX's messages span many lines
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in reason:
        return (
            2,
            f"not enough memory ({reason or 'none is left'}): ask for fewer or shorter sounds, or smaller batches",
        )
    if "(os error " in reason:  # from libraries written in Rust, such as safetensors
        return 2, reason
    if "Unable to initialize backend" in reason:
        return 2, f"JAX does not find this device: {reason}"
    if isinstance(error, RecursionError):
        return 2, "a file is nested too deeply to be read: it was not written by wavesynth"
    return 1, f"{type(error).__name__}: {reason}; this is a bug in wavesynth, {TRACEBACK}=1 shows where"


class _Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command like Ctrl-C."""

    signal = signal.SIGTERM


def _terminated(_: int, __: FrameType | None) -> None:
    raise _Terminated("terminated")


def _overview(_: list[str]) -> None:
    say("wavesynth: turn a folder of sounds into an instrument\n\nusage: wavesynth COMMAND ... (each has --help)\n")
    for name, command in COMMANDS.items():
        say(f"  {name:8} {(command.__doc__ or '').splitlines()[0]}")
    say(f"\n{_ENVIRONMENT}")


def _version(_: list[str]) -> None:
    import wavesynth

    say(f"wavesynth {wavesynth.__version__}")


if __name__ == "__main__":
    sys.exit(main())

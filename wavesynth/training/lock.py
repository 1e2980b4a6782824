"""A lock on a folder that names its holder and does not outlive a killed process.

The lock is a file that names its holder and the start time. If the file system supports `flock`, the kernel releases the lock
when the process ends. Otherwise, and for locks of other machines, the lock counts as abandoned if its process no longer exists
(on the same machine) or no longer renews the file's modification time (on another machine).
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from wavesynth.errors import UserError
from wavesynth.storage import flock

RENEWED = 20.0  # seconds between two signs of life
STALE = 120.0  # seconds without one, after which a lock of another machine is taken over


@dataclass(frozen=True)
class Holder:
    """The holder of a lock.

    Attributes:
        pid: the process id.
        host: the machine.
        since: local time, as text.
        started: the start time of the process, which distinguishes it from a later process with the same id.
    """

    pid: int
    host: str
    since: str
    started: str

    @classmethod
    def me(cls) -> "Holder":
        return cls(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"), _started(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Holds the lock file `path` while the block runs.

    Args:
        path: the lock file, in an existing folder.
        work: what the holder is doing, such as "training runs/mine"; shown to other processes.

    Raises:
        UserError: another process holds the lock.
    """
    descriptor = _acquire(path, work)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, ended), name="lock", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(OSError):
            path.unlink(
                missing_ok=True
            )  # unlinked before it is closed, so that waiting processes find it gone and start over
        os.close(descriptor)


def _acquire(path: Path, work: str) -> int:
    while True:
        try:
            descriptor, made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            try:
                descriptor, made = os.open(path, os.O_RDWR), False
            except FileNotFoundError:
                continue
        try:
            flocked, holder = flock(descriptor), _read(descriptor)
            if flocked is False or not (made or _abandoned(holder, path, descriptor, bool(flocked))):
                raise UserError(_refusal(path, work, holder))
            if flocked or made:
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps(asdict(Holder.me())).encode())
            else:
                path.unlink(missing_ok=True)
            if (flocked or made) and _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed meanwhile: start over


def _read(descriptor: int) -> Holder | None:
    with suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(os.read(descriptor, 10_000)))
    return None


def _abandoned(holder: Holder | None, path: Path, descriptor: int, flocked: bool) -> bool:
    """Whether no living process holds a lock file. flocked: whether the kernel has ruled out processes of this machine."""
    if flocked and (holder is None or holder.host == socket.gethostname()):
        return True
    if holder is not None and holder.host == socket.gethostname():
        return not _exists(holder.pid) or _started(holder.pid) != holder.started
    probe = path.with_name(path.name + ".now")
    probe.touch()
    now = probe.stat().st_mtime  # by the file system's clock, which may differ from this machine's
    probe.unlink(missing_ok=True)
    return now - os.fstat(descriptor).st_mtime >= STALE


def _exists(pid: int) -> bool:
    if os.name == "nt":  # on Windows, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """The start time of a process, in clock ticks since boot; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _renew(path: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        with suppress(OSError):
            os.utime(path)


def _refusal(path: Path, work: str, holder: Holder | None) -> str:
    who = str(holder) if holder else "another process"
    remedy = "wait for it, or stop it"
    if holder and holder.host != socket.gethostname():
        remedy = f"wait for it, or stop it; if it was killed, wait {STALE / 60:.0f} minutes, or delete {path}"
    return f"{who} is {work}: {remedy}"

"""A lock on a folder that names the process which holds it, and that a killed process does not leave behind.

The lock is a file that says who holds it and since when. Where the file system has `flock`, the kernel releases it when
the process ends, however it ends. Elsewhere, and for locks of other machines, the file says whether its process lives: by
its process id on the same machine, by its time of modification, which the holder renews, on another.
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
    """Who holds a lock.

    Attributes:
        pid: its process id.
        host: its machine.
        since: local time, as text.
        started: when the process started, as the system says it: another process of the same id differs.
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
        path: the lock file. Its folder exists.
        work: what the first process is doing, for the message to a second one, such as "training runs/mine".

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
            )  # before it is closed: whoever waits for it then finds it gone, and begins anew
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
        os.close(descriptor)  # it was removed meanwhile: begin anew


def _read(descriptor: int) -> Holder | None:
    with suppress(OSError, ValueError, TypeError):
        return Holder(**json.loads(os.read(descriptor, 10_000)))
    return None


def _abandoned(holder: Holder | None, path: Path, descriptor: int, flocked: bool) -> bool:
    """Whether no living process holds a lock file. flocked: the kernel says that none on this machine does."""
    if flocked and (holder is None or holder.host == socket.gethostname()):
        return True
    if holder is not None and holder.host == socket.gethostname():
        return not _exists(holder.pid) or _started(holder.pid) != holder.started
    probe = path.with_name(path.name + ".now")
    probe.touch()
    now = probe.stat().st_mtime  # by the clock of the file system, which may not be this machine's
    probe.unlink(missing_ok=True)
    return now - os.fstat(descriptor).st_mtime >= STALE


def _exists(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """When a process started, in clock ticks since the system did; "" where the system does not say."""
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
    remedy = "wait for it, or end it"
    if holder and holder.host != socket.gethostname():
        remedy = f"wait for it, or end it; if it was killed, wait {STALE / 60:.0f} minutes, or delete {path}"
    return f"{who} is {work}: {remedy}"

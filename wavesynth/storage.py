"""Files that appear complete or not at all, on any file system."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.ENOSYS)
_NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF, errno.ENOTTY)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that appears complete or not at all, and survives a power failure.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name to write a file under, beside `path`. When the block ends, the file takes its place; if it fails, it is removed.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power failure, on file systems that offer it."""
    windows = os.name == "nt"
    if windows and path.is_dir():  # which cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def flock(descriptor: int) -> bool | None:
    """Whether this process now holds the kernel's lock on an open file; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True

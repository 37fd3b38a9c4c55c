"""Writes files atomically, and locks a folder for one process."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def check_folder(folder: Path) -> None:
    """Raise an error if a folder cannot be created because a file is in the way.

    Call it before long work whose results go to the folder.

    Raises:
        NotADirectoryError: `folder` or one of its parents is a file.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        purpose = "" if existing == folder else f", for {folder}"
        message = f"{existing} is a file, wanted a folder{purpose}"
        raise NotADirectoryError(errno.ENOTDIR, message)


@contextmanager
def atomic_file(
    path: Path, *, what: str = "the file", remedy: str = "choose another folder"
) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to `path` at the end.

    The folder is created if missing. If the block is interrupted, also by Ctrl-C, the temporary
    file is deleted and `path` keeps its old content.

    Args:
        path: The file to write.
        what: What is written, for the error message.
        remedy: What the error message tells the user to do. On a full disk it also says to free
            space.

    Raises:
        OSError: The file cannot be written. The message names `path`, the cause and the remedy.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        check_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("r+b") as file:  # a full disk may be detected only by fsync
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        disk_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OSError(
            error.errno,
            f"{path}: cannot write {what} ({error.strerror or error}); the previous content is "
            f"unchanged; {'make room or ' if disk_full else ''}{remedy}",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()  # it does not exist any more after success


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file; after an interruption it has its old or its new content, never a part.

    Raises:
        OSError: The file cannot be written; its old content is unchanged.
    """
    with atomic_file(path, what=f"{len(content) / 1e6:.1f} MB") as part:
        part.write_bytes(content)


@contextmanager
def lock_folder(folder: Path, *, busy_message: str) -> Iterator[None]:
    """Hold the exclusive lock of a folder; the lock is released however the process ends.

    The folder is created if missing. The lock is the empty file `lock` in it, which stays there.
    On a file system without locks nothing is locked.

    Args:
        folder: The folder. The lock excludes other callers of this function only.
        busy_message: Message of the error if another process holds the lock.

    Raises:
        BlockingIOError: Another process holds the lock.
        NotADirectoryError: `folder` or one of its parents is a file.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(busy_message) from error
    except NotImplementedError:  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()

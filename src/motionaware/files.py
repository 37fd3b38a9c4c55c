"""Files that appear whole or not at all, and folders in which one process works at a time."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def check_folder(folder: Path) -> None:
    """Refuse a path that can be no folder, so that it is told before the work and not after.

    Raises:
        NotADirectoryError: A file is there, or where a folder above it would be.
    """
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        below = "" if there == folder else f", for {folder}"
        words = f"{there} is a file, wanted a folder{below}"
        raise NotADirectoryError(errno.ENOTDIR, words)


@contextmanager
def whole_file(
    path: Path, *, what: str = "the file", remedy: str = "choose another folder"
) -> Iterator[Path]:
    """Give a path to write to; what is written there takes the place of `path` at the end.

    The folder is made if missing. Whatever breaks the writing off, Ctrl-C too, leaves what stood at
    `path` before, and nothing else.

    Args:
        path: Where the file belongs.
        what: What is written, for the error.
        remedy: What to do when it cannot be written, for the error; one may also make
            room on a full disk.

    Raises:
        OSError: It cannot be written; one error that names `path`, the cause and the remedy.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        check_folder(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("r+b") as file:  # a full disk may show only when it has to hold the bytes
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        full = "make room or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OSError(
            error.errno,
            f"{path}: cannot write {what} ({error.strerror or error}); what stood there before is "
            f"untouched; {full}{remedy}",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()  # gone already if all went well


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: It cannot be written; what stood there before still stands.
    """
    with whole_file(path, what=f"{len(content) / 1e6:.1f} MB") as part:
        part.write_bytes(content)


@contextmanager
def alone_in(folder: Path, *, otherwise: str) -> Iterator[None]:
    """Be the only process that works in a folder; it is let go however the process ends.

    The folder is made if missing, and keeps an empty file `lock`. Where the file system knows no
    locks, nothing is kept apart.

    Args:
        folder: In which others work as well by this function.
        otherwise: The words of the error.

    Raises:
        BlockingIOError: Another process works there.
        NotADirectoryError: It is a file.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(otherwise) from error
    except NotImplementedError:
        pass
    try:
        yield
    finally:
        lock.release()

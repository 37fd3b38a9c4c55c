"""Caches decoded frames on disk, for small data sets that are read in many epochs.

A short video is decoded once, completely, and stored as a uint8 array in a file that is mapped into
memory. All workers and runs share the files. Cached frames equal decoded frames bit for bit.

    FOLDER/VIDEO/STATE.npy    the frames of a video
    FOLDER/VIDEO/STATE.notes  its notes, if it has any
    FOLDER/used.json          size of the cache in bytes; updated under a lock

VIDEO is a hash of the video's path. STATE is a hash of its size, its modification time and the
versions of the decoders: a changed video gets another STATE, and its old file is deleted when it is
stored again. Files are written atomically. A damaged file is ignored and written again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0

from motionaware.data.video.base import SizeChange, Video
from motionaware.data.video.open import Decoder, video_opener
from motionaware.errors import VideoError
from motionaware.files import atomic_file, write_atomically

MAX_VIDEO_BYTES = 2**26  # of decoded frames; longer videos are not cached
_LAYOUT = 2  # version of the files and of the decoding; another value invalidates old files
_ABANDONED_SECONDS = 3600.0  # a partial file of this age was left by a killed process
# used.json has a fixed length and is overwritten in place, which works on a full disk too.
_STATE_CHARACTERS, _MAX_REASON_CHARACTERS = 512, 200
_READ_ERRORS = (OSError, ValueError, EOFError)  # raised for a damaged or deleted file


class FrameCache:
    """Opens videos and caches the decoded frames of short ones.

    Args:
        folder: Folder of the cache; created if missing. It may be deleted at any time.
        max_gib: Maximum size of the folder, in GiB. Once it is full, further videos are decoded.
        decoder: The library that decodes video files.
        square_pixels: As for `open_video`. Frames of different values are cached separately.
        size_change: As for `open_video`. Frames of different values are cached separately.

    Raises:
        OSError: The folder cannot be written.
        MissingPackage: The decoder is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_gib: float | int,
        decoder: Decoder = "pyav",
        square_pixels: bool = True,
        size_change: SizeChange = "scale",
    ) -> None:
        self.folder = Path(folder).resolve()  # a worker may have another working directory
        self.max_bytes = int(max_gib * 2**30)
        self._open = video_opener(decoder, square_pixels=square_pixels, size_change=size_change)
        has_defaults = square_pixels and size_change == "scale"
        self._options = "" if has_defaults else f" {square_pixels = } {size_change = }"
        packages = ["av", "pillow"] + ([decoder] if decoder != "pyav" else [])
        self._decoders = f"{_LAYOUT} {[(name, version(name)) for name in packages]}"
        try:
            self._measure_folder()
        except OSError as error:
            raise OSError(
                error.errno,
                f"the cache of decoded frames, {self.folder}, cannot be written "
                f"({error.strerror or error}); choose another data.cache_dir, or null for none",
            ) from error

    @property
    def used_bytes(self) -> int:
        """Size of the cached frames, by the bookkeeping of used.json."""
        return self._read_state()["bytes"]

    @property
    def problem(self) -> str | None:
        """The first reason why a process could not cache a video; None if there was none."""
        return self._read_state()["trouble"]

    def open(self, path: str | Path) -> Video:
        """Open a video as `open_video` does; its frames are read from the cache if possible.

        Raises:
            VideoError: As for `open_video`.
        """
        path = Path(path)
        if not path.exists():
            return self._open(path)  # raises the VideoError
        file = self._cache_file(path)
        video = self._load(path, file)
        if video is None:
            video = self._open(path)
            self._store(video, file)
            video = self._load(path, file) or video
        return video

    def _cache_file(self, path: Path) -> Path:
        """Return the cache file of a video in its current state; all images of a folder count."""
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
        state = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        video = _digest(f"{path.resolve()}{self._options}")
        return self.folder / video / f"{_digest((self._decoders, state))}.npy"

    def _load(self, path: Path, file: Path) -> Video | None:
        """Return the cached video; None if it is not cached or the file is damaged."""
        try:
            num_frames, height, width, _ = np.load(file, mmap_mode="r").shape
            notes_file = file.with_suffix(".notes")
            notes = (
                notes_file.read_text(encoding="utf-8").splitlines() if notes_file.exists() else []
            )
        except _READ_ERRORS:
            return None
        return _CachedVideo(
            path=path,
            num_frames=num_frames,
            height=height,
            width=width,
            times_seconds=None,
            notes=notes,
            cache_file=file,
            reopen=self._open,
        )

    def _store(self, video: Video, file: Path) -> None:
        """Decode all frames of a video and write them to the cache, if there is space."""
        num_bytes = video.num_frames * video.height * video.width * 3
        if num_bytes > MAX_VIDEO_BYTES:
            return
        try:
            if not self._reserve(num_bytes, video.path, file):
                return
            try:
                frames = video.frames(range(video.num_frames)).permute(0, 2, 3, 1).numpy()
                if video.notes:  # written first: cached frames always have their notes
                    notes = "\n".join(video.notes).encode()
                    write_atomically(file.with_suffix(".notes"), notes)
                with atomic_file(file, what="decoded frames") as part, part.open("wb") as opened:
                    # The format of np.save, which does not report the cause on a full disk.
                    write_array_header_1_0(opened, header_data_from_array_1_0(frames))
                    opened.write(np.ascontiguousarray(frames).data)
            except BaseException:
                self._update_state(-num_bytes)
                raise
        except VideoError:
            return  # a damaged frame is reported only when it is requested
        except OSError as error:
            with suppress(OSError):
                reason = os.strerror(error.errno) if error.errno else str(error)
                self._update_state(0, problem=f"cannot be written ({reason})")

    def _reserve(self, num_bytes: int, path: Path, file: Path) -> bool:
        """Delete stale files of a video and reserve space for it; False if it need not be stored.

        It need not if the cache is full, or if another process has stored it.
        """
        with self._lock():
            if self._load(path, file) is not None:
                return False
            for stale in file.parent.glob("*.npy"):
                self._update_state(-stale.stat().st_size)
                stale.unlink()
                stale.with_suffix(".notes").unlink(missing_ok=True)
            used = self.used_bytes
            if used + num_bytes > self.max_bytes:
                self._update_state(0, problem=f"is full at {used / 2**30:.2f} GiB")
                return False
            self._update_state(num_bytes)
        return True

    def _update_state(self, num_bytes: int, *, problem: str | None = None) -> None:
        """Add to the size in used.json; store the problem if it is the first."""
        with self._lock():
            state = self._read_state()
            state["bytes"] = max(0, state["bytes"] + num_bytes)
            state["trouble"] = state["trouble"] or (problem and problem[:_MAX_REASON_CHARACTERS])
            line = json.dumps(state, ensure_ascii=False).ljust(_STATE_CHARACTERS)
            file = self.folder / "used.json"
            with file.open("r+" if file.exists() else "w") as opened:
                opened.write(line)

    def _read_state(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "used.json").read_text())
        except _READ_ERRORS:  # the folder was deleted, or a process was killed while writing
            return {"bytes": _folder_bytes(self.folder), "trouble": None}

    def _measure_folder(self) -> None:
        """Delete abandoned partial files and write used.json from the files of the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            for part in self.folder.glob("*/.*.part"):
                with suppress(FileNotFoundError):
                    if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                        part.unlink()
            (self.folder / "used.json").unlink(missing_ok=True)
            self._update_state(0)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # FileLock is re-entrant within a process; forked workers get separate locks.
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock", is_singleton=True).acquire(poll_interval=0.002):
            yield


@dataclass(frozen=True, kw_only=True, eq=False)
class _CachedVideo(Video):
    cache_file: Path
    reopen: Callable[[Path], Video]

    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        try:
            frames = np.load(self.cache_file, mmap_mode="r")
        except _READ_ERRORS:  # deleted after the video was opened
            return self.reopen(self.path)._read(indices)
        return (np.asarray(frames[index]) for index in indices)


def _digest(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:32]


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process may rename or delete it meanwhile
            total += path.stat().st_size
    return total

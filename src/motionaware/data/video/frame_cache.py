"""Decoded frames kept on disk, for data sets that are small and looked at again and again.

A short video is decoded once, whole, and kept as plain uint8 in a file of its own, which is mapped
into memory: whichever frames the next epoch draws are there. All workers and runs share the files.

    FOLDER/PLACE/STATE.npy    PLACE follows from the video's path, STATE from its size and time of
                              change and from the decoders: what is stale is never found again, and
                              makes way when the video is kept anew
    FOLDER/PLACE/STATE.notes  the notes of that video, where there are any
    FOLDER/used.json          how many bytes, counted under a lock when a cache is opened, and kept

A file appears whole or not at all (`whole_file`); one that was damaged since is made anew. What is
read is bit for bit what decoding gives.
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
from motionaware.data.video.torchcodec import Decoder, opener_of
from motionaware.errors import VideoError
from motionaware.files import whole_file, write_atomically

MAX_VIDEO_BYTES = 2**26  # decoded; a longer video would take the place of many
_LAYOUT = 2  # of the files and of the way frames are made; another number discards old files
_ABANDONED_SECONDS = 3600.0  # nobody writes one video for so long: its writer was killed
_STATE_LENGTH, _MAX_WORDS = 512, 200  # written in place: a full disk can still be told
_UNREADABLE = (OSError, ValueError, EOFError)  # of a file that was damaged or taken away


class FrameCache:
    """Opens videos, and keeps the frames of short ones.

    Args:
        folder: Where they are kept; made if missing, and may be deleted at any time.
        max_gib: How large the folder may grow, in GiB; once full, videos are decoded as usual.
        decoder: Who decodes video files.
        square_pixels: As for `open_video`; frames made with another value are kept apart.
        size_change: Likewise.

    Raises:
        OSError: The folder cannot be written.
        ImportError: The decoder cannot be had.
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
        self.folder = Path(folder).resolve()  # a worker may stand in another folder
        self.max_bytes = int(max_gib * 2**30)
        self._open = opener_of(decoder, square_pixels=square_pixels, size_change=size_change)
        usual = square_pixels and size_change == "scale"
        self._options = "" if usual else f" {square_pixels = } {size_change = }"
        packages = ["av", "pillow"] + ([decoder] if decoder != "pyav" else [])
        self._decoders = f"{_LAYOUT} {[(name, version(name)) for name in packages]}"
        try:
            self._count_anew()
        except OSError as error:
            raise OSError(
                error.errno,
                f"the cache of decoded frames, {self.folder}, cannot be written "
                f"({error.strerror or error}); choose another data.cache_dir, or null for none",
            ) from error

    @property
    def used_bytes(self) -> int:
        """How large the folder is, to what is known."""
        return self._state()["bytes"]

    @property
    def trouble(self) -> str | None:
        """Why a video was not kept, told by whichever process met it first; None if all were."""
        return self._state()["trouble"]

    def open(self, path: str | Path) -> Video:
        """Open a video as `open_video` does; its frames come from the cache if they are there.

        Raises:
            VideoError: As `open_video`.
        """
        path = Path(path)
        if not path.exists():
            return self._open(path)  # which says so
        kept = self._file(path)
        video = self._mapped(path, kept)
        if video is None:
            video = self._open(path)
            self._keep(video, kept)
            video = self._mapped(path, kept) or video
        return video

    def _file(self, path: Path) -> Path:
        """Where a video belongs as it is now; a folder of frames is known by all its images."""
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
        state = [(name, found.st_size, found.st_mtime_ns) for name, found in stats]
        place = _short(f"{path.resolve()}{self._options}")
        return self.folder / place / f"{_short((self._decoders, state))}.npy"

    def _mapped(self, path: Path, kept: Path) -> Video | None:
        """The video whose frames a file keeps; None if there is none, or it was damaged."""
        try:
            num_frames, height, width, _ = np.load(kept, mmap_mode="r").shape
            notes = kept.with_suffix(".notes")
            lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
        except _UNREADABLE:
            return None
        return _Kept(
            path=path,
            num_frames=num_frames,
            height=height,
            width=width,
            times_seconds=None,
            notes=lines,
            kept=kept,
            reopen=self._open,
        )

    def _keep(self, video: Video, kept: Path) -> None:
        """Decode all of a video into a file, if there is room for it."""
        num_bytes = video.num_frames * video.height * video.width * 3
        if num_bytes > MAX_VIDEO_BYTES:
            return
        try:
            if not self._reserve(num_bytes, video.path, kept):
                return
            try:
                frames = video.frames(range(video.num_frames)).permute(0, 2, 3, 1).numpy()
                if video.notes:  # first, so that no frames are found without them
                    notes = "\n".join(video.notes).encode()
                    write_atomically(kept.with_suffix(".notes"), notes)
                with whole_file(kept, what="decoded frames") as part, part.open("wb") as file:
                    # As np.save, which does not say why when the disk is full.
                    write_array_header_1_0(file, header_data_from_array_1_0(frames))
                    file.write(np.ascontiguousarray(frames).data)
            except BaseException:
                self._change(-num_bytes)
                raise
        except VideoError:
            return  # a frame that nobody asked for may be damaged
        except OSError as error:
            with suppress(OSError):
                why = os.strerror(error.errno) if error.errno else str(error)
                self._change(0, trouble=f"cannot be written ({why})")

    def _reserve(self, num_bytes: int, path: Path, kept: Path) -> bool:
        """Take room for a video, whose stale files go; False if there is none, or no need."""
        with self._lock():
            if self._mapped(path, kept) is not None:  # another process was quicker
                return False
            for stale in kept.parent.glob("*.npy"):
                self._change(-stale.stat().st_size)
                stale.unlink()
                stale.with_suffix(".notes").unlink(missing_ok=True)
            used = self.used_bytes
            if used + num_bytes > self.max_bytes:
                self._change(0, trouble=f"is full at {used / 2**30:.2f} GiB")
                return False
            self._change(num_bytes)
        return True

    def _change(self, num_bytes: int, *, trouble: str | None = None) -> None:
        with self._lock():
            state = self._state()
            state["bytes"] = max(0, state["bytes"] + num_bytes)
            state["trouble"] = state["trouble"] or (trouble and trouble[:_MAX_WORDS])
            line = json.dumps(state, ensure_ascii=False).ljust(_STATE_LENGTH)
            file = self.folder / "used.json"
            with file.open("r+" if file.exists() else "w") as written:
                written.write(line)

    def _state(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "used.json").read_text())
        except _UNREADABLE:  # the folder was emptied, or a process killed while it wrote
            return {"bytes": _bytes_in(self.folder), "trouble": None}

    def _count_anew(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            for part in self.folder.glob("*/.*.part"):
                with suppress(FileNotFoundError):
                    if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                        part.unlink()
            (self.folder / "used.json").unlink(missing_ok=True)
            self._change(0)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # A singleton may be taken again by whoever holds it, and a fork makes its own.
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock", is_singleton=True).acquire(poll_interval=0.002):
            yield


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept(Video):
    kept: Path
    reopen: Callable[[Path], Video]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        try:
            frames = np.load(self.kept, mmap_mode="r")
        except _UNREADABLE:  # gone since
            return self.reopen(self.path)._pictures(wanted)
        return (np.asarray(frames[index]) for index in wanted)


def _short(facts: object) -> str:
    return hashlib.sha256(str(facts).encode()).hexdigest()[:32]


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process may just have moved it
            total += path.stat().st_size
    return total

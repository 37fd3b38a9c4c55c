"""Decoded frames kept on disk, for data sets that are small and looked at again and again.

A short video is decoded once, whole, and kept as plain uint8 in a file of its own, which is mapped
into memory: whichever frames the next epoch draws are there. All workers, and later runs, share the
files. A file is known by the video's place, size and time of change, and by the decoder's version:
a video that changes is decoded anew. What is read from it is bit for bit what decoding gives.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from motionaware.data.video import Video, VideoError, open_video
from motionaware.files import whole_file

MAX_VIDEO_BYTES = 2**26  # decoded; a longer video would take the place of many
_LAYOUT = 1  # of the files; another number makes them all anew


class FrameCache:
    """Opens videos, and keeps the frames of short ones.

    Args:
        folder: Where they are kept; made if missing, and may be deleted between runs.
        max_gib: How large the folder may grow, in GiB; once full, videos are decoded as usual.
    """

    def __init__(self, folder: str | Path, *, max_gib: float | int) -> None:
        self.folder = Path(folder).resolve()  # a worker may stand in another folder
        self.max_bytes = int(max_gib * 2**30)
        there = sum(path.stat().st_size for path in self.folder.glob("*.npy"))
        # Shared by all workers that are started with this cache.
        self._used = multiprocessing.Value("q", there)
        self._full = multiprocessing.Value("b", False)
        self._decoders = f"{_LAYOUT} {version('av')} {version('pillow')}"

    @property
    def used_bytes(self) -> int:
        """How large the folder is."""
        return self._used.value

    @property
    def is_full(self) -> bool:
        """Whether a video was turned away for lack of room."""
        return bool(self._full.value)

    def open(self, path: str | Path) -> Video:
        """Open a video as `open_video` does; its frames come from the cache if they are there.

        Raises:
            VideoError: As `open_video`.
        """
        path = Path(path)
        if not path.exists():
            return open_video(path)  # which says so
        kept = self.folder / f"{self._key(path)}.npy"
        if kept.exists():
            video = _mapped(path, kept)
            if video is not None:
                return video
        video = open_video(path)
        return (_mapped(path, kept) or video) if self._keep(video, kept) else video

    def _key(self, path: Path) -> str:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        facts = [(file.name, found.st_size, found.st_mtime_ns) for file in files
                 for found in [file.stat()]]  # fmt: skip
        return hashlib.sha256(f"{self._decoders} {path.resolve()} {facts}".encode()).hexdigest()[
            :32
        ]

    def _keep(self, video: Video, kept: Path) -> bool:
        """Decode all of a video into a file, if there is room for it."""
        num_bytes = video.num_frames * video.height * video.width * 3
        if num_bytes > MAX_VIDEO_BYTES:
            return False
        with self._used.get_lock():
            if self._used.value + num_bytes > self.max_bytes:
                self._full.value = True
                return False
            self._used.value += num_bytes
        try:
            frames = video.frames(range(video.num_frames))
            with whole_file(kept, what="decoded frames") as part, part.open("wb") as file:
                np.save(file, frames.permute(0, 2, 3, 1).numpy())
        except (VideoError, OSError) as error:
            # A frame that nobody asked for may be damaged; the disk may be full.
            with self._used.get_lock():
                self._used.value -= num_bytes
            self._full.value = self._full.value or isinstance(error, OSError)
            return False
        return True


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept(Video):
    kept: Path

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        frames = np.load(self.kept, mmap_mode="r")
        return (np.asarray(frames[index]) for index in wanted)


def _mapped(path: Path, kept: Path) -> Video | None:
    """The video whose frames a file keeps; None if the file was damaged or taken away."""
    try:
        num_frames, height, width, _ = np.load(kept, mmap_mode="r").shape
    except (OSError, ValueError, EOFError):
        return None
    return _Kept(
        path=path,
        num_frames=num_frames,
        height=height,
        width=width,
        times_seconds=None,
        kept=kept,
    )

"""Frames read by torchcodec, for whoever asks for it; PyAV says which frames there are.

Frames are numbered, counted and sized by the index of video_file.py, whoever decodes them. A file
of which torchcodec gives another number of frames, another size or other times, or an error, is
read by PyAV. docs/data.md says why this is no default: where the two were compared, it was seldom
faster, and not all of its frames were the same bit for bit.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from motionaware.data.video.base import SizeChange, Video
from motionaware.data.video.open import open_video
from motionaware.data.video.webp import is_webp
from motionaware.data.video.writer import write_video
from motionaware.errors import MissingPackage

Decoder = Literal["pyav", "torchcodec"]
_AT_ONCE = 16  # frames asked for together: a long video does not fit in memory
_CLOCK_SECONDS = 1e-3  # times closer than this are the same frame's


def opener_of(
    decoder: Decoder, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Callable[[str | Path], Video]:
    """Returns what opens videos so that `decoder` reads their frames.

    Args:
        decoder: The library.
        square_pixels: As for `open_video`.
        size_change: Likewise.

    Raises:
        ImportError: It is torchcodec, and that cannot make a decoder here.
    """
    options = {"square_pixels": square_pixels, "size_change": size_change}
    if decoder == "pyav":
        return partial(open_video, **options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "try.mp4"
        write_video(path, torch.zeros(2, 3, 16, 16, dtype=torch.uint8), fps=2)
        try:
            _decoder_of(path)
        except (ImportError, RuntimeError, OSError) as error:  # its wheel brings no FFmpeg
            why = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise MissingPackage(
                f"torchcodec cannot make a decoder here ({why}); install it and FFmpeg's libraries "
                "(pip install 'motionaware[torchcodec]'; apt-get install ffmpeg or conda install "
                "ffmpeg), or choose data.decoder: pyav"
            ) from error
    return partial(open_for_torchcodec, **options)


def open_for_torchcodec(
    path: str | Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Open a video as `open_video` does; the frames of a file are read by torchcodec.

    Raises:
        VideoError: As `open_video`.
    """
    video = open_video(path, square_pixels=square_pixels, size_change=size_change)
    if video.path.is_dir() or is_webp(video.path):
        return video
    return _ByTorchcodec(
        path=video.path,
        num_frames=video.num_frames,
        height=video.height,
        width=video.width,
        times_seconds=video.times_seconds,
        notes=video.notes,
        indexed=video,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _ByTorchcodec(Video):
    indexed: Video

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        for picture in self._agreed(wanted):
            yield picture
            num_read += 1
        yield from self.indexed._pictures(wanted[num_read:])

    def _agreed(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """What torchcodec gives, as far as it agrees with the index."""
        times = self.times_seconds
        try:
            decoder = _decoder_of(self.path)
            if times is None or decoder.metadata.num_frames != self.num_frames:
                return
            start = decoder.metadata.begin_stream_seconds or 0.0
            for begin in range(0, len(wanted), _AT_ONCE):
                numbers = wanted[begin : begin + _AT_ONCE]
                batch = decoder.get_frames_at(indices=numbers)
                late = np.abs(batch.pts_seconds.numpy() - start - times[numbers])
                if (
                    batch.data.shape[-2:] != (self.height, self.width)
                    or late.max() > _CLOCK_SECONDS
                ):
                    return
                yield from batch.data.permute(0, 2, 3, 1).numpy()
        except (RuntimeError, OSError):
            return


def _decoder_of(path: Path) -> Any:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    return VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)

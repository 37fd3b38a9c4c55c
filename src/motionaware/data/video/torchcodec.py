"""Decodes video files with torchcodec, an optional replacement for PyAV.

The index is still built by file.py: it fixes the number of frames, their size and their times. If
torchcodec reports another number of frames, another size or other times, or raises an error, PyAV
decodes the file. docs/data.md says why torchcodec is not the default: it was rarely faster, and
some of its frames differed from PyAV's.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from motionaware.data.video.base import Video
from motionaware.data.video.writer import write_video
from motionaware.errors import MissingPackage

_BATCH_FRAMES = 16  # frames decoded per call: a long video does not fit in memory
_TIME_TOLERANCE_SECONDS = 1e-3


def check_torchcodec() -> None:
    """Open a small video with torchcodec.

    Raises:
        MissingPackage: torchcodec is not installed, or finds no FFmpeg.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "try.mp4"
        write_video(path, torch.zeros(2, 3, 16, 16, dtype=torch.uint8), fps=2)
        try:
            _open_decoder(path)
        except (ImportError, RuntimeError, OSError) as error:  # its wheel does not include FFmpeg
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise MissingPackage(
                f"torchcodec cannot make a decoder here ({reason}); install it and FFmpeg's "
                "libraries (pip install 'motionaware[torchcodec]'; apt-get install ffmpeg or conda "
                "install ffmpeg), or choose data.decoder: pyav"
            ) from error


def decode_with_torchcodec(indexed: Video) -> Video:
    """Return a video with the index of `indexed`, whose frames torchcodec decodes.

    Args:
        indexed: A video file, opened by `open_video`. It decodes the frames that torchcodec cannot.
    """
    return _TorchcodecVideo(
        path=indexed.path,
        num_frames=indexed.num_frames,
        height=indexed.height,
        width=indexed.width,
        times_seconds=indexed.times_seconds,
        notes=indexed.notes,
        indexed=indexed,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _TorchcodecVideo(Video):
    indexed: Video

    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        for frame in self._decode_verified(indices):
            yield frame
            num_read += 1
        yield from self.indexed._read(indices[num_read:])

    def _decode_verified(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield frames from torchcodec until one does not match the index or does not decode."""
        times = self.times_seconds
        try:
            decoder = _open_decoder(self.path)
            if times is None or decoder.metadata.num_frames != self.num_frames:
                return
            start = decoder.metadata.begin_stream_seconds or 0.0
            for begin in range(0, len(indices), _BATCH_FRAMES):
                batch_indices = indices[begin : begin + _BATCH_FRAMES]
                batch = decoder.get_frames_at(indices=batch_indices)
                differences = np.abs(batch.pts_seconds.numpy() - start - times[batch_indices])
                if (
                    batch.data.shape[-2:] != (self.height, self.width)
                    or differences.max() > _TIME_TOLERANCE_SECONDS
                ):
                    return
                yield from batch.data.permute(0, 2, 3, 1).numpy()
        except (RuntimeError, OSError):
            return


def _open_decoder(path: Path) -> Any:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    return VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)

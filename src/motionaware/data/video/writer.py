"""Writes frames to an H.264 mp4 file with FFmpeg (PyAV)."""

from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from motionaware.errors import VideoError
from motionaware.files import atomic_file

# x264's AVX-512 code for macroblock-tree rate control reads uninitialised memory if a row of
# macroblocks is not a multiple of 8, so that file sizes and pixels differ between processes
# (findings/x264_avx512_not_repeatable.sh). Its AVX2 code rounds differently from its C code. The C
# code is used: rate control, quality and file size stay the same; encoding takes 2 to 3 times as
# long.
_DETERMINISTIC_X264 = "asm=0"


def write_video(
    path: str | Path, frames: UInt8[Tensor, "t 3 h w"], *, fps: float | int, crf: int = 17
) -> None:
    """Write RGB frames as an H.264 mp4 file; an interruption leaves no partial file.

    The same frames give the same bytes in every process and with any number of CPUs.

    Colour is stored at half resolution (4:2:0), which every player supports. H.264 allows this for
    even sizes only: frames with an odd side are stored at full resolution (4:4:4), which some
    browsers cannot show.

    Args:
        path: The file to write; its folder is created if missing.
        frames: RGB in [0, 255].
        fps: Frames per second.
        crf: Constant rate factor of x264, from 0 (almost lossless) to 51 (lowest quality).

    Raises:
        VideoError: An argument is out of range, or the frames cannot be encoded.
        OSError: The file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    num_frames, _, height, width = frames.shape
    for found, is_valid, wanted in (
        (f"{num_frames = }", num_frames >= 1, "1 or more"),
        (f"{fps = }", fps > 0, "more than 0"),
        (f"{crf = }", 0 <= crf <= 51, "0 to 51"),
    ):
        if not is_valid:
            raise VideoError(f"{path}: got {found}; wanted {wanted}")
    with atomic_file(path, what="the video") as part:
        try:
            with av.open(f"file:{part}", "w", format="mp4") as container:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = height, width
                stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
                stream.options = {"crf": str(crf), "x264-params": _DETERMINISTIC_X264}
                # Each thread encodes a slice, so that the bytes depend on the number of threads.
                stream.codec_context.thread_count = 1
                for frame in frames.permute(0, 2, 3, 1).contiguous().cpu().numpy():
                    container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise  # an error of the disk, not of the frames
            raise VideoError(f"{path} cannot be written as a video: {error.strerror}") from error

"""Frames -> an H.264 mp4 file. The only writer of FFmpeg (PyAV)."""

from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from motionaware.errors import VideoError
from motionaware.files import whole_file

# x264's AVX-512 code for macroblock-tree rate control reads memory that nobody wrote where a row of
# macroblocks is no multiple of 8, so sizes and pixels change from process to process
# (findings/x264_avx512_not_repeatable.sh). Its AVX2 code rounds in other ways than its C code. We
# take the C code: rate control, quality and file size stay; encoding takes 2 to 3 times as long.
_ONE_OUTPUT = "asm=0"


def write_video(
    path: str | Path, frames: UInt8[Tensor, "t 3 h w"], *, fps: float | int, crf: int = 17
) -> None:
    """Write RGB frames as an H.264 mp4 file; the file appears whole or not at all.

    Colour is stored at half resolution (4:2:0), which any player shows; H.264 knows that for even
    sizes only, so odd ones are stored at full resolution (4:4:4), which some browsers do not show.

    The same frames give the same bytes in every process and with any number of CPUs.

    Args:
        path: the file; its folder is made if missing.
        frames: RGB in [0, 255].
        fps: frames a second.
        crf: constant rate factor of x264, from 0 (almost lossless) to 51 (worst).

    Raises:
        VideoError: an argument is out of range, or the frames cannot be encoded.
        OSError: the file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    num_frames, _, height, width = frames.shape
    for fact, holds, wanted in (
        (f"{num_frames = }", num_frames >= 1, "1 or more"),
        (f"{fps = }", fps > 0, "more than 0"),
        (f"{crf = }", 0 <= crf <= 51, "0 to 51"),
    ):
        if not holds:
            raise VideoError(f"{path}: got {fact}; wanted {wanted}")
    with whole_file(path, what="the video") as whole:
        try:
            with av.open(f"file:{whole}", "w", format="mp4") as container:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = height, width
                stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
                stream.options = {"crf": str(crf), "x264-params": _ONE_OUTPUT}
                stream.codec_context.thread_count = 1  # each thread encodes a slice: other bytes
                for picture in frames.permute(0, 2, 3, 1).contiguous().cpu().numpy():
                    container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise  # of the disk, not of the frames
            raise VideoError(f"{path} cannot be written as a video: {error.strerror}") from error

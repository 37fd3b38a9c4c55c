"""Opens a video of any kind: a file, an animated image or a folder of frames."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from motionaware.data.video.base import SizeChange, Video
from motionaware.data.video.frame_folder import open_frame_folder
from motionaware.data.video.webp import is_webp, open_webp
from motionaware.errors import VideoError

Decoder = Literal["pyav", "torchcodec"]
"""The library that decodes the frames of a video file."""


def open_video(
    path: str | Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Open a video file, or a folder of images sorted by the numbers in their names (2 before 10).

    A folder is one video if it holds images and no video file. It may hold other files too, if it
    holds two numbered images or more; a single image next to other files is often a thumbnail.

    Args:
        path: The file or folder.
        square_pixels: Scale the width by the sample aspect ratio of the file (DV, DVD, HDV), so
            that a circle is displayed as a circle. Images of a folder are not scaled.
        size_change: What to do with frames whose size differs from the first frame's. `scale`
            stretches them to the size of the first, as the ffmpeg command does, and adds a note;
            `refuse` raises VideoError when such a frame is read. Images of a folder must all have
            the same size.

    Raises:
        VideoError: The path does not exist or is not a video, the video is truncated, or no frame
            of it can be decoded.
    """
    if str(path) == "":
        raise VideoError("the path of the video is empty; give a video file or a folder of frames")
    path = Path(path)
    if path.is_dir():
        return open_frame_folder(path)
    if not path.exists():
        raise VideoError(f"{path} does not exist; wanted a video file or a folder of frames")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is an empty file, wanted a video; fetch it again")
    if is_webp(path):
        return open_webp(path)
    from motionaware.data.video.file import open_video_file  # imports FFmpeg

    return open_video_file(path, square_pixels=square_pixels, size_change=size_change)


def video_opener(
    decoder: Decoder, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Callable[[str | Path], Video]:
    """Return a function that opens a video whose frames `decoder` decodes.

    Args:
        decoder: The decoding library.
        square_pixels: As for `open_video`.
        size_change: As for `open_video`.

    Raises:
        MissingPackage: torchcodec is chosen, but cannot decode on this machine.
    """
    options = {"square_pixels": square_pixels, "size_change": size_change}
    if decoder == "pyav":
        return partial(open_video, **options)
    from motionaware.data.video.torchcodec import check_torchcodec

    check_torchcodec()
    return partial(_open_for_torchcodec, **options)


def _open_for_torchcodec(
    path: str | Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Open a video; torchcodec decodes the frames of a file, Pillow those of images and WebP."""
    from motionaware.data.video.torchcodec import decode_with_torchcodec

    video = open_video(path, square_pixels=square_pixels, size_change=size_change)
    if video.path.is_dir() or is_webp(video.path):
        return video
    return decode_with_torchcodec(video)

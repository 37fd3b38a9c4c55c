"""Open a video: a file, an animation or a folder of frames."""

from pathlib import Path

from motionaware.data.video.base import SizeChange, Video
from motionaware.data.video.frame_folder import open_frame_folder
from motionaware.data.video.webp import is_webp
from motionaware.errors import VideoError


def open_video(
    path: str | Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Open a video file, or a folder of images named in the order of showing (2 comes before 10).

    A folder is one video if it holds images and no video file. Two numbered images or more may have
    other files beside them; a single image may not, since it is often a thumbnail.

    Args:
        path: The file or folder.
        square_pixels: Whether the width is scaled where a file says that its pixels are not square
            (DV, DVD, HDV), so that a circle is a circle. Images of a folder stay as stored.
        size_change: What becomes of frames of another size than the first. `scale` stretches them
            to the size of the first, as the ffmpeg command does, and adds a note; `refuse` raises
            VideoError when one is read. Images of a folder must always have one size.

    Raises:
        VideoError: nothing is there, or it is no video, or it has no frame that can be read, or it
            is cut short.
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
        from motionaware.data.video.webp import open_webp

        return open_webp(path)
    from motionaware.data.video.file import open_video_file  # loads FFmpeg

    return open_video_file(path, square_pixels=square_pixels, size_change=size_change)

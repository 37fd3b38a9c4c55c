"""Writes the frames of a video to a folder of JPEG files, `00001.jpg` first."""

import shutil
from pathlib import Path

from PIL import Image

from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

_JPEG_QUALITY = 95  # a higher quality gives much larger files for little gain


def extract_frames(video: str | Path, folder: str | Path, *, short_side: int | None = None) -> int:
    """Write every displayed frame of a video as a JPEG file.

    Frames are written to a temporary folder that is then renamed to `folder`, so that an
    interruption never leaves an incomplete folder. A folder that holds the right number of JPEG
    files already is kept.

    Args:
        video: A video file, or a folder of images.
        folder: Folder to write to.
        short_side: Scale frames down to this many pixels on their shorter side; smaller frames keep
            their size. None keeps every size.

    Returns:
        The number of frames.

    Raises:
        VideoError: A frame of the video cannot be decoded.
        OSError: The frames cannot be written.
    """
    opened, folder = open_video(video), Path(folder)
    if folder.is_dir() and len([*folder.glob("*.jpg")]) == opened.num_frames:
        return opened.num_frames
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process
    part.mkdir(parents=True)
    shorter = min(opened.height, opened.width)
    scale = min(1.0, (short_side or shorter) / shorter)
    size = round(opened.width * scale), round(opened.height * scale)
    num_written = 0
    try:
        for num_written, frame in enumerate(opened.iter_frames(), start=1):
            image = Image.fromarray(frame)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)  # antialiased
            image.save(part / f"{num_written:05d}.jpg", quality=_JPEG_QUALITY)
        if num_written != opened.num_frames:
            raise VideoError(f"{video} gave {num_written} of its {opened.num_frames} frames")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return num_written

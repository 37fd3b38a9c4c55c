"""A video -> a folder of its frames as JPEG files, `00001.jpg` the first: whole or not at all."""

import shutil
from pathlib import Path

from PIL import Image

from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

_QUALITY = 95  # of JPEG; above it files grow fast for little


def extract_frames(video: str | Path, folder: str | Path, *, short_side: int | None = None) -> int:
    """Write every frame of a video as it is shown; a folder that holds as many already is kept.

    Frames are written to a folder beside, which then takes its place: whatever breaks it off, what
    stands at `folder` is whole.

    Args:
        video: A file, or a folder of images.
        folder: Where the frames go.
        short_side: Pixels of the shorter side; a smaller video keeps its size, None keeps all.

    Returns:
        The number of frames.

    Raises:
        VideoError: The video cannot be read to its end.
        OSError: The frames cannot be written.
    """
    opened, folder = open_video(video), Path(folder)
    if folder.is_dir() and len([*folder.glob("*.jpg")]) == opened.num_frames:
        return opened.num_frames
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir(parents=True)
    shorter = min(opened.height, opened.width)
    scale = min(1.0, (short_side or shorter) / shorter)
    size = round(opened.width * scale), round(opened.height * scale)
    number = 0
    try:
        for number, picture in enumerate(opened.pictures(), start=1):
            image = Image.fromarray(picture)
            if image.size != size:
                image = image.resize(size, Image.Resampling.BILINEAR)  # averages where it shrinks
            image.save(part / f"{number:05d}.jpg", quality=_QUALITY)
        if number != opened.num_frames:
            raise VideoError(f"{video} gave {number} of its {opened.num_frames} frames")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return number

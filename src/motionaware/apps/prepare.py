"""Prepare: write the embedded data set as real video files."""

from pathlib import Path

from tqdm import tqdm

from motionaware.data.motionpairs import SPLITS, MotionPairs
from motionaware.data.video import write_video

_FRAMES_A_SECOND = 8


def prepare(
    out: str | Path,
    *,
    num_clips: dict[str, int],
    num_frames: int = 8,
    image_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> int:
    """Write MotionPairs as `OUT/SPLIT/CLASS/NUMBER.mp4`, which `data.kind: folder` reads.

    Files that are there already are left as they are, so that it can be interrupted and repeated.

    Args:
        out: Folder to write to.
        num_clips: Number of clips of each split.
        num_frames: Frames a clip.
        image_size: Height and width in pixels.
        seed: Of the data set.
        progress: Show a bar on the error stream.

    Returns:
        How many files were written.

    Raises:
        ValueError: A split is unknown, or a number out of range.
        VideoError: A file could not be written.
    """
    unknown = set(num_clips) - set(SPLITS)
    if unknown:
        raise ValueError(f"splits {sorted(unknown)} are unknown; choose {', '.join(SPLITS)}")
    out = Path(out)
    written = 0
    for split, number in num_clips.items():
        clips = MotionPairs(
            split=split, num_clips=number, num_frames=num_frames, image_size=image_size, seed=seed
        )
        for index in tqdm(range(number), f"write {split}", disable=not progress):
            label = index % len(clips.class_names)
            path = out / split / clips.class_names[label] / f"{index:06d}.mp4"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, clips[index][0], fps=_FRAMES_A_SECOND)
                written += 1
    return written

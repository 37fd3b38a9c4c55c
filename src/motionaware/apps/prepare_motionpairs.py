"""Prepare: write the embedded data set as real video files."""

import json
from pathlib import Path

from tqdm import tqdm

from motionaware.data.motionpairs import CLASS_NAMES, DATA_VERSION, SPLITS, MotionPairs
from motionaware.data.video.writer import write_video
from motionaware.errors import UsageError
from motionaware.files import check_folder, write_atomically

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
        ValueError: A split is unknown, a number out of range, or the folder holds a data set drawn
            with other numbers.
        OSError: A file could not be written.
        OSError: A folder could not be made.
    """
    unknown = set(num_clips) - set(SPLITS)
    if unknown:
        raise UsageError(f"splits {sorted(unknown)} are unknown; choose {', '.join(SPLITS)}")
    out = Path(out)
    check_folder(out)
    splits = {
        split: MotionPairs(
            split=split, num_clips=number, num_frames=num_frames, image_size=image_size, seed=seed
        )
        for split, number in num_clips.items()
    }
    facts = {"num_frames": num_frames, "image_size": image_size, "seed": seed}
    _sign(out / "motionpairs.json", {"version": DATA_VERSION, **num_clips, **facts})
    write_atomically(out / "classes.txt", "\n".join(CLASS_NAMES).encode())  # partners in a row
    written = 0
    for split, clips in splits.items():
        number = len(clips)
        for index in tqdm(range(number), f"write {split}", disable=not progress):
            label = index % len(clips.class_names)
            path = out / split / clips.class_names[label] / f"{index:06d}.mp4"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, clips[index][0], fps=_FRAMES_A_SECOND)
                written += 1
    return written


def _sign(path: Path, facts: dict[str, int]) -> None:
    """Note what is drawn here, so that two data sets do not mix in one folder."""
    if not path.exists():
        write_atomically(path, json.dumps(facts).encode())
        return
    noted = json.loads(path.read_text(encoding="utf-8"))
    if noted != facts:
        raise UsageError(
            f"{path.parent} holds videos drawn with {noted}, not with {facts}; choose another "
            "folder, or delete this one"
        )

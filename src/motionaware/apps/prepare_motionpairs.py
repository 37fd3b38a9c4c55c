"""Write the synthetic data set MotionPairs as video files."""

import json
from pathlib import Path

from tqdm import tqdm

from motionaware.data.motionpairs import CLASS_NAMES, DATA_VERSION, SPLITS, MotionPairs
from motionaware.data.video.writer import write_video
from motionaware.errors import UsageError
from motionaware.files import check_folder, write_atomically

_FRAMES_PER_SECOND = 8
_SETTINGS = "motionpairs.json"


def prepare_motionpairs(
    out: str | Path,
    *,
    num_clips: dict[str, int],
    num_frames: int = 8,
    image_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> int:
    """Write MotionPairs as `OUT/SPLIT/CLASS/NUMBER.mp4`, which `data.kind: folder` reads.

    Existing files are kept, so an interrupted call can be repeated.

    Args:
        out: Folder to write to.
        num_clips: Number of clips of each split.
        num_frames: Frames per clip.
        image_size: Height and width in pixels.
        seed: Seed of the random draws.
        progress: Show a progress bar on standard error.

    Returns:
        The number of files written.

    Raises:
        UsageError: A split is unknown, a number is out of range, or the folder holds a data set
            with other settings.
        OSError: A file or folder cannot be written.
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
    settings = {"num_frames": num_frames, "image_size": image_size, "seed": seed}
    _check_settings(out / _SETTINGS, {"version": DATA_VERSION, **num_clips, **settings})
    write_atomically(out / "classes.txt", "\n".join(CLASS_NAMES).encode())  # keeps pairs adjacent
    num_written = 0
    for split, clips in splits.items():
        for index in tqdm(range(len(clips)), f"write {split}", disable=not progress):
            label = index % len(clips.class_names)
            path = out / split / clips.class_names[label] / f"{index:06d}.mp4"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, clips[index][0], fps=_FRAMES_PER_SECOND)
                num_written += 1
    return num_written


def _check_settings(path: Path, settings: dict[str, int]) -> None:
    """Write the settings to `path`, or check that the file there has the same ones.

    Raises:
        UsageError: The settings differ.
    """
    if not path.exists():
        write_atomically(path, json.dumps(settings).encode())
        return
    existing = json.loads(path.read_text(encoding="utf-8"))
    if existing != settings:
        raise UsageError(
            f"{path.parent} holds videos with the settings {existing}, not {settings}; choose "
            "another folder, or delete this one"
        )

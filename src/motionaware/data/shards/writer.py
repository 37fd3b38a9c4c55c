"""Write videos into shards; layout.py describes the tar files. Each is written atomically."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.data.annotations.split import SHARD_INDEX, Example, Overlap, Split
from motionaware.data.shards.layout import VERSION
from motionaware.data.video.frame_folder import frame_names
from motionaware.files import atomic_file, write_atomically

_SHUFFLE_SEED = 0  # of the order of training videos in their shards
_FILE_MODE = 0o444
_BLOCK = 512  # bytes; a tar member is a header of one block and content padded to whole blocks


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Attributes:
        path: The tar file.
        videos: Path, name and label of each video.
        first: Index of the first of these videos in its split.
        class_names: All classes of the data set.
    """

    path: Path
    videos: tuple[tuple[Path, str, int], ...]
    first: int
    class_names: tuple[str, ...]


def plan_shards(
    split: Split, sizes: Sequence[int], *, folder: Path, root: Path, num_bytes: int
) -> list[Shard]:
    """Assign the videos of a split to shards of about `num_bytes` each; no shard is empty.

    Training videos are shuffled first with a fixed seed: lists are sorted by class, and the videos
    of a batch come from few shards.

    Args:
        split: The videos.
        sizes: Bytes of each video in a shard; see `num_bytes_in_shard`.
        folder: Folder of the shards.
        root: Folder of the data set: names of videos below it are relative to it.
        num_bytes: Size of a shard; a larger video gets a shard to itself.
    """
    order = list(range(len(sizes)))
    if split.name == "train":
        generator = torch.Generator().manual_seed(_SHUFFLE_SEED)
        order = torch.randperm(len(sizes), generator=generator).tolist()
    groups: list[list[int]] = []
    used = num_bytes
    for index in order:
        if used + sizes[index] > num_bytes:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += sizes[index]
    shards, first = [], 0
    for number, group in enumerate(groups):
        videos = tuple(_video_entry(split.examples[index], root) for index in group)
        path = folder / f"{split.name}-{number:06d}.tar"
        shards.append(Shard(path, videos, first, split.class_names))
        first += len(group)
    return shards


def num_bytes_in_shard(video: Path) -> int:
    """Return the bytes that a video takes in a shard, without its JSON file."""
    files = [video / name for name in frame_names(video)] if video.is_dir() else [video]
    return sum(_BLOCK + -(-file.stat().st_size // _BLOCK) * _BLOCK for file in files)


def write_shard(shard: Shard) -> int:
    """Write a shard unless it exists, and return its size in bytes.

    The same videos give the same bytes: the tar file contains neither times nor user names.

    Raises:
        OSError: A video cannot be read, or the shard cannot be written.
    """
    if shard.path.is_file():
        return shard.path.stat().st_size
    with (
        atomic_file(shard.path, what="the shard") as part,
        tarfile.open(part, mode="w") as tar,
    ):
        for number, (path, name, label) in enumerate(shard.videos, start=shard.first):
            about = {"name": name, "class": shard.class_names[label], "label": label}
            files = {"json": json.dumps(about).encode()} | _read_files(path)
            for suffix, content in sorted(files.items()):  # in WebDataset's order
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size, member.mode = len(content), _FILE_MODE
                tar.addfile(member, io.BytesIO(content))
    return shard.path.stat().st_size


def write_shard_index(
    folder: Path,
    class_names: Sequence[str],
    shards: dict[str, list[Shard]],
    sizes: dict[Path, int],
    *,
    overlap: Overlap,
) -> None:
    """Write shards.json; call it after all shards are written.

    Args:
        folder: Folder of the shards.
        class_names: All classes of the data set.
        shards: The shards of each split.
        sizes: Bytes of each shard, by its path.
        overlap: How many videos two splits share.
    """
    splits = {
        split: [
            {
                "name": shard.path.name,
                "num_bytes": sizes[shard.path],
                "labels": [label for _, _, label in shard.videos],
            }
            for shard in shards_of_split
        ]
        for split, shards_of_split in shards.items()
    }
    index = {
        "version": VERSION,
        "class_names": list(class_names),
        "splits": splits,
        "shared": [(*pair, number) for pair, number in overlap.items()],
    }
    write_atomically(folder / SHARD_INDEX, json.dumps(index).encode())


def _read_files(video: Path) -> dict[str, bytes]:
    """Return the content of the files of a video, by the suffix that each gets in the shard."""
    if not video.is_dir():
        return {video.suffix[1:].lower(): video.read_bytes()}
    names = enumerate(frame_names(video), start=1)
    return {
        f"{number:06d}{Path(name).suffix.lower()}": (video / name).read_bytes()
        for number, name in names
    }


def _video_entry(example: Example, root: Path) -> tuple[Path, str, int]:
    path = example.path
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return path, name.as_posix(), example.label

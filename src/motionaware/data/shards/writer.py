"""Videos -> shards: tar files, each whole or not at all. What they hold is said in shards.py."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.data.annotations.split import Example, Shared, Split
from motionaware.data.shards.layout import INDEX, VERSION
from motionaware.data.video.frame_folder import frame_names
from motionaware.errors import MissingPackage
from motionaware.files import atomic_file, write_atomically

_SEED = 0  # of the order of training videos in their shards
_BLOCK = 512  # of a tar file; each member has one for its head, and fills its last one


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Attributes:
        path: Where it belongs.
        videos: Path, name and label of each video.
        first: The number of the first of them in its split.
        class_names: All of them.
    """

    path: Path
    videos: tuple[tuple[Path, str, int], ...]
    first: int
    class_names: tuple[str, ...]


def plan_shards(
    split: Split, sizes: Sequence[int], *, folder: Path, root: Path, num_bytes: int
) -> list[Shard]:
    """Share the videos of a split out to shards that have about `num_bytes`, none empty.

    Training videos are put into an order of chance first: lists go class by class, and the videos
    that meet in a batch come from few shards. The order is the same every time.
    """
    places = list(range(len(sizes)))
    if split.name == "train":
        generator = torch.Generator().manual_seed(_SEED)
        places = torch.randperm(len(sizes), generator=generator).tolist()
    groups: list[list[int]] = []
    full = num_bytes
    for place in places:
        if full + sizes[place] > num_bytes:
            groups.append([])
            full = 0
        groups[-1].append(place)
        full += sizes[place]
    shards, first = [], 0
    for number, group in enumerate(groups):
        videos = tuple(_described(split.examples[place], root) for place in group)
        path = folder / f"{split.name}-{number:06d}.tar"
        shards.append(Shard(path, videos, first, split.class_names))
        first += len(group)
    return shards


def num_bytes_in_shard(video: Path) -> int:
    """What a video takes in a shard, its json not counted."""
    files = [video / name for name in frame_names(video)] if video.is_dir() else [video]
    return sum(_BLOCK + -(-file.stat().st_size // _BLOCK) * _BLOCK for file in files)


def write_shard(shard: Shard) -> int:
    """Write a shard, unless it stands there already; returns how many bytes it has.

    Raises:
        OSError: A video cannot be read, or the shard not be written.
        ImportError: webdataset is not installed.
    """
    try:
        from webdataset.writer import TarWriter
    except ImportError as error:
        raise MissingPackage(
            "shards need webdataset, which is not installed; pip install 'motionaware[shards]'"
        ) from error
    if shard.path.is_file():
        return shard.path.stat().st_size
    with (
        atomic_file(shard.path, what="the shard") as part,
        part.open("wb") as stream,
        # Neither clock nor user: the same videos make the same bytes.
        TarWriter(stream, encoder=False, mtime=0, user="", group="") as writer,
    ):
        for number, (path, name, label) in enumerate(shard.videos, start=shard.first):
            about = {"name": name, "class": shard.class_names[label], "label": label}
            files = {"json": json.dumps(about).encode()} | _files(path)
            writer.write({"__key__": f"{number:08d}", **files})
    return shard.path.stat().st_size


def write_shard_index(
    folder: Path,
    class_names: Sequence[str],
    shards: dict[str, list[Shard]],
    sizes: dict[Path, int],
    *,
    shared: Shared,
) -> None:
    """Write what makes the shards a data set, once all of them stand."""
    splits = {
        split: [
            {
                "name": one.path.name,
                "num_bytes": sizes[one.path],
                "labels": [label for _, _, label in one.videos],
            }
            for one in of_split
        ]
        for split, of_split in shards.items()
    }
    index = {
        "version": VERSION,
        "class_names": list(class_names),
        "splits": splits,
        "shared": [(*pair, number) for pair, number in shared.items()],
    }
    write_atomically(folder / INDEX, json.dumps(index).encode())


def _files(video: Path) -> dict[str, bytes]:
    if not video.is_dir():
        return {video.suffix[1:].lower(): video.read_bytes()}
    names = enumerate(frame_names(video), start=1)
    return {
        f"{number:06d}{Path(name).suffix.lower()}": (video / name).read_bytes()
        for number, name in names
    }


def _described(example: Example, root: Path) -> tuple[Path, str, int]:
    path = example.path
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return path, name.as_posix(), example.label

"""Read the lists of data sets: which videos each split has and which class each video shows.

`KINDS` is the table of the layouts. To add a data set, write its reader and add a line to `KINDS`.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from motionaware.data.annotations.folders_and_csv import (
    is_video,
    read_csv,
    read_folder,
    read_list,
)
from motionaware.data.annotations.index import IndexUnusable, missing_examples, open_index
from motionaware.data.annotations.kinetics import read_kinetics
from motionaware.data.annotations.something_jester import (
    read_jester,
    read_something_v1,
    read_something_v2,
)
from motionaware.data.annotations.split import SPLITS, Split, SplitReader, contents
from motionaware.data.annotations.ucf_hmdb_diving import (
    FOLDS,
    read_diving48,
    read_hmdb51,
    read_ucf101,
)
from motionaware.errors import DataError
from motionaware.messages import did_you_mean

KINDS: dict[str, SplitReader] = {
    "folder": read_folder,
    "csv": read_csv,
    "list": read_list,
    "something-v1": read_something_v1,
    "something-v2": read_something_v2,
    "jester": read_jester,
    "kinetics": read_kinetics,
    **{f"ucf101-{fold}": partial(read_ucf101, fold=fold) for fold in FOLDS},
    **{f"hmdb51-{fold}": partial(read_hmdb51, fold=fold) for fold in FOLDS},
    "diving48": read_diving48,
}

USER_KINDS = ("folder", "csv", "list")  # the other kinds are published data sets
_KINDS_WITHOUT_LISTS = ("motionpairs", "shards")


def read_split(kind: str, root: str | Path | None, split: str) -> Split:
    """Read one split from its index if it is fresh, else from its lists; see index.py.

    No video is opened.

    Args:
        kind: A key of `KINDS`.
        root: The folder of the data set.
        split: `train`, `val` or `test`.

    Raises:
        SplitAbsent: The data set does not have this split.
        DataError: The folder or its lists do not have the layout of the kind.
    """
    folder = _check_root(kind, root, split)
    try:
        return open_index(kind, folder, split)
    except IndexUnusable:  # the lists are slower, but equal; motionaware doctor gives the reason
        return KINDS[kind](folder, split)


def read_lists(kind: str, root: str | Path | None, split: str) -> Split:
    """Read one split from its lists, even if it has an index.

    Args:
        kind: A key of `KINDS`.
        root: The folder of the data set.
        split: `train`, `val` or `test`.

    Raises:
        SplitAbsent: The data set does not have this split.
        DataError: The folder or its lists do not have the layout of the kind.
    """
    folder = _check_root(kind, root, split)
    return KINDS[kind](folder, split)


def _check_root(kind: str, root: str | Path | None, split: str) -> Path:
    """Check kind, split and root before anything is read; return the root."""
    if kind in _KINDS_WITHOUT_LISTS:
        raise DataError(
            f"data kind {kind!r} has no lists to read: motionpairs is generated, shards have their "
            f"own index; choose {', '.join(KINDS)}"
        )
    if kind not in KINDS:
        choices = f"choose {', '.join(KINDS)}, or in a recipe motionpairs or shards"
        hint = did_you_mean(kind, [*KINDS, *_KINDS_WITHOUT_LISTS], then=choices)
        raise DataError(f"data kind {kind!r} is unknown; {hint}")
    if split not in SPLITS:
        raise DataError(f"split {split!r} is unknown; choose {', '.join(SPLITS)}")
    if root is None:
        raise DataError(
            f"data of kind {kind!r} needs its folder; set data.root "
            "(--data.root FOLDER; in a grid under overrides)"
        )
    if not Path(root).is_dir():
        where = "" if Path(root).is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f"data.root {root} is not a folder{where}; give the folder that contains the splits"
        )
    return Path(root)


def check_videos_exist(split: Split) -> None:
    """Check that every listed video exists, so that a run does not fail hours later.

    Videos that existed when the index was written are not checked again.

    Raises:
        DataError: Some videos do not exist.
    """
    missing = [split.examples[i].path for i in missing_examples(split)]
    if not missing:
        return
    first, number = missing[0], len(split.examples)
    if len(missing) == number:
        folder = next(parent for parent in first.absolute().parents if parent.is_dir())
        raise DataError(
            f"none of the {number} listed videos of {split.name} exists; looked for {first} first; "
            f"{folder} holds {contents(folder)}; set data.root to the folder to which the paths in "
            "the list are relative"
        )
    raise DataError(
        f"{len(missing)} of the {number} videos of {split.name} do not exist, first {first}; "
        "motionaware doctor lists all of them, data.on_error skip leaves them out"
    )


def unlisted_videos(splits: Iterable[Split]) -> list[Path]:
    """Return the videos next to listed ones that no list contains: they have no label."""
    listed = {example.path for split in splits for example in split.examples}
    folders = sorted({path.parent for path in listed})
    files = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted(path for path in files if path not in listed and is_video(path))

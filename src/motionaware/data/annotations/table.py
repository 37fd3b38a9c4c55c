"""The lists of data sets -> Examples: which videos there are and what each one shows.

`KINDS` is the table; formats/ holds one file a family, each saying what tree it reads. To add a
data set, write its reader and give it a line in the table.
"""

from collections.abc import Iterable
from functools import partial
from itertools import combinations
from pathlib import Path

from motionaware.data.annotations import folders_and_csv as own
from motionaware.data.annotations.folders_and_csv import (
    is_video,
    read_csv,
    read_folder,
    read_list,
)
from motionaware.data.annotations.index import IndexUnusable, missing_places, open_index
from motionaware.data.annotations.kinetics import read_kinetics
from motionaware.data.annotations.something_jester import (
    read_jester,
    read_something_v1,
    read_something_v2,
)
from motionaware.data.annotations.split import SPLITS, Reader, Shared, Split, contents
from motionaware.data.annotations.ucf_hmdb_diving import (
    FOLDS,
    read_diving48,
    read_hmdb51,
    read_ucf101,
)
from motionaware.data.shards.layout import INDEX as SHARDS_INDEX
from motionaware.data.shards.layout import KIND as SHARDS
from motionaware.errors import DataError
from motionaware.messages import did_you_mean

KINDS: dict[str, Reader] = {
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


OWN_KINDS = ("folder", "csv", "list")  # the others are published data sets


def detect_kind(root: str | Path) -> str:
    """Return `shards`, `folder`, `csv` or `list` by the names in a folder; `folder` if unsure."""
    folder = Path(root)
    if (folder / SHARDS_INDEX).is_file():
        return SHARDS
    return own.detect_kind(folder) or "folder"


def read_split(kind: str, root: str | Path | None, split: str) -> Split:
    """Read one split from its index, or from its lists where it has none that is fresh.

    No video is opened. See index.py for what makes an index fresh.

    Args:
        kind: A key of `KINDS`.
        root: The folder of the data set.
        split: `train`, `val` or `test`.

    Raises:
        SplitAbsent: The data set does not have this split.
        DataError: The folder or its lists are not as the kind wants them.
    """
    folder = _checked(kind, root, split)
    try:
        return open_index(kind, folder, split)
    except IndexUnusable:  # the lists say the same, later; motionaware doctor says why
        return _read(kind, folder, split)


def read_lists(kind: str, root: str | Path | None, split: str) -> Split:
    """Read one split from its lists, whether it has an index or not.

    Args:
        kind: A key of `KINDS`.
        root: The folder of the data set.
        split: `train`, `val` or `test`.

    Raises:
        SplitAbsent: The data set does not have this split.
        DataError: The folder or its lists are not as the kind wants them.
    """
    folder = _checked(kind, root, split)
    return _read(kind, folder, split)


def _read(kind: str, folder: Path, split: str) -> Split:
    try:
        return KINDS[kind](folder, split)
    except DataError as error:
        if not (folder / SHARDS_INDEX).is_file():
            raise
        raise type(error)(
            f"{error}; {SHARDS_INDEX} says that these are shards: set data.kind {SHARDS}, or "
            f"--kind {SHARDS} for motionaware doctor"
        ) from error


def _checked(kind: str, root: str | Path | None, split: str) -> Path:
    if kind not in KINDS:
        others = ("motionpairs", "shards")
        if kind in others:
            raise DataError(
                f"data kind {kind!r} has no lists to read: motionpairs is drawn, shards are ready "
                f"as they are; choose {', '.join(KINDS)}"
            )
        raise DataError(
            f"data kind {kind!r} is unknown; {did_you_mean(kind, [*KINDS, *others])}"
            f"Choose {', '.join(KINDS)}, or in a recipe motionpairs or shards"
        )
    if split not in SPLITS:
        raise DataError(f"split {split!r} is unknown; choose {', '.join(SPLITS)}")
    if root is None:
        raise DataError(f"data of kind {kind!r} needs its folder; set data.root")
    if not Path(root).is_dir():
        begin = "" if Path(root).is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f"data.root {root} is not a folder{begin}; give the one that holds its splits"
        )
    return Path(root)


def check_videos_exist(split: Split) -> None:
    """Look for every listed video, so that a run does not stop hours later.

    Those that an index found are taken to be there still.

    Raises:
        DataError: Some are not there.
    """
    missing = [split.examples[place].path for place in missing_places(split)]
    if not missing:
        return
    first, number = missing[0], len(split.examples)
    if len(missing) == number:
        there = next(folder for folder in first.absolute().parents if folder.is_dir())
        raise DataError(
            f"no video of {split.name} exists, of {number} that are listed; looked for {first} "
            f"first; {there} holds {contents(there)}; set data.root to the folder where the paths "
            "of the list begin"
        )
    raise DataError(
        f"{len(missing)} of the {number} videos of {split.name} do not exist, first {first}; "
        "motionaware doctor names all of them, data.on_error skip leaves them out"
    )


def shared_videos(one: Split, other: Split) -> list[Path]:
    """Find the videos that both of two splits list: what is learnt or chosen on them is known."""
    in_one = {example.path for example in one.examples}
    return sorted(in_one.intersection(example.path for example in other.examples))


def count_shared(splits: Iterable[Split]) -> Shared:
    """How many videos two splits both list, for each two that share some."""
    pairs = combinations(splits, 2)
    counts = {(one.name, other.name): len(shared_videos(one, other)) for one, other in pairs}
    return {pair: number for pair, number in counts.items() if number}


def unlisted_videos(splits: Iterable[Split]) -> list[Path]:
    """Find the videos that lie beside listed ones and that no list names: files without labels."""
    listed = {example.path for split in splits for example in split.examples}
    folders = sorted({path.parent for path in listed})
    inside = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted(path for path in inside if path not in listed and is_video(path))

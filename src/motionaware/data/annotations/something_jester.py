"""Something-Something V1 and V2, and Jester, as published.

`something-v1`  something-something-v1-{labels,train,validation}.csv, lines `id;label`;
                frames 20bn-something-something-v1/ID/00001.jpg
`jester`        jester-v1-{labels,train,validation}.csv, lines `id;label`;
                frames 20bn-jester-v1/ID/00001.jpg
`something-v2`  labels.json `{label: "0"}`, {train,validation,test}.json with `id` and `template`,
                test-answers.csv; videos 20bn-something-something-v2/ID.webm

V1 and Jester list their classes one a line, in the order of their labels; V2 numbers its classes.
The test labels of V1 and Jester were never published.

Source  Goyal et al., The "something something" video database, 2017, https://arxiv.org/abs/1706.04261
        Materzynska et al., The Jester Dataset, ICCV workshops 2019
"""

from pathlib import Path

from motionaware.data.annotations.split import (
    Example,
    Split,
    class_index,
    find_list,
    locate_videos,
    read_json,
    read_lines,
)
from motionaware.errors import DataError, SplitAbsent

_PUBLISHED = {"train": "train", "val": "validation", "test": "test"}
_FOLDERS = ("frames", "rawframes", "videos", "")


def read_something_v1(root: Path, split: str) -> Split:
    """Read one split of Something-Something V1."""
    return _read_semicolons(root, split, "something-something-v1")


def read_jester(root: Path, split: str) -> Split:
    """Read one split of Jester."""
    return _read_semicolons(root, split, "jester-v1")


def _read_semicolons(root: Path, split: str, name: str) -> Split:
    if split == "test":
        raise SplitAbsent(f"the test labels of {name} are not published; evaluate on val")
    class_list = find_list(root, f"the class list of {name}", [f"{name}-labels.csv"])
    class_names = tuple(line for _, line in read_lines(class_list))
    indices = {class_name: index for index, class_name in enumerate(class_names)}
    if not class_names or len(indices) < len(class_names):
        raise DataError(f"{class_list} is empty or lists a class twice; download it again")
    path = find_list(
        root, f"the {split} list of {name}", [f"{name}-{_PUBLISHED[split]}.csv"], is_optional=True
    )
    ids, labels = [], []
    for line, content in read_lines(path):
        where = f"{path}, line {line}"
        video, semicolon, label = content.partition(";")
        if not semicolon:
            raise DataError(f"{where}: found {content!r}, wanted id;label")
        ids.append(video)
        labels.append(class_index(label, indices, where=where))
    return _make_split(root, split, ids, labels, class_names, what=name, suffix="")


def read_something_v2(root: Path, split: str) -> Split:
    """Read one split of Something-Something V2."""
    name = "something-something-v2"
    class_list = find_list(
        root, f"the class list of {name}", [f"{name}-labels.json", "labels.json"]
    )
    indices = _read_class_indices(class_list)
    ids, labels = [], []
    if split == "test":
        path = find_list(
            root,
            f"the test labels of {name}, test-answers.csv,",
            ["test-answers.csv"],
            is_optional=True,
        )
        for line, content in read_lines(path):
            video, _, label = content.partition(";")
            ids.append(video)
            labels.append(class_index(label, indices, where=f"{path}, line {line}"))
    else:
        files = [f"{name}-{_PUBLISHED[split]}.json", f"{_PUBLISHED[split]}.json"]
        path = find_list(root, f"the {split} list of {name}", files, is_optional=True)
        for number, entry in enumerate(read_json(path, list), start=1):
            where = f"{path}, entry {number}"
            if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
                raise DataError(f"{where}: found {entry!r}, wanted an object with id and template")
            ids.append(str(entry["id"]))
            # Templates have brackets around placeholders; class names do not.
            label = str(entry["template"]).replace("[", "").replace("]", "")
            labels.append(class_index(label, indices, where=where))
    return _make_split(root, split, ids, labels, tuple(indices), what=name, suffix=".webm")


def _read_class_indices(path: Path) -> dict[str, int]:
    """Return the index of each class of V2, in ascending order."""
    content = read_json(path, dict)
    try:
        numbers = {str(name): int(number) for name, number in content.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}; wanted the number of each class") from error
    in_order = sorted(numbers, key=numbers.__getitem__)
    found = [numbers[name] for name in in_order]
    if found == list(range(1, len(found) + 1)):
        raise DataError(
            f"{path} numbers its classes from 1 to {len(found)}: it is one-based; wanted 0 to "
            f"{len(found) - 1}, as published: subtract 1 from each"
        )
    if found != list(range(len(found))):
        raise DataError(
            f"{path} numbers its {len(found)} classes {found[:3]} ..., wanted each of 0 to "
            f"{len(found) - 1} once"
        )
    return {name: numbers[name] for name in in_order}


def _make_split(
    root: Path,
    split: str,
    ids: list[str],
    labels: list[int],
    class_names: tuple[str, ...],
    *,
    what: str,
    suffix: str,
) -> Split:
    if not ids:
        raise DataError(f"the {split} list of {what} is empty; download it again")
    folders = (f"20bn-{what}", *_FOLDERS)
    paths = locate_videos(root, folders, ids, what=f"{what} {split}", suffix=suffix)
    return Split(split, tuple(map(Example, paths, labels)), class_names)

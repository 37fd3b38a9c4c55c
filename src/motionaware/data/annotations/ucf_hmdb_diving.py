"""UCF101 and HMDB51, each with three official train/test splits; and Diving48.

`ucf101-1`  ucfTrainTestlist/classInd.txt, lines `1 ApplyEyeMakeup`, trainlist01.txt, lines
            `CLASS/VIDEO.avi 1`, testlist01.txt without numbers; videos UCF-101/CLASS/VIDEO.avi
`hmdb51-1`  testTrainMulti_7030_splits/CLASS_test_split1.txt, lines `VIDEO.avi TAG` with TAG
            1 for training, 2 for test, 0 for neither; videos hmdb51_org/CLASS/VIDEO.avi; classes in
            alphabetical order
`diving48`  Diving48_V2_{train,test}.json with `vid_name` and `label`, Diving48_vocab.json; videos
            rgb/VIDEO.mp4

`-2` and `-3` are the second and third official split. None of the data sets has a validation list:
`val` is the test list, as in the literature.

Source  Soomro et al., UCF101, 2012, https://arxiv.org/abs/1212.0402
        Kuehne et al., HMDB: a large video database for human motion recognition, ICCV 2011
        Li et al., RESOUND: towards action recognition without representation bias, ECCV 2018
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
    root_contents,
)
from motionaware.errors import DataError

FOLDS = (1, 2, 3)


def read_ucf101(root: Path, split: str, *, fold: int) -> Split:
    """Read `train`, `val` or `test` of one official split (`fold`) of UCF101."""
    indices = _read_class_indices(find_list(root, "the class list of UCF101", ["classInd.txt"]))
    file_name = f"{'train' if split == 'train' else 'test'}list{fold:02d}.txt"
    path = find_list(root, f"the {split} list of UCF101", [file_name], is_optional=True)
    stems, labels = [], []
    for line, content in read_lines(path):
        where = f"{path}, line {line}"
        video, _, number = content.partition(".avi")
        class_name, slash, _ = video.partition("/")
        if not slash:
            raise DataError(f"{where}: found {content!r}, wanted CLASS/VIDEO.avi")
        label = class_index(class_name, indices, where=where)
        if number.strip() not in ("", str(label + 1)):
            raise DataError(
                f"{where}: {class_name} has number {number.strip()}, but {label + 1} in "
                "classInd.txt; both count from 1 as published"
            )
        stems.append(video)
        labels.append(label)
    folders = ("UCF-101", "UCF101", "videos", "")
    return _make_split(root, split, folders, stems, labels, indices)


def _read_class_indices(path: Path) -> dict[str, int]:
    """Return the index (from 0) of each class of a list that numbers its classes from 1."""
    indices: dict[str, int] = {}
    for line, content in read_lines(path):
        number, _, name = content.partition(" ")
        if number != str(len(indices) + 1):
            raise DataError(
                f"{path}, line {line}: found {content!r}, wanted number {len(indices) + 1} and a "
                "class: the published list counts from 1"
            )
        indices[name.strip()] = len(indices)
    return indices


def read_hmdb51(root: Path, split: str, *, fold: int) -> Split:
    """Read `train`, `val` or `test` of one official split (`fold`) of HMDB51."""
    ending = f"_test_split{fold}.txt"
    folders = (root / "testTrainMulti_7030_splits", root / "splits", root / "annotations", root)
    lists = next((found for folder in folders if (found := [*folder.glob(f"*{ending}")])), [])
    if not lists:
        raise DataError(
            f"the lists of HMDB51 do not exist; looked for CLASS{ending} in "
            f"{', '.join(map(str, folders))}; {root_contents(root)}"
        )
    # Sorted by class, not by file name: kick_ball_test_... comes before kick_test_...
    list_of_class = dict(sorted((path.name.removesuffix(ending), path) for path in lists))
    indices = {name: index for index, name in enumerate(list_of_class)}
    wanted_tag = "1" if split == "train" else "2"
    stems, labels = [], []
    for class_name, path in list_of_class.items():
        for line, content in read_lines(path):
            video, _, tag = content.rpartition(" ")
            if tag not in ("0", "1", "2") or not video:
                raise DataError(
                    f"{path}, line {line}: found {content!r}, wanted VIDEO.avi and 0, 1 or 2"
                )
            if tag == wanted_tag:
                stems.append(f"{class_name}/{video.strip().removesuffix('.avi')}")
                labels.append(indices[class_name])
    folders = ("hmdb51_org", "videos", "hmdb51", "")
    return _make_split(root, split, folders, stems, labels, indices)


def read_diving48(root: Path, split: str) -> Split:
    """Read one split of Diving48 with the corrected labels (V2)."""
    class_list = find_list(root, "the class list of Diving48", ["Diving48_vocab.json"])
    indices = {" ".join(parts): index for index, parts in enumerate(read_json(class_list, list))}
    file_name = f"Diving48_V2_{'train' if split == 'train' else 'test'}.json"
    path = find_list(root, f"the {split} list of Diving48", [file_name], is_optional=True)
    entries = read_json(path, list)
    _check_zero_based(path, entries, num_classes=len(indices))
    stems, labels = [], []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"vid_name", "label"} <= entry.keys():
            raise DataError(f"{path}, entry {number}: found {entry!r}, wanted vid_name and label")
        if entry["label"] not in range(len(indices)):
            raise DataError(
                f"{path}, entry {number}: label {entry['label']}, wanted 0 to "
                f"{len(indices) - 1}, the classes of {class_list.name}"
            )
        stems.append(entry["vid_name"])
        labels.append(entry["label"])
    folders = ("rgb", "videos", "rawframes", "")
    return _make_split(root, split, folders, stems, labels, indices, suffix=".mp4")


def _check_zero_based(path: Path, entries: list, *, num_classes: int) -> None:
    """Refuse labels that run from 1 to `num_classes`."""
    labels = [entry.get("label", 0) for entry in entries if isinstance(entry, dict)]
    if num_classes in labels and all(label in range(1, num_classes + 1) for label in labels):
        raise DataError(
            f"{path}: labels run from {min(labels)} to {num_classes}: they look one-based; wanted "
            f"0 to {num_classes - 1}, as published: subtract 1 from each"
        )


def _make_split(
    root: Path,
    split: str,
    folders: tuple[str, ...],
    stems: list[str],
    labels: list[int],
    indices: dict[str, int],
    *,
    suffix: str = ".avi",
) -> Split:
    if not stems:
        raise DataError(f"the {split} list below {root} names no video; download it again")
    paths = locate_videos(root, folders, stems, what=split, suffix=suffix)
    return Split(split, tuple(map(Example, paths, labels)), tuple(indices))

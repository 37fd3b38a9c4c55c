"""UCF101 and HMDB51, each with three official ways to part training from test; and Diving48.

`ucf101-1`  ucfTrainTestlist/classInd.txt, lines `1 ApplyEyeMakeup`, trainlist01.txt, lines
            `CLASS/VIDEO.avi 1`, testlist01.txt without numbers; videos UCF-101/CLASS/VIDEO.avi
`hmdb51-1`  testTrainMulti_7030_splits/CLASS_test_split1.txt, lines `VIDEO.avi TAG`: 1 to train, 2
            to test, 0 neither; videos hmdb51_org/CLASS/VIDEO.avi; classes in alphabetic order
`diving48`  Diving48_V2_{train,test}.json with `vid_name` and `label`, Diving48_vocab.json; videos
            rgb/VIDEO.mp4

`-2` and `-3` are the other two ways. None of the three has a validation part: as in the literature,
`val` is the test list too.

Source  Soomro et al., UCF101, 2012, https://arxiv.org/abs/1212.0402
        Kuehne et al., HMDB: a large video database for human motion recognition, ICCV 2011
        Li et al., RESOUND: towards action recognition without representation bias, ECCV 2018
"""

from pathlib import Path

from motionaware.data.annotations.split import (
    Example,
    Split,
    contents,
    find_list,
    json_of,
    lines_of,
    locate,
    position,
)
from motionaware.errors import DataError

FOLDS = (1, 2, 3)


def read_ucf101(root: Path, split: str, *, fold: int) -> Split:
    """Read one official way to part UCF101."""
    positions = _numbered_classes(find_list(root, "the class list of UCF101", ["classInd.txt"]))
    listing = f"{'train' if split == 'train' else 'test'}list{fold:02d}.txt"
    path = find_list(root, f"the {split} list of UCF101", [listing], absent=True)
    stems, places = [], []
    for line, content in lines_of(path):
        where = f"{path}, line {line}"
        video, _, number = content.partition(".avi")
        class_name, slash, _ = video.partition("/")
        if not slash:
            raise DataError(f"{where}: found {content!r}, wanted CLASS/VIDEO.avi")
        place = position(class_name, positions, where=where)
        if number.strip() not in ("", str(place + 1)):
            raise DataError(
                f"{where}: {class_name} has number {number.strip()}, but {place + 1} in "
                "classInd.txt; both count from 1 as published"
            )
        stems.append(video)
        places.append(place)
    return _split(root, split, ("UCF-101", "UCF101", "videos", ""), stems, places, positions)


def _numbered_classes(path: Path) -> dict[str, int]:
    """Each class with its position, from 0, in a list that numbers them from 1."""
    positions: dict[str, int] = {}
    for line, content in lines_of(path):
        number, _, name = content.partition(" ")
        if number != str(len(positions) + 1):
            raise DataError(
                f"{path}, line {line}: found {content!r}, wanted number {len(positions) + 1} and a "
                "class: the published list counts from 1"
            )
        positions[name.strip()] = len(positions)
    return positions


def read_hmdb51(root: Path, split: str, *, fold: int) -> Split:
    """Read one official way to part HMDB51."""
    ending = f"_test_split{fold}.txt"
    folders = (root / "testTrainMulti_7030_splits", root / "splits", root / "annotations", root)
    lists = next((found for folder in folders if (found := [*folder.glob(f"*{ending}")])), [])
    if not lists:
        raise DataError(
            f"the lists of HMDB51 do not exist; looked for CLASS{ending} in "
            f"{', '.join(map(str, folders))}; {root} holds {contents(root)}"
        )
    # By the classes' names, not the files': there kick_ball_test_... comes before kick_test_...
    of_class = dict(sorted((path.name.removesuffix(ending), path) for path in lists))
    positions = {name: place for place, name in enumerate(of_class)}
    wanted = "1" if split == "train" else "2"
    stems, places = [], []
    for class_name, path in of_class.items():
        for line, content in lines_of(path):
            video, _, tag = content.rpartition(" ")
            if tag not in ("0", "1", "2") or not video:
                raise DataError(
                    f"{path}, line {line}: found {content!r}, wanted VIDEO.avi and 0, 1 or 2"
                )
            if tag == wanted:
                stems.append(f"{class_name}/{video.strip().removesuffix('.avi')}")
                places.append(positions[class_name])
    return _split(root, split, ("hmdb51_org", "videos", "hmdb51", ""), stems, places, positions)


def read_diving48(root: Path, split: str) -> Split:
    """Read Diving48 with its corrected labels (V2)."""
    vocabulary = find_list(root, "the class list of Diving48", ["Diving48_vocab.json"])
    positions = {" ".join(words): place for place, words in enumerate(json_of(vocabulary, list))}
    listing = f"Diving48_V2_{'train' if split == 'train' else 'test'}.json"
    path = find_list(root, f"the {split} list of Diving48", [listing], absent=True)
    entries = json_of(path, list)
    _check_zero_based(path, entries, num_classes=len(positions))
    stems, places = [], []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"vid_name", "label"} <= entry.keys():
            raise DataError(f"{path}, entry {number}: found {entry!r}, wanted vid_name and label")
        if entry["label"] not in range(len(positions)):
            raise DataError(
                f"{path}, entry {number}: label {entry['label']}, wanted 0 to "
                f"{len(positions) - 1}, the classes of {vocabulary.name}"
            )
        stems.append(entry["vid_name"])
        places.append(entry["label"])
    return _split(root, split, ("rgb", "videos", "rawframes", ""), stems, places, positions, ".mp4")


def _check_zero_based(path: Path, entries: list, *, num_classes: int) -> None:
    """Refuse labels of 1 to `num_classes` by what they are."""
    labels = [entry.get("label", 0) for entry in entries if isinstance(entry, dict)]
    if num_classes in labels and all(label in range(1, num_classes + 1) for label in labels):
        raise DataError(
            f"{path}: labels run from {min(labels)} to {num_classes}: they look one-based; wanted "
            f"0 to {num_classes - 1}, as published: subtract 1 from each"
        )


def _split(
    root: Path,
    split: str,
    folders: tuple[str, ...],
    stems: list[str],
    places: list[int],
    positions: dict[str, int],
    suffix: str = ".avi",
) -> Split:
    if not stems:
        raise DataError(f"the {split} list below {root} names no video; fetch it again")
    paths = locate(root, folders, stems, what=split, suffix=suffix)
    return Split(split, tuple(map(Example, paths, places)), tuple(positions))

import shutil
from pathlib import Path

import pytest

from motionaware.apps import doctor as doctor_module
from motionaware.apps.doctor import Checkup, doctor
from motionaware.data.annotations.split import SHARD_INDEX as INDEX
from motionaware.data.video.writer import write_video


@pytest.fixture
def ill_folder(video_folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    return root


def facts_about(checkup: Checkup, about: str) -> list[str]:
    return [fact for subject, fact in checkup.facts if subject == about]


def test_this_installation_is_healthy():
    checkup = doctor()
    assert checkup.faults == []
    assert facts_about(checkup, "torch")
    assert "h264" in facts_about(checkup, "decoders")[0]


def test_a_missing_package_is_a_fault_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_module, "_PACKAGES", ("torch", "no-such-package"))
    assert doctor().faults == ["no-such-package is not installed; run: pip install motionaware"]


def test_shards_taken_for_a_folder_are_known_by_their_index(tmp_path: Path):
    (tmp_path / INDEX).write_text("{}")
    (tmp_path / "train-000000.tar").write_bytes(b"")
    (fault,) = doctor(tmp_path, kind="folder").faults
    assert "train does not exist; wanted" in fault
    assert "shards.json shows that this folder holds shards: set data.kind shards, or" in fault
    (tmp_path / INDEX).unlink()
    (fault,) = doctor(tmp_path).faults
    assert "data.kind" not in fault


def test_a_healthy_folder_is_described(video_folder: Path):
    checkup = doctor(video_folder)
    assert checkup.faults == []
    assert facts_about(checkup, "data") == [f"{video_folder}, kind folder"]
    for split in ("train", "val", "test"):
        assert facts_about(checkup, split) == [
            "12 videos, none broken; 12 classes of 1 video",
            "6 frames, 32 x 32 pixels (height x width)",
            "12 videos with fewer frames than the 8 of a usual clip, the shortest has 6: its "
            "clips show some frames more than once; a lower clip.num_frames avoids that",
        ]


def test_ranges_and_other_sizes_are_told(ill_folder: Path):
    import torch

    frames = torch.zeros(10, 3, 48, 64, dtype=torch.uint8)
    write_video(ill_folder / "train" / "meeting" / "other.mp4", frames, fps=8)
    assert facts_about(doctor(ill_folder), "train")[:2] == [
        "13 videos, none broken; 12 classes of 1 to 2 videos (median 1)",
        "6 to 10 frames (median 6), 32 x 32 pixels (height x width) in 12; 1 other size",
    ]


def test_every_broken_file_is_named(ill_folder: Path):
    empty, text, cut = sorted((ill_folder / "train").glob("*/*.mp4"))[:3]
    empty.write_bytes(b"")
    text.write_text("this is no video")
    cut.write_bytes(cut.read_bytes()[:-300])
    stranger = ill_folder / "val" / "meeting" / "notes.txt"
    stranger.touch()
    checkup = doctor(ill_folder)
    assert len(checkup.faults) == 4
    for path in (empty, text, cut, stranger):
        assert sum(str(path) in fault for fault in checkup.faults) == 1
    assert facts_about(checkup, "train")[0].startswith("12 videos, 3 broken; ")


def test_videos_of_training_that_are_held_out_too_are_a_fault(video_folder: Path, tmp_path: Path):
    video = next((video_folder / "train").glob("*/*.mp4"))
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "train.csv").write_text("a.mp4,cat\n")
    (tmp_path / "val.csv").write_text("b.mp4,cat\na.mp4,cat\n")
    checkup = doctor(tmp_path, kind="csv")
    (fault,) = checkup.faults
    assert fault.startswith(f"train and val both list 1 video, first {tmp_path}/a.mp4: accuracy on")
    assert facts_about(checkup, "shared") == []


def test_a_validation_that_is_the_test_is_a_fact(video_folder: Path, tmp_path: Path):
    video = next((video_folder / "train").glob("*/*.mp4"))
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    for name, row in (("train", "b.mp4,cat"), ("val", "a.mp4,cat"), ("test", "a.mp4,cat")):
        (tmp_path / f"{name}.csv").write_text(row)
    checkup = doctor(tmp_path, kind="csv")
    assert checkup.faults == []
    assert facts_about(checkup, "shared") == [
        f"val and test both list 1 video, first {tmp_path}/a.mp4"
    ]
    assert facts_about(doctor(video_folder), "shared") == []


def test_a_list_of_which_no_video_exists_is_one_fault(tmp_path: Path):
    lines = "".join(f"clips/{number}.mp4,{number}\n" for number in range(20))
    (tmp_path / "train.csv").write_text(lines)
    (tmp_path / "clip").mkdir()
    checkup = doctor(tmp_path, kind="csv")
    (fault,) = checkup.faults
    assert f"looked for {tmp_path}/clips/0.mp4 first; {tmp_path} holds clip, train.csv;" in fault
    assert facts_about(checkup, "train") == ["20 videos, all missing"]


def test_missing_is_told_from_broken_and_empty_classes_are_not_poured_out(
    video_folder: Path, tmp_path: Path
):
    shutil.copy(next((video_folder / "train").glob("*/*.mp4")), tmp_path / "0.mp4")
    (tmp_path / "1.mp4").write_text("no video")
    (tmp_path / "train.csv").write_text("0.mp4,0\n1.mp4,0\n2.mp4,0\n3.mp4,1\n")
    (tmp_path / "classes.txt").write_text("".join(f"class {number}\n" for number in range(30)))
    first, empty, *_ = facts_about(doctor(tmp_path, kind="csv"), "train")
    assert first == "4 videos, 2 missing, 1 broken; 2 classes of 1 to 3 videos (median 2)"
    assert empty.startswith("no video of class 2, class 3, ")
    assert empty.endswith(", class 9 and 20 more")


def test_listed_videos_that_are_not_there_and_unknown_labels_are_named(
    video_folder: Path, tmp_path: Path
):
    video = next((video_folder / "train").glob("*/*.mp4"))
    shutil.copy(video, tmp_path / "a.mp4")
    (tmp_path / "train.csv").write_text("a.mp4,cat\ngone.mp4,dog\n")
    (tmp_path / "val.csv").write_text("a.mp4,cow\n")
    checkup = doctor(tmp_path, kind="csv")
    gone, cow = sorted(checkup.faults, key=lambda fault: "cow" in fault)
    assert "gone.mp4 does not exist" in gone
    assert "label 'cow' is not in the class list" in cow
    assert facts_about(checkup, "test") == ["absent"]


@pytest.mark.parametrize("kind", ["folder", "csv"])
@pytest.mark.parametrize("there", [True, False], ids=["empty-folder", "no-folder"])
def test_what_is_no_data_set_is_one_fault(kind: str, there: bool, tmp_path: Path):
    root = tmp_path / "data"
    if there:
        root.mkdir()
    (fault,) = doctor(root, kind=kind).faults
    assert str(root) in fault
    assert "wanted" in fault or "give the folder" in fault


def test_files_beside_the_class_folders_are_named(ill_folder: Path):
    shutil.copy(next(ill_folder.glob("train/*/*.mp4")), ill_folder / "train" / "lost.mp4")
    (fault,) = doctor(ill_folder).faults
    assert "lost.mp4" in fault


@pytest.mark.parametrize("kind", ["something-v1", "something-v2", "kinetics", "diving48"])
def test_published_data_sets_are_checked_as_they_are(kind: str, trees, plant, tmp_path: Path):
    checkup = doctor(plant(trees[kind], tmp_path, real=True), kind=kind)
    assert checkup.faults == []
    for split, videos in trees[kind].videos.items():
        count = f"{len(videos)} video{'s' if len(videos) > 1 else ''}, none broken"
        assert facts_about(checkup, split)[0].startswith(count)
    if "test" not in trees[kind].videos:
        assert facts_about(checkup, "test") == ["absent"]


@pytest.mark.parametrize("kind", ["something-v1", "kinetics", "ucf101-1", "nonsense"])
def test_a_folder_of_another_kind_is_told_apart(kind: str, video_folder: Path):
    faults = doctor(video_folder, kind=kind).faults
    assert any("looked for" in fault or "is unknown" in fault for fault in faults)


def test_a_video_that_a_list_names_twice_is_told_and_with_two_classes_a_fault(ill_folder: Path):
    paths = sorted(path.relative_to(ill_folder) for path in ill_folder.glob("train/*/*.mp4"))
    lines = [f"{path},{path.parts[1]}" for path in paths]
    (ill_folder / "train.csv").write_text("\n".join([lines[0], *lines]))
    checkup = doctor(ill_folder, kind="csv")
    assert f"lists 1 video several times, first {ill_folder / paths[0]}" in facts_about(
        checkup, "train"
    )
    other = next(path.parts[1] for path in paths if path.parts[1] != paths[0].parts[1])
    (ill_folder / "train.csv").write_text("\n".join([*lines, f"{paths[0]},{other}"]))
    one = f"train lists 1 video several times, {ill_folder / paths[0]} as "
    assert any(fault.startswith(one) for fault in doctor(ill_folder, kind="csv").faults)


def test_the_kind_is_taken_from_the_names_in_the_folder(video_folder: Path, tmp_path: Path):
    assert facts_about(doctor(video_folder), "data") == [f"{video_folder}, kind folder"]
    video = next((video_folder / "train").glob("*/*.mp4"))
    (tmp_path / "walk").mkdir()  # a class folder beside the list, as prepare split leaves it
    shutil.copy(video, tmp_path / "walk" / "a.mp4")
    (tmp_path / "train.csv").write_text("walk/a.mp4,walk\n")
    checkup = doctor(tmp_path)
    assert facts_about(checkup, "data") == [f"{tmp_path}, kind csv"]
    assert checkup.faults == []
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.txt").write_text("walk/a.mp4 6 0\n")
    assert facts_about(doctor(tmp_path), "data") == [f"{tmp_path}, kind list"]


def test_classes_without_training_videos_are_a_fault_and_alike_names_a_hint(
    video_folder: Path, tmp_path: Path
):
    shutil.copy(next((video_folder / "train").glob("*/*.mp4")), tmp_path / "a.mp4")
    (tmp_path / "classes.txt").write_text("walk\nWalk\nrun\n")
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("a.mp4,walk\n")
    checkup = doctor(tmp_path, kind="csv")
    (hint,) = facts_about(checkup, "hint")
    assert hint.startswith("classes 'walk' and 'Walk' differ only in case or blanks")
    (fault,) = [fault for fault in checkup.faults if "cannot learn" in fault]
    assert fault.startswith("train has no video of Walk, run: ")
    assert "no video of Walk, run" in facts_about(checkup, "val")


def test_a_size_that_changes_is_a_fact(video_folder: Path, changing_video: Path):
    folder = changing_video.parent / "data"
    shutil.copytree(video_folder, folder)
    path = folder / "train" / "meeting" / "changing.ts"
    changing_video.rename(path)
    checkup = doctor(folder)
    assert checkup.faults == []
    assert facts_about(checkup, "train")[-1] == (
        f"{path}: the size of its frames changes; all are scaled to that of the first, 48 x 64 "
        "pixels (height x width)"
    )

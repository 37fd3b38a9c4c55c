import shutil
from pathlib import Path

import pytest

from motionaware.apps import doctor as doctor_module
from motionaware.apps.doctor import DoctorReport, doctor
from motionaware.data.annotations.split import SHARD_INDEX as INDEX
from motionaware.data.video.writer import write_video


@pytest.fixture
def folder_copy(video_folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    return root


def facts_about(report: DoctorReport, subject: str) -> list[str]:
    return [fact for about, fact in report.facts if about == subject]


def test_this_installation_has_no_problems():
    report = doctor()
    assert report.problems == []
    assert facts_about(report, "torch")
    assert "h264" in facts_about(report, "decoders")[0]


def test_the_problem_of_a_missing_package_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(doctor_module, "_PACKAGES", ("torch", "no-such-package"))
    assert doctor().problems == ["no-such-package is not installed; run: pip install motionaware"]


def test_shards_checked_as_a_folder_are_recognized_by_their_index(tmp_path: Path):
    (tmp_path / INDEX).write_text("{}")
    (tmp_path / "train-000000.tar").write_bytes(b"")
    (problem,) = doctor(tmp_path, kind="folder").problems
    assert "train does not exist; wanted" in problem
    assert "shards.json shows that this folder holds shards: set data.kind shards, or" in problem
    (tmp_path / INDEX).unlink()
    (problem,) = doctor(tmp_path).problems
    assert "data.kind" not in problem


def test_a_folder_without_problems_is_described(video_folder: Path):
    report = doctor(video_folder)
    assert report.problems == []
    assert facts_about(report, "data") == [f"{video_folder}, kind folder"]
    for split in ("train", "val", "test"):
        assert facts_about(report, split) == [
            "12 videos, none broken; 12 classes of 1 video",
            "6 frames, 32 x 32 pixels (height x width)",
            "12 videos with fewer frames than the 8 of a default clip, the shortest has 6: their "
            "clips repeat frames; a lower clip.num_frames avoids that",
        ]


def test_ranges_of_lengths_and_frame_sizes_are_reported(folder_copy: Path):
    import torch

    frames = torch.zeros(10, 3, 48, 64, dtype=torch.uint8)
    write_video(folder_copy / "train" / "meeting" / "other.mp4", frames, fps=8)
    assert facts_about(doctor(folder_copy), "train")[:2] == [
        "13 videos, none broken; 12 classes of 1 to 2 videos (median 1)",
        "6 to 10 frames (median 6), 32 x 32 pixels (height x width) in 12; 1 other size",
    ]


def test_each_broken_file_is_a_problem(folder_copy: Path):
    empty, text, cut = sorted((folder_copy / "train").glob("*/*.mp4"))[:3]
    empty.write_bytes(b"")
    text.write_text("this is no video")
    cut.write_bytes(cut.read_bytes()[:-300])
    stranger = folder_copy / "val" / "meeting" / "notes.txt"
    stranger.touch()
    report = doctor(folder_copy)
    assert len(report.problems) == 4
    for path in (empty, text, cut, stranger):
        assert sum(str(path) in problem for problem in report.problems) == 1
    assert facts_about(report, "train")[0].startswith("12 videos, 3 broken; ")


def test_videos_in_both_train_and_val_are_a_problem(video_folder: Path, tmp_path: Path):
    video = next((video_folder / "train").glob("*/*.mp4"))
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "train.csv").write_text("a.mp4,cat\n")
    (tmp_path / "val.csv").write_text("b.mp4,cat\na.mp4,cat\n")
    report = doctor(tmp_path, kind="csv")
    (problem,) = report.problems
    assert problem.startswith(
        f"train and val both list 1 video, first {tmp_path}/a.mp4: accuracy on val"
    )
    assert facts_about(report, "shared") == []


def test_videos_in_both_val_and_test_are_a_fact(video_folder: Path, tmp_path: Path):
    video = next((video_folder / "train").glob("*/*.mp4"))
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    for name, row in (("train", "b.mp4,cat"), ("val", "a.mp4,cat"), ("test", "a.mp4,cat")):
        (tmp_path / f"{name}.csv").write_text(row)
    report = doctor(tmp_path, kind="csv")
    assert report.problems == []
    assert facts_about(report, "shared") == [
        f"val and test both list 1 video, first {tmp_path}/a.mp4"
    ]
    assert facts_about(doctor(video_folder), "shared") == []


def test_a_list_without_existing_videos_is_one_problem(tmp_path: Path):
    lines = "".join(f"clips/{number}.mp4,{number}\n" for number in range(20))
    (tmp_path / "train.csv").write_text(lines)
    (tmp_path / "clip").mkdir()
    report = doctor(tmp_path, kind="csv")
    (problem,) = report.problems
    assert f"looked for {tmp_path}/clips/0.mp4 first; {tmp_path} holds clip, train.csv;" in problem
    assert facts_about(report, "train") == ["20 videos, all missing"]


def test_missing_and_broken_videos_are_counted_separately_and_the_list_of_empty_classes_is_cut(
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


def test_missing_videos_and_unknown_labels_are_problems(video_folder: Path, tmp_path: Path):
    video = next((video_folder / "train").glob("*/*.mp4"))
    shutil.copy(video, tmp_path / "a.mp4")
    (tmp_path / "train.csv").write_text("a.mp4,cat\ngone.mp4,dog\n")
    (tmp_path / "val.csv").write_text("a.mp4,cow\n")
    report = doctor(tmp_path, kind="csv")
    gone, cow = sorted(report.problems, key=lambda problem: "cow" in problem)
    assert "gone.mp4 does not exist" in gone
    assert "label 'cow' is not in the class list" in cow
    assert facts_about(report, "test") == ["absent"]


@pytest.mark.parametrize("kind", ["folder", "csv"])
@pytest.mark.parametrize("exists", [True, False], ids=["empty-folder", "no-folder"])
def test_a_folder_without_a_data_set_is_one_problem(kind: str, exists: bool, tmp_path: Path):
    root = tmp_path / "data"
    if exists:
        root.mkdir()
    (problem,) = doctor(root, kind=kind).problems
    assert str(root) in problem
    assert "wanted" in problem or "give the folder" in problem


def test_files_outside_class_folders_are_problems(folder_copy: Path):
    shutil.copy(next(folder_copy.glob("train/*/*.mp4")), folder_copy / "train" / "lost.mp4")
    (problem,) = doctor(folder_copy).problems
    assert "lost.mp4" in problem


@pytest.mark.parametrize("kind", ["something-v1", "something-v2", "kinetics", "diving48"])
def test_published_data_sets_have_no_problems(kind: str, trees, plant, tmp_path: Path):
    report = doctor(plant(trees[kind], tmp_path, real=True), kind=kind)
    assert report.problems == []
    for split, videos in trees[kind].videos.items():
        count = f"{len(videos)} video{'s' if len(videos) > 1 else ''}, none broken"
        assert facts_about(report, split)[0].startswith(count)
    if "test" not in trees[kind].videos:
        assert facts_about(report, "test") == ["absent"]


@pytest.mark.parametrize("kind", ["something-v1", "kinetics", "ucf101-1", "nonsense"])
def test_a_folder_of_another_kind_is_a_problem(kind: str, video_folder: Path):
    problems = doctor(video_folder, kind=kind).problems
    assert any("looked for" in problem or "is unknown" in problem for problem in problems)


def test_a_video_listed_twice_is_a_fact_and_with_two_labels_a_problem(folder_copy: Path):
    paths = sorted(path.relative_to(folder_copy) for path in folder_copy.glob("train/*/*.mp4"))
    lines = [f"{path},{path.parts[1]}" for path in paths]
    (folder_copy / "train.csv").write_text("\n".join([lines[0], *lines]))
    report = doctor(folder_copy, kind="csv")
    assert f"lists 1 video several times, first {folder_copy / paths[0]}" in facts_about(
        report, "train"
    )
    other = next(path.parts[1] for path in paths if path.parts[1] != paths[0].parts[1])
    (folder_copy / "train.csv").write_text("\n".join([*lines, f"{paths[0]},{other}"]))
    one = f"train lists 1 video several times, {folder_copy / paths[0]} as "
    assert any(problem.startswith(one) for problem in doctor(folder_copy, kind="csv").problems)


def test_the_kind_is_detected_from_file_names(video_folder: Path, tmp_path: Path):
    assert facts_about(doctor(video_folder), "data") == [f"{video_folder}, kind folder"]
    video = next((video_folder / "train").glob("*/*.mp4"))
    (tmp_path / "walk").mkdir()  # a class folder beside the list, as prepare split leaves it
    shutil.copy(video, tmp_path / "walk" / "a.mp4")
    (tmp_path / "train.csv").write_text("walk/a.mp4,walk\n")
    report = doctor(tmp_path)
    assert facts_about(report, "data") == [f"{tmp_path}, kind csv"]
    assert report.problems == []
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.txt").write_text("walk/a.mp4 6 0\n")
    assert facts_about(doctor(tmp_path), "data") == [f"{tmp_path}, kind list"]


def test_a_class_without_training_videos_is_a_problem_and_similar_names_are_a_hint(
    video_folder: Path, tmp_path: Path
):
    shutil.copy(next((video_folder / "train").glob("*/*.mp4")), tmp_path / "a.mp4")
    (tmp_path / "classes.txt").write_text("walk\nWalk\nrun\n")
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("a.mp4,walk\n")
    report = doctor(tmp_path, kind="csv")
    (hint,) = facts_about(report, "hint")
    assert hint.startswith("classes 'walk' and 'Walk' differ only in case or blanks")
    (problem,) = [problem for problem in report.problems if "cannot learn" in problem]
    assert problem.startswith("train has no video of Walk, run: ")
    assert "no video of Walk, run" in facts_about(report, "val")


def test_a_changing_frame_size_is_a_fact(video_folder: Path, changing_video: Path):
    folder = changing_video.parent / "data"
    shutil.copytree(video_folder, folder)
    path = folder / "train" / "meeting" / "changing.ts"
    changing_video.rename(path)
    report = doctor(folder)
    assert report.problems == []
    assert facts_about(report, "train")[-1] == (
        f"{path}: the size of its frames changes; all are scaled to that of the first, 48 x 64 "
        "pixels (height x width)"
    )

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from motionaware.apps import prepare_index as prepare_index_module
from motionaware.apps.prepare_index import prepare_index
from motionaware.cli import main
from motionaware.data import processes
from motionaware.data.annotations.index import IndexedExamples
from motionaware.data.annotations.table import check_videos_exist, read_lists, read_split
from motionaware.data.processes import run_in_processes
from motionaware.data.video import extract_frames as extract_module
from motionaware.data.video.extract_frames import extract_frames
from motionaware.data.video.open import open_video
from motionaware.engine.config import DataConfig
from motionaware.engine.train import train
from motionaware.errors import DataError, VideoError


def indexed(kind: str, root: Path, split: str = "train") -> IndexedExamples:
    examples = read_split(kind, root, split).examples
    assert isinstance(examples, IndexedExamples)
    return examples


@pytest.fixture
def damaged_set(video_folder: Path, tmp_path: Path) -> Path:
    """A csv of four training videos: one is broken and one is missing; a fifth is not listed."""
    root = tmp_path / "damaged"
    root.mkdir()
    for name, video in zip("abe", sorted(video_folder.glob("train/*/*.mp4")), strict=False):
        shutil.copy(video, root / f"{name}.mp4")
    (root / "c.mp4").write_bytes((root / "a.mp4").read_bytes()[:700])
    (root / "train.csv").write_text("a.mp4,x\nb.mp4,y\nc.mp4,x\nd.mp4,x\n")
    return root


def test_every_kind_is_checked_and_indexed(trees, plant, tmp_path):
    for kind in ("something-v1", "something-v2", "kinetics", "ucf101-2", "hmdb51-1", "diving48"):
        tree = trees[kind]
        root = plant(tree, tmp_path / kind, real=True)
        found = prepare_index(kind, root, num_workers=0)
        assert {name: counts["videos"] for name, counts in found.counts.items()} == {
            name: len(videos) for name, videos in tree.videos.items()
        }
        assert (found.problems, found.report) == ([], None)
        assert set(indexed(kind, root).frames.tolist()) == {10}


def test_missing_and_unreadable_videos_are_counted_and_listed(damaged_set):
    found = prepare_index("csv", damaged_set, num_workers=0)
    assert found.counts == {"train": {"videos": 4, "missing": 1, "unreadable": 1}}
    assert found.unlisted == [damaged_set / "e.mp4"]
    assert found.report == damaged_set / ".motionaware" / "csv-problems.csv"
    assert found.report is not None
    lines = found.report.read_text().splitlines()
    assert lines[0] == "split,video,why"
    assert lines[1].startswith(f"train,{damaged_set / 'c.mp4'},") and "fetch it again" in lines[1]
    assert lines[2] == f"train,{damaged_set / 'd.mp4'},does not exist"
    assert indexed("csv", damaged_set).frames.tolist() == [6, 6, 0, -1]
    with pytest.raises(DataError, match=r"1 of the 4 videos of train do not exist, first .*d\.mp4"):
        check_videos_exist(read_split("csv", damaged_set, "train"))


def test_videos_in_two_splits_are_counted(trees, plant, tmp_path, capsys):
    root = plant(trees["hmdb51-1"], tmp_path, real=True)
    assert prepare_index("hmdb51-1", root, num_workers=0).shared == {("val", "test"): 2}
    assert main(["prepare", "index", "hmdb51-1", "--root", str(root), "--workers", "0"]) == 0
    assert "  shared       val and test both list 2 videos\n" in capsys.readouterr().out


def test_only_the_index_is_written_to_the_root(damaged_set):
    before = {path: path.stat().st_mtime_ns for path in damaged_set.rglob("*")}
    prepare_index("csv", damaged_set, num_workers=0)
    after = {path: path.stat().st_mtime_ns for path in damaged_set.rglob("*")}
    assert {path for path in after if ".motionaware" not in path.parts} == set(before)
    assert all(after[path] == stamp for path, stamp in before.items())


def test_the_result_does_not_depend_on_the_number_of_workers(damaged_set):
    alone = prepare_index("csv", damaged_set, num_workers=0)
    assert prepare_index("csv", damaged_set, num_workers=2) == alone


# ---------------------------------------------------------------------------------------- frames


def test_a_folder_of_frames_is_a_data_set_of_the_same_kind(trees, plant, tmp_path):
    for kind in ("something-v1", "something-v2", "kinetics", "ucf101-2", "hmdb51-1", "diving48"):
        root = plant(trees[kind], tmp_path / kind, real=True)
        target = tmp_path / f"{kind}-frames"
        found = prepare_index(kind, root, frames_to=target, short_side=24, num_workers=0)
        assert (found.root, found.problems) == (target, [])
        for name in trees[kind].videos:
            before, after = read_lists(kind, root, name), read_lists(kind, target, name)
            assert [(one.path.relative_to(root), one.label) for one in before.examples] == [
                (one.path.relative_to(target), one.label) for one in after.examples
            ]
            assert list(indexed(kind, target, name)) == list(after.examples)
            for example in after.examples:
                video = open_video(example.path)
                assert (video.num_frames, video.height, video.width) == (10, 24, 32)
                assert (example.path / "00001.jpg").is_file()


def test_extracted_frames_equal_those_of_the_video_up_to_jpeg(video_folder, tmp_path):
    source = next(video_folder.glob("train/*/*.mp4"))
    assert extract_frames(source, tmp_path / "frames") == 6
    before, after = (open_video(path).frames(range(6)) for path in (source, tmp_path / "frames"))
    assert (before.float() - after.float()).abs().mean() < 5  # of JPEG


def test_a_small_video_is_not_enlarged(video_folder, tmp_path):
    extract_frames(next(video_folder.glob("train/*/*.mp4")), tmp_path / "f", short_side=500)
    with Image.open(tmp_path / "f" / "00006.jpg") as image:
        assert image.size == (32, 32)


def test_a_repeated_call_writes_only_incomplete_videos(video_folder, tmp_path):
    target = tmp_path / "frames"
    prepare_index("folder", copy_of(video_folder, tmp_path), frames_to=target)
    folders = sorted(target.glob("train/*/*.mp4"))
    (folders[3] / "00002.jpg").unlink()
    stamps = [folder.stat().st_ino for folder in folders]
    prepare_index("folder", tmp_path / "videos", frames_to=target, num_workers=0)
    again = [folder.stat().st_ino for folder in folders]
    assert [place for place in range(12) if again[place] != stamps[place]] == [3]
    assert len([*folders[3].iterdir()]) == 6


def copy_of(video_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(video_folder, tmp_path / "videos")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, VideoError])
def test_an_interrupted_extraction_leaves_no_files(error, video_folder, tmp_path, monkeypatch):
    source = next(video_folder.glob("train/*/*.mp4"))
    save, calls = Image.Image.save, []

    def stop(image: Image.Image, path: Path, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise error("stopped")
        save(image, path, **options)

    monkeypatch.setattr(extract_module.Image.Image, "save", stop)
    with pytest.raises(error):
        extract_frames(source, tmp_path / "out" / "frames")
    assert list((tmp_path / "out").iterdir()) == []
    extract_frames(source, tmp_path / "out" / "frames")
    assert len([*(tmp_path / "out" / "frames").iterdir()]) == 6


def test_files_of_a_killed_process_are_removed(video_folder, tmp_path):
    left = tmp_path / ".frames.part"
    left.mkdir()
    (left / "00099.jpg").touch()
    extract_frames(next(video_folder.glob("train/*/*.mp4")), tmp_path / "frames")
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
    assert len([*(tmp_path / "frames").iterdir()]) == 6


def test_ctrl_c_prints_one_line_and_leaves_only_complete_videos(video_folder, tmp_path):
    root, num_videos = tmp_path / "many", 1000  # so many that it does not finish before the signal
    (root / "train" / "x").mkdir(parents=True)
    sources = sorted(video_folder.glob("*/*/*.mp4"))[:36]
    for place in range(num_videos):
        shutil.copy(sources[place % 36], root / "train" / "x" / f"{place}.mp4")
    target = tmp_path / "frames"
    arguments = ["--root", str(root), "--frames-to", str(target), "--workers", "1"]
    program = [sys.executable, "-m", "motionaware"]
    command = [*program, "prepare", "index", "folder", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300  # a busy machine starts slowly
    while not any(target.glob("train/x/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # like Ctrl-C in a terminal, which reaches every process
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines() == ["motionaware: interrupted"]
    folders = [*(target / "train" / "x").iterdir()]
    assert 0 < len(folders) < num_videos
    assert all(len([*folder.glob("*.jpg")]) == 6 for folder in folders)
    assert not any(folder.name.startswith(".") for folder in folders)
    assert prepare_index("folder", root, frames_to=target, num_workers=0).problems == []
    assert len([*(target / "train" / "x").iterdir()]) == num_videos


def test_a_broken_video_gets_no_frames_and_is_listed(damaged_set, tmp_path):
    found = prepare_index("csv", damaged_set, frames_to=tmp_path / "frames", num_workers=0)
    assert found.counts == {"train": {"videos": 4, "missing": 1, "unreadable": 1}}
    assert sorted(path.name for path in (tmp_path / "frames").glob("*.mp4")) == ["a.mp4", "b.mp4"]
    assert indexed("csv", tmp_path / "frames").frames.tolist() == [6, 6, -1, -1]


def test_a_frames_folder_with_other_files_is_refused(damaged_set, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(DataError, match="full is not empty; choose a new or empty"):
        prepare_index("csv", damaged_set, frames_to=tmp_path / "full", num_workers=0)


def test_frames_of_two_sizes_do_not_mix(damaged_set, tmp_path):
    prepare_index("csv", damaged_set, frames_to=tmp_path / "f", short_side=16, num_workers=0)
    with pytest.raises(DataError, match="holds frames made with .*16.*, not with .*24.* choose"):
        prepare_index("csv", damaged_set, frames_to=tmp_path / "f", short_side=24, num_workers=0)


def test_frames_within_the_root_are_refused(damaged_set):
    with pytest.raises(DataError, match="is inside .*, which must not change; choose another"):
        prepare_index("csv", damaged_set, frames_to=damaged_set / "frames", num_workers=0)


def test_videos_outside_the_root_are_refused(damaged_set, tmp_path):
    (damaged_set / "train.csv").write_text(f"a.mp4,x\n{tmp_path}/far.mp4,x\n")
    with pytest.raises(DataError, match=r"far\.mp4 is not inside .*, so its frames have no place"):
        prepare_index("csv", damaged_set, frames_to=tmp_path / "frames", num_workers=0)


def test_a_size_without_frames_is_refused(damaged_set):
    with pytest.raises(DataError, match="short_side = 16; wanted .*, together with frames_to"):
        prepare_index("csv", damaged_set, short_side=16)


def test_the_error_of_a_folder_without_lists_names_the_expected_list(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv does not exist; wanted lines path,label"):
        prepare_index("csv", tmp_path)


# --------------------------------------------------------------------------------------- processes


def test_only_the_task_that_kills_its_process_is_lost():
    fatal = "__import__('os').kill(__import__('os').getpid(), 9)"
    tasks = [*map(str, range(9)), fatal, *map(str, range(9, 20))]
    results = dict(run_in_processes(eval, tasks, num_workers=2, on_crash=lambda task: "died"))
    assert results == {str(number): number for number in range(20)} | {fatal: "died"}


def test_a_task_that_is_submitted_to_a_broken_pool_is_run_again(monkeypatch):
    class BreaksAtTheThird:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.left = 3

        def submit(self, function: Any, task: str) -> Future[int]:
            self.left -= 1
            if self.left == 0:
                raise BrokenProcessPool
            future: Future[int] = Future()
            future.set_result(function(task))
            return future

        def shutdown(self, **_: Any) -> None: ...

    monkeypatch.setattr(processes, "_pool", BreaksAtTheThird)
    monkeypatch.setattr(processes, "_run_alone", lambda function, task, _: function(task))
    tasks = list(map(str, range(10)))
    results = list(run_in_processes(eval, tasks, num_workers=2, on_crash=lambda _: -1))
    assert sorted(results) == [(task, int(task)) for task in tasks]


def test_a_video_that_crashes_its_process_is_reported(tmp_path):
    assert "crashes the process that reads it" in prepare_index_module._crashed(tmp_path).reason


# ------------------------------------------------------------------------------- the command line


def test_the_command_prints_the_counts_and_exits_with_1_if_videos_are_missing(damaged_set, capsys):
    arguments = ["prepare", "index", "csv", "--root", str(damaged_set), "--workers", "0"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "4 videos, 1 missing, 1 unreadable" in printed.out
    assert f"no label     1, first {damaged_set / 'e.mp4'}" in printed.out
    report = damaged_set / ".motionaware" / "csv-problems.csv"
    assert f"missing or unreadable: 2, listed in {report}" in printed.err
    assert main([*arguments, "--allow-broken"]) == 0


def test_the_command_extracts_frames(damaged_set, tmp_path, capsys):
    arguments = [
        "prepare",
        "index",
        "csv",
        "--root",
        str(damaged_set),
        "--frames-to",
        str(tmp_path / "f"),
    ]
    assert main([*arguments, "--short-side", "16", "--workers", "0"]) == 1
    assert f"data.root {tmp_path / 'f'}" in capsys.readouterr().out


def test_the_error_of_an_unknown_kind_suggests_a_known_one(capsys):
    assert main(["prepare", "index", "cvs", "--root", "."]) == 1
    assert "data kind 'cvs' is unknown; did you mean 'csv'" in capsys.readouterr().err


def test_a_model_trains_equally_on_an_index_and_on_lists(tiny_recipe, video_folder, tmp_path):
    root = copy_of(video_folder, tmp_path)
    data = DataConfig(kind="folder", root=str(root), num_workers=1)
    recipe = replace(tiny_recipe, data=data, train=replace(tiny_recipe.train, epochs=1))
    before = train(recipe, tmp_path / "lists")
    prepare_index("folder", root, num_workers=0)
    assert train(recipe, tmp_path / "index") == before

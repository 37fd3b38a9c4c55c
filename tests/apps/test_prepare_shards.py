import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.apps import prepare_shards as prepare_shards_module
from motionaware.apps.doctor import doctor
from motionaware.apps.prepare_shards import prepare_shards
from motionaware.cli import main
from motionaware.data.annotations.split import SHARD_INDEX as INDEX
from motionaware.data.annotations.table import read_lists
from motionaware.data.shards import writer as shard_writer
from motionaware.data.shards.layout import ShardedExamples, read_shard_index, read_shards
from motionaware.data.shards.writer import Shard
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.dataset_factory import check_splits, open_source
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import Trainer, train
from motionaware.errors import DataError, TrainingInterrupted, WorkerCrashed
from motionaware.models.checkpoint import load

SMALL = 0.02


@pytest.fixture(scope="module")
def videos(video_folder, tmp_path_factory) -> Path:
    """Copy the videos, so that an index can be written."""
    return shutil.copytree(video_folder, tmp_path_factory.mktemp("videos") / "videos")


def write(root: Path, shards: Path, **options) -> dict:
    options = {"shard_mib": SMALL, "num_workers": 0} | options
    return prepare_shards("folder", root, shards, **options).counts


def sharded(root: Path, split: str = "train") -> ShardedExamples:
    examples = read_shards(root, split).examples
    assert isinstance(examples, ShardedExamples)
    return examples


def test_each_video_is_in_one_shard_and_in_the_index(videos, tmp_path):
    counts = write(videos, tmp_path / "shards")
    for name in ("train", "val", "test"):
        examples = sharded(tmp_path / "shards", name)
        assert counts[name] == {"videos": 12, "left_out": 0, "shards": len(examples.shards)}
        listed = read_lists("folder", videos, name)
        assert sorted(examples.labels) == sorted(one.label for one in listed.examples)
    assert len(sharded(tmp_path / "shards").shards) > 2


def test_videos_in_two_splits_are_counted(trees, plant, tmp_path, capsys):
    root = plant(trees["ucf101-1"], tmp_path / "root", real=True)
    out = ["--out", str(tmp_path / "shards"), "--workers", "0"]
    assert main(["prepare", "shards", "ucf101-1", "--root", str(root), *out]) == 0
    assert "  shared       val and test both list 2 videos\n" in capsys.readouterr().out
    data = DataConfig(kind="shards", root=str(tmp_path / "shards"))
    assert check_splits(open_source(data)).num_val_in_test == 2
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 0
    assert "  shared       val and test both list 2 videos\n" in capsys.readouterr().out


def test_videos_in_both_train_and_val_are_reported_for_shards(videos, tmp_path, capsys):
    root = shutil.copytree(videos, tmp_path / "root")
    paths = sorted(path.relative_to(root) for path in (root / "train").glob("*/*.mp4"))
    for split, some in (("train", paths), ("val", paths[:3])):
        (root / f"{split}.csv").write_text("".join(f"{p},{p.parts[1]}\n" for p in some))
    prepare_shards("csv", root, tmp_path / "shards", num_workers=0)
    data = DataConfig(kind="shards", root=str(tmp_path / "shards"))
    assert check_splits(open_source(data)).num_in_train == {"val": 3}
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 1
    printed = capsys.readouterr().out
    assert "! train and val both list 3 videos: accuracy on val is too high; remove" in printed
    shard = tmp_path / "shards" / sharded(tmp_path / "shards").shards[0]
    shard.write_bytes(b"\0" * shard.stat().st_size)  # the second problem does not hide the first
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 1
    assert "! train and val both list 3 videos" in capsys.readouterr().out


def test_shards_of_an_older_version_have_no_list_of_shared_videos(videos, tmp_path):
    write(videos, tmp_path / "shards")
    path = tmp_path / "shards" / "shards.json"
    index = json.loads(path.read_text())
    assert index.pop("shared") == []
    path.write_text(json.dumps(index))
    assert read_shard_index(tmp_path / "shards").overlap == {}
    assert len(sharded(tmp_path / "shards")) == 12


def test_only_training_videos_are_shuffled_before_writing(videos, tmp_path):
    write(videos, tmp_path / "shards")
    for name, kept in (("train", False), ("val", True)):
        listed = [one.label for one in read_lists("folder", videos, name).examples]
        assert (sharded(tmp_path / "shards", name).labels.tolist() == listed) == kept


def test_the_same_videos_give_identical_shards(videos, tmp_path):
    write(videos, tmp_path / "one")
    write(videos, tmp_path / "other", num_workers=1)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_repeated_call_continues_after_an_interruption(videos, tmp_path, monkeypatch):
    write(videos, tmp_path / "whole")
    written = []
    original = shard_writer.write_shard

    def failing(shard):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(shard.path)
        return original(shard)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("motionaware.apps.prepare_shards.write_shard", failing)
        write(videos, tmp_path / "shards")
    assert not (tmp_path / "shards" / INDEX).exists()
    with pytest.raises(DataError, match=r"shards.json does not exist"):
        read_shards(tmp_path / "shards", "train")
    before = {path: path.stat().st_mtime_ns for path in written}
    write(videos, tmp_path / "shards")
    assert {path: path.stat().st_mtime_ns for path in written} == before
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "shards" / path.name).read_bytes()


def test_a_shard_that_cannot_be_written_leaves_no_file(videos, tmp_path, monkeypatch):
    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(shard_writer, "_read_files", gone)
    with pytest.raises(OSError, match=r"train-000000.tar: cannot write the shard"):
        write(videos, tmp_path / "shards")
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["written-from.json"]


@pytest.mark.slow
def test_ctrl_c_leaves_only_complete_shards(videos, tmp_path):
    out = ["--out", str(tmp_path / "shards"), "--shard-mib", "0.001"]
    arguments = ["prepare", "shards", "folder", "--root", str(videos), *out]
    command = [sys.executable, "-m", "motionaware", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path).glob("shards/*.tar")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, 130), errors  # 0 if it finished before the signal
    assert main(arguments) == 0
    assert not list((tmp_path / "shards").glob("*.part"))
    assert len(sharded(tmp_path / "shards")) == 12


def test_unreadable_videos_are_left_out_and_counted(videos, tmp_path, capsys):
    root = shutil.copytree(videos, tmp_path / "root", ignore=shutil.ignore_patterns(".motionaware"))
    first = sorted(root.glob("train/*/*.mp4"))[0]
    first.write_bytes(first.read_bytes()[:700])
    out = ["--out", str(tmp_path / "shards"), "--workers", "0"]
    arguments = ["prepare", "shards", "folder", "--root", str(root), *out]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "train        12 videos, 1 of them left out, 1 shard\n" in captured.out
    assert "missing or unreadable, left out: 1" in captured.err
    assert len(sharded(tmp_path / "shards")) == 11
    assert main([*arguments, "--allow-broken"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard_mib": 0}, "wanted the size of a shard in MiB, above 0"),
        ({"shard_mib": float("nan")}, "wanted the size of a shard in MiB, above 0"),
    ],
)
def test_a_shard_size_that_is_not_positive_is_refused(options, message, videos, tmp_path):
    with pytest.raises(DataError, match=message):
        write(videos, tmp_path / "shards", **options)


def test_a_folder_with_other_files_is_refused(videos, tmp_path):
    write(videos, tmp_path / "shards")
    with pytest.raises(DataError, match="holds shards of other videos or with another --shard-mib"):
        write(videos, tmp_path / "shards", shard_mib=64)
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "thesis.tex").touch()
    with pytest.raises(DataError, match="copied is not empty"):
        write(videos, tmp_path / "copied")
    with pytest.raises(DataError, match="which must not change"):
        write(videos, videos / "shards")


def test_shards_cannot_be_made_of_shards(capsys):
    assert main(["prepare", "shards", "shards", "--root", "x", "--out", "y"]) == 1
    assert "data kind 'shards' has no lists to read" in capsys.readouterr().err


def test_a_worker_that_crashes_is_an_error_that_names_the_shard(videos, tmp_path):
    shard = Shard(tmp_path / "train-000000.tar", (), 0, ())
    with pytest.raises(WorkerCrashed, match=r"wrote .*train-000000\.tar crashed or was killed"):
        prepare_shards_module._crashed(shard)


# ---------------------------------------------------------------------------------- used in a run


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "shards"
    write(videos, folder)
    return folder


def on_shards(recipe: Recipe, shards: Path, **data) -> Recipe:
    config = DataConfig(kind="shards", root=str(shards), crop="random", num_workers=0)
    return replace(recipe, data=replace(config, **data), train=replace(recipe.train, batch_size=3))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stopped_run_on_shards_resumes_to_the_same_result(
    num_workers, shards, tiny_recipe, tmp_path, monkeypatch
):
    recipe = on_shards(tiny_recipe, shards, num_workers=num_workers)
    report = train(recipe, tmp_path / "whole")
    original, steps = Trainer._train_step, iter(range(1000))

    def stop(run, group):
        if next(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        original(run, group)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted, match="epoch 2"):
        patch.setattr(Trainer, "_train_step", stop)
        train(recipe, tmp_path / "halves")
    assert train(recipe, tmp_path / "halves", resume=True) == report
    one, other = (load(tmp_path / name / "last.safetensors") for name in ("whole", "halves"))
    assert all(
        a.equal(b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_run_cannot_resume_with_other_shards(shards, tiny_recipe, videos, tmp_path, monkeypatch):
    copied = shutil.copytree(shards, tmp_path / "copied")
    recipe = on_shards(tiny_recipe, copied)

    def stop(run, group):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(Trainer, "_train_step", stop)
        train(recipe, tmp_path / "run")
    shutil.rmtree(copied)
    write(videos, copied, shard_mib=64)
    with pytest.raises(
        ValueError, match="the order of the training videos has changed since .*: the shards, or"
    ):
        train(recipe, tmp_path / "run", resume=True)


def test_mixup_augmentation_and_skipping_work_with_shards(shards, tiny_recipe, tmp_path):
    copied = shutil.copytree(shards, tmp_path / "copied")
    path = copied / sharded(copied).shards[0]
    path.write_bytes(b"x" * path.stat().st_size)
    recipe = on_shards(tiny_recipe, copied, on_error="skip", max_skipped_share=0.9, flip=True)
    augment = replace(recipe.augment, color_jitter=0.2, mixup_alpha=0.5)
    train(replace(recipe, augment=augment), tmp_path / "run")
    lines = RunFolder(tmp_path / "run").skipped.read_text().splitlines()[1:]
    assert len(lines) == len(sharded(copied).videos_in(0))
    assert all("cannot be read as a tar file" in line for line in lines)
    assert lines[0].startswith("train,train-000000.tar/000000,")


def test_train_evaluate_and_doctor_read_shards(shards, tmp_path, capsys):
    run = tmp_path / "run"
    recipe = Path(__file__).parents[2] / "recipes" / "folder.yaml"
    options = ["--data.kind", "shards", "--data.root", str(shards), "--clip.image_size=32"]
    options += ["--train.epochs=1", "--train.device=cpu", "--run", str(run)]
    assert main(["train", str(recipe), *options]) == 0
    assert "12 classes, 12 training and 12 validation videos" in capsys.readouterr().out
    assert main(["evaluate", str(run / "best.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_videos"] == 12
    assert main(["doctor", str(shards), "--kind", "shards"]) == 0
    assert "12 videos, none broken" in capsys.readouterr().out


def test_doctor_reports_a_broken_shard_once(shards, tmp_path):
    copied = shutil.copytree(shards, tmp_path / "copied")
    path = copied / sharded(copied).shards[0]
    path.write_bytes(b"x" * path.stat().st_size)
    (problem,) = doctor(copied, kind="shards").problems
    assert f"shard {path} cannot be read as a tar file" in problem
    path.unlink()
    (problem,) = doctor(copied, kind="shards").problems
    assert f"shard {path} does not exist" in problem


def test_each_rank_logs_its_share_of_the_videos(shards, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    lines: list[str] = []
    train(on_shards(tiny_recipe, shards), tmp_path / "run", log=lines.append)
    assert "training (of rank 1 of 2) and 12 validation videos" in lines[0]

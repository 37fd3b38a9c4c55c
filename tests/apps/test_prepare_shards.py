import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.apps.doctor import doctor
from motionaware.apps.prepare_shards import prepare_shards
from motionaware.cli import main
from motionaware.data.annotations.split import SHARD_INDEX as INDEX
from motionaware.data.annotations.table import read_lists
from motionaware.data.shards import writer as shard_writer
from motionaware.data.shards.layout import ShardedExamples, read_shard_index, read_shards
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.dataset_factory import check_splits, open_source
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import Trainer, train
from motionaware.errors import DataError, TrainingInterrupted
from motionaware.models.checkpoint import load

SMALL = 0.02


@pytest.fixture(scope="module")
def videos(video_folder, tmp_path_factory) -> Path:
    """A copy that may be indexed."""
    return shutil.copytree(video_folder, tmp_path_factory.mktemp("videos") / "videos")


def write(root: Path, shards: Path, **options) -> dict:
    options = {"shard_mib": SMALL, "num_workers": 0} | options
    return prepare_shards("folder", root, shards, **options).counts


def sharded(root: Path, split: str = "train") -> ShardedExamples:
    examples = read_shards(root, split).examples
    assert isinstance(examples, ShardedExamples)
    return examples


def test_every_video_stands_in_one_shard_and_the_index_says_where(videos, tmp_path):
    counts = write(videos, tmp_path / "shards")
    for name in ("train", "val", "test"):
        examples = sharded(tmp_path / "shards", name)
        assert counts[name] == {"videos": 12, "left_out": 0, "shards": len(examples.shards)}
        listed = read_lists("folder", videos, name)
        assert sorted(examples.labels) == sorted(one.label for one in listed.examples)
    assert len(sharded(tmp_path / "shards").shards) > 2


def test_videos_in_two_splits_are_counted(trees, plant, tmp_path, capsys):
    root = plant(trees["ucf101-1"], tmp_path / "root", real=True)
    words = ["prepare", "ucf101-1", "--root", str(root), "--shards", str(tmp_path / "shards")]
    assert main([*words, "--workers", "0"]) == 0
    assert "  shared       val and test both list 2 videos\n" in capsys.readouterr().out
    data = DataConfig(kind="shards", root=str(tmp_path / "shards"))
    assert check_splits(open_source(data)).num_val_in_test == 2
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 0
    assert "  shared       val and test both list 2 videos\n" in capsys.readouterr().out


def test_training_videos_that_are_judged_too_are_told_of_shards_as_well(videos, tmp_path, capsys):
    root = shutil.copytree(videos, tmp_path / "root")
    paths = sorted(path.relative_to(root) for path in (root / "train").glob("*/*.mp4"))
    for split, some in (("train", paths), ("val", paths[:3])):
        (root / f"{split}.csv").write_text("".join(f"{p},{p.parts[1]}\n" for p in some))
    prepare_shards("csv", root, tmp_path / "shards", num_workers=0)
    data = DataConfig(kind="shards", root=str(tmp_path / "shards"))
    assert check_splits(open_source(data)).num_in_train == {"val": 3}
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 1
    said = capsys.readouterr().out
    assert "! train and val both list 3 videos: accuracy on what was learnt is flattered" in said
    shard = tmp_path / "shards" / sharded(tmp_path / "shards").shards[0]
    shard.write_bytes(b"\0" * shard.stat().st_size)  # one fault does not hide the other
    assert main(["doctor", str(tmp_path / "shards"), "--kind", "shards"]) == 1
    assert "! train and val both list 3 videos" in capsys.readouterr().out


def test_shards_that_were_written_before_say_nothing_of_what_is_shared(videos, tmp_path):
    write(videos, tmp_path / "shards")
    path = tmp_path / "shards" / "shards.json"
    index = json.loads(path.read_text())
    assert index.pop("shared") == []
    path.write_text(json.dumps(index))
    assert read_shard_index(tmp_path / "shards").overlap == {}
    assert len(sharded(tmp_path / "shards")) == 12


def test_training_videos_are_shuffled_before_they_are_shared_out(videos, tmp_path):
    write(videos, tmp_path / "shards")
    for name, kept in (("train", False), ("val", True)):
        listed = [one.label for one in read_lists("folder", videos, name).examples]
        assert (sharded(tmp_path / "shards", name).labels.tolist() == listed) == kept


def test_the_same_videos_make_the_same_bytes(videos, tmp_path):
    write(videos, tmp_path / "one")
    write(videos, tmp_path / "other", num_workers=1)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_broken_off_and_repeated_it_goes_on_where_it_was(videos, tmp_path, monkeypatch):
    write(videos, tmp_path / "whole")
    written = []
    plain = shard_writer.write_shard

    def failing(shard):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(shard.path)
        return plain(shard)

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


def test_a_shard_whose_writing_ends_early_leaves_nothing(videos, tmp_path, monkeypatch):
    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(shard_writer, "_read_files", gone)
    with pytest.raises(OSError, match=r"train-000000.tar: cannot write the shard"):
        write(videos, tmp_path / "shards")
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["written-from.json"]


@pytest.mark.slow
def test_ctrl_c_leaves_whole_shards_only(videos, tmp_path):
    words = ["prepare", "folder", "--root", str(videos), "--shards", str(tmp_path / "shards")]
    command = [sys.executable, "-m", "motionaware", *words, "--shard-mib", "0.001"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path).glob("shards/*.tar")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (0, 130), said  # 0 where it was done before
    assert main([*words, "--shard-mib", "0.001"]) == 0
    assert not list((tmp_path / "shards").glob("*.part"))
    assert len(sharded(tmp_path / "shards")) == 12


def test_videos_that_cannot_be_read_are_left_out_and_counted(videos, tmp_path, capsys):
    root = shutil.copytree(videos, tmp_path / "root", ignore=shutil.ignore_patterns(".motionaware"))
    first = sorted(root.glob("train/*/*.mp4"))[0]
    first.write_bytes(first.read_bytes()[:700])
    words = ["prepare", "folder", "--root", str(root), "--shards", str(tmp_path / "shards")]
    assert main([*words, "--workers", "0"]) == 1
    captured = capsys.readouterr()
    assert "train        12 videos, 1 of them left out, 1 shard\n" in captured.out
    assert "left out, absent or broken: 1" in captured.err
    assert len(sharded(tmp_path / "shards")) == 11
    assert main([*words, "--workers", "0", "--allow-broken"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shard_mib": 0}, "wanted the size of a shard in MiB, above 0"),
        ({"shard_mib": float("nan")}, "wanted the size of a shard in MiB, above 0"),
    ],
)
def test_a_size_that_is_none_is_refused(options, words, videos, tmp_path):
    with pytest.raises(DataError, match=words):
        write(videos, tmp_path / "shards", **options)


def test_shards_of_two_writings_do_not_mix(videos, tmp_path):
    write(videos, tmp_path / "shards")
    with pytest.raises(DataError, match="holds shards of other videos, or of another size"):
        write(videos, tmp_path / "shards", shard_mib=64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match="holds something else already"):
        write(videos, tmp_path / "mine")
    with pytest.raises(DataError, match="which it would change"):
        write(videos, videos / "shards")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["folder", "--root", "x", "--shard-mib", "3"], "--shard-mib is of shards; give --shards"),
        (
            ["folder", "--root", "x", "--shards", "y", "--short-side", "8"],
            "prepare with --frames-to first, and give that folder as --root",
        ),
        (["motionpairs", "--out", "x", "--shards", "y"], "prepare motionpairs has no --shards"),
        (["shards", "--root", "x", "--shards", "y"], "data kind 'shards' has no lists to read"),
    ],
)
def test_words_that_make_no_sense_are_refused(words, said, capsys):
    assert main(["prepare", *words]) == 1
    assert said in capsys.readouterr().err


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
def test_a_run_on_shards_that_was_stopped_ends_as_if_it_had_not(
    num_workers, shards, tiny_recipe, tmp_path, monkeypatch
):
    recipe = on_shards(tiny_recipe, shards, num_workers=num_workers)
    report = train(recipe, tmp_path / "whole")
    plain, steps = Trainer._train_step, iter(range(1000))

    def pressed(run, group):
        if next(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        plain(run, group)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted, match="epoch 2"):
        patch.setattr(Trainer, "_train_step", pressed)
        train(recipe, tmp_path / "halves")
    assert train(recipe, tmp_path / "halves", resume=True) == report
    one, other = (load(tmp_path / name / "last.safetensors") for name in ("whole", "halves"))
    assert all(
        a.equal(b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_run_does_not_go_on_with_other_shards(shards, tiny_recipe, videos, tmp_path, monkeypatch):
    mine = shutil.copytree(shards, tmp_path / "mine")
    recipe = on_shards(tiny_recipe, mine)

    def pressed(run, group):
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(Trainer, "_train_step", pressed)
        train(recipe, tmp_path / "run")
    shutil.rmtree(mine)
    write(videos, mine, shard_mib=64)
    with pytest.raises(
        ValueError, match="the order of the training videos has changed since .*: the shards, or"
    ):
        train(recipe, tmp_path / "run", resume=True)


def test_mixing_augmenting_and_skips_work_as_without_shards(shards, tiny_recipe, tmp_path):
    mine = shutil.copytree(shards, tmp_path / "mine")
    path = mine / sharded(mine).shards[0]
    path.write_bytes(b"x" * path.stat().st_size)
    recipe = on_shards(tiny_recipe, mine, on_error="skip", max_skipped_share=0.9, flip=True)
    augment = replace(recipe.augment, color_jitter=0.2, mixup_alpha=0.5)
    train(replace(recipe, augment=augment), tmp_path / "run")
    lines = RunFolder(tmp_path / "run").skipped.read_text().splitlines()[1:]
    assert len(lines) == len(sharded(mine).videos_in(0))
    assert all("cannot be read as a tar file" in line for line in lines)
    assert lines[0].startswith("train,train-000000.tar/000000,")


def test_from_the_command_line(shards, tmp_path, capsys):
    run = tmp_path / "run"
    recipe = Path(__file__).parents[2] / "recipes" / "folder.yaml"
    words = ["--data.kind", "shards", "--data.root", str(shards), "--clip.image_size=32"]
    words += ["--train.epochs=1", "--train.device=cpu", "--run", str(run)]
    assert main(["train", str(recipe), *words]) == 0
    assert "12 classes, 12 training and 12 validation videos" in capsys.readouterr().out
    assert main(["evaluate", str(run / "best.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_videos"] == 12
    assert main(["doctor", str(shards), "--kind", "shards"]) == 0
    assert "12 videos, none broken" in capsys.readouterr().out


def test_the_doctor_names_a_broken_shard_once(shards, tmp_path):
    mine = shutil.copytree(shards, tmp_path / "mine")
    path = mine / sharded(mine).shards[0]
    path.write_bytes(b"x" * path.stat().st_size)
    (fault,) = doctor(mine, kind="shards").faults
    assert f"shard {path} cannot be read as a tar file" in fault
    path.unlink()
    (fault,) = doctor(mine, kind="shards").faults
    assert f"shard {path} does not exist" in fault


def test_a_launched_run_says_that_it_has_a_part_only(shards, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    lines: list[str] = []
    train(on_shards(tiny_recipe, shards), tmp_path / "run", log=lines.append)
    assert "training (of rank 1 of 2) and 12 validation videos" in lines[0]

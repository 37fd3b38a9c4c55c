import argparse
import inspect
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from motionaware.apps.doctor import DoctorReport
from motionaware.apps.prepare_shards import prepare_shards
from motionaware.apps.prepare_split import prepare_split
from motionaware.apps.visualize import visualize
from motionaware.cli import main, make_parser
from motionaware.data.motionpairs import CLASS_NAMES
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.config_io import recipe_to_dict, recipe_to_yaml
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train
from motionaware.errors import MotionAwareWarning, one_line
from motionaware.explain.saturation import saturation
from motionaware.models.checkpoint import load, save
from motionaware.models.recognizer import create_model


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


COMMANDS = subparsers(make_parser())
COMMANDS |= {f"prepare {name}": parser for name, parser in subparsers(COMMANDS["prepare"]).items()}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def program(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "motionaware", *map(str, arguments)]


def error_line(capsys: pytest.CaptureFixture[str], arguments: Sequence[str | Path]) -> str:
    """Run a command that must fail with exit code 1; return the only line of its error output."""
    assert main([str(argument) for argument in arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("motionaware: ")
    return line.removeprefix("motionaware: ")


@pytest.fixture(scope="module")
def checkpoint(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model(
        "resnet18_quarter",
        temporal="m2a",
        num_frames=4,
        class_names=CLASS_NAMES,
        clip=tiny_recipe.clip,
    )
    model.recipe = recipe_to_dict(tiny_recipe) | {"trained": {"epoch": 1}}
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save(model, path)
    return path


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(tiny_recipe))
    return path


@pytest.fixture
def video_recipe_file(tiny_recipe: Recipe, video_folder: Path, tmp_path: Path) -> Path:
    """A recipe on a copy of the videos, in which a test may break some; with one worker."""
    shutil.copytree(video_folder, tmp_path / "videos")
    data = DataConfig(kind="folder", root=str(tmp_path / "videos"), num_workers=1)
    path = tmp_path / "videos.yaml"
    path.write_text(recipe_to_yaml(replace(tiny_recipe, data=data)))
    return path


# ------------------------------------------------------------------------------------ the program


def test_help_is_fast_and_imports_nothing_heavy():
    code = (
        "import sys; from motionaware.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'timm', 'av', 'numpy', 'torchvision', 'jsonargparse', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert end.ru_utime - start.ru_utime < 1.0  # seconds of CPU time
    for command in COMMANDS:
        assert command.split()[0] in done.stdout


def actions_of(command: str) -> list[argparse.Action]:
    return [
        action
        for action in COMMANDS[command]._actions
        if action.dest != "help" and not isinstance(action, argparse._SubParsersAction)
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_each_command_and_each_of_its_options_with_their_defaults(command: str):
    assert COMMANDS[command].description
    for action in actions_of(command):
        shown = (action.help or "") % {"default": action.default}
        assert shown, action.dest
        if action.default not in (None, False):
            assert f"(default: {action.default})" in shown


def test_help_states_the_defaults_of_the_functions_that_the_commands_call():
    for command, function, names in (
        ("visualize", visualize, {"out", "clip", "fps"}),
        ("visualize", saturation, {"split"}),
        ("prepare split", prepare_split, {"val_share", "test_share", "seed"}),
        ("prepare shards", prepare_shards, {"shard_mib"}),
    ):
        parameters = inspect.signature(function).parameters
        actions = {action.dest: action for action in actions_of(command)}
        for name in names:
            default = str(parameters[name].default).removesuffix(".0")
            shown = (actions[name].help or "") % {"default": actions[name].default}
            assert f"(default: {default}" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["prepare"], "the following arguments are required: COMMAND"),
        (["prepare", "indx"], "command 'prepare indx' is unknown; did you mean 'index'?"),
        (["prepare", "index", "csv"], "the following arguments are required: --root"),
        (["prepare", "motionpairs"], "the following arguments are required: --out"),
        (["prepare", "index", "csv", "--root", "x", "--size", "6"], "unrecognized arguments: --s"),
        (["prepare", "split", "--root", "x", "--out", "y"], "unrecognized arguments: --out y"),
        (["trian"], "command 'trian' is unknown; did you mean 'train'?"),
        (["doctor", "--colour", "red"], "unrecognized arguments: --colour"),
        (["predict", "model.safetensors", "a.mp4", "--train.epochs=3"], "unrecognized arguments"),
        (["evaluate", "x", "--views", "two"], "invalid int value: 'two'"),
    ],
)
def test_wrong_arguments_are_one_line_and_end_with_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    try:
        code: object = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("option", "value"),
    [("--temporal", "tsm"), ("--size", "64"), ("--frames", "4"), ("--stages", "2")],
)
def test_profile_refuses_options_of_a_backbone_beside_a_checkpoint(
    option: str, value: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    message = error_line(capsys, ["profile", checkpoint, option, value])
    assert f"{option} cannot be used with a checkpoint" in message


def test_an_empty_option_or_recipe_key_is_named(capsys: pytest.CaptureFixture[str]):
    arguments = ["train", "recipe.yaml", "--run", "x", "--data.root", ""]
    assert error_line(capsys, arguments).startswith("--data.root is empty; ")
    assert error_line(capsys, ["evaluate", "x", "--root="]).startswith("--root is empty; ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("csv --root d", "index csv --root d"),
        ("--root d csv", "index --root d csv"),
        ("folder --root 'my d' --frames-to f", "index folder --root 'my d' --frames-to f"),
        ("list --root d --shards s --shard-mib 8", "shards list --root d --out s --shard-mib 8"),
        ("list --root d --shards=s", "shards list --root d --out=s"),
    ],
)
def test_the_former_spelling_of_prepare_is_refused_with_the_new_command(
    old: str, new: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["--traceback", "prepare", *shlex.split(old)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    prefix = "motionaware: `prepare KIND` has been replaced; run: "
    assert line == f"{prefix}motionaware prepare {new}"
    make_parser().parse_args(shlex.split(line.removeprefix(prefix))[1:])


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("0.")


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, checkpoint: Path):
    def fail(*args: object, **kwargs: object) -> None:
        torch.cat([])  # a ValueError or RuntimeError of torch

    monkeypatch.setattr("motionaware.models.checkpoint.load", fail)
    with pytest.raises((ValueError, RuntimeError), match="non-empty list"):
        main(["evaluate", str(checkpoint)])


def test_a_broken_pipe_elsewhere_is_an_error_not_a_closed_output(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    def fail(*args: object, **kwargs: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("motionaware.models.checkpoint.load", fail)
    assert error_line(capsys, ["evaluate", checkpoint]) == "Broken pipe"


def test_an_empty_message_is_replaced_by_the_name_of_the_error():
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("two\n  lines")) == "two lines"


def test_traceback_shows_the_traceback_of_an_error_for_users(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        main(["--traceback", "evaluate", str(tmp_path / "none.safetensors")])


# ------------------------------------------------------------------------------------------ train


def test_train_prints_its_progress_and_the_files_that_it_wrote(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["train", "--train.epochs", "1", str(recipe_file), "--run", str(tmp_path / "run")]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    first, epoch, report, *rest = shown.out.splitlines()
    assert first.startswith("resnet18_quarter, temporal m2a at 8 sites, 0.71 M parameters; 12 cl")
    assert epoch.startswith("epoch 1/1  training: loss ")
    assert report.startswith("validation, last epoch: 12 videos  top-1 ")
    assert rest == [
        f"log: {tmp_path / 'run' / 'log.csv'}",
        f"curves: {tmp_path / 'run' / 'curves.png'}",
        f"best on validation: {tmp_path / 'run' / 'best.safetensors'}",
        f"next: motionaware evaluate {tmp_path / 'run' / 'best.safetensors'}",
    ]
    assert shown.err == ""


def test_train_prints_the_number_of_skipped_videos(
    video_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for split in ("train", "val"):
        sorted((tmp_path / "videos" / split).glob("*/*.mp4"))[3].write_text("no video")
    run = tmp_path / "run"
    arguments = ["train", str(video_recipe_file), "--run", str(run), "--train.epochs=1"]
    assert main([*arguments, "--data.on_error=skip", "--data.max_skipped_share=0.25"]) == 0
    first, _, report, skipped, *_ = capsys.readouterr().out.splitlines()
    assert "skipped" not in first  # not known before they are opened
    assert report.startswith("validation, last epoch: 11 of 12 videos (1 skipped)  top-1 ")
    assert skipped == f"skipped: 2 videos, listed in {run / 'skipped.csv'}"
    lines: list[str] = []
    again = train(RunFolder(run).recipe(), run, resume=True, log=lines.append)  # now it is
    assert "12 training and 12 validation videos, 2 skipped" in lines[0]
    assert again.summary().startswith("11 of 12 videos (1 skipped)  top-1 ")


def test_train_prints_how_to_continue_after_a_broken_video(
    video_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sorted((tmp_path / "videos" / "train").glob("*/*.mp4"))[3].write_text("no video")
    run = tmp_path / "run"
    assert main(["train", str(video_recipe_file), "--run", str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not open as a video" in line
    assert f"continue with motionaware train --resume {run}, or add --data.on_error skip" in line


def test_train_warns_if_the_best_epoch_is_selected_on_test_videos(
    recipe_file: Path, trees, plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root, run = plant(trees["ucf101-1"], tmp_path / "root", real=True), tmp_path / "run"
    arguments = ["train", str(recipe_file), "--data.kind=ucf101-1", "--train.epochs=1"]
    assert main([*arguments, f"--data.root={root}", "--train.batch_size=2", f"--run={run}"]) == 0
    note, *_, last, evaluate = capsys.readouterr().out.splitlines()
    assert note.startswith("note: validation and test share 2 videos: best.safetensors is selected")
    assert note.endswith("so evaluate last.safetensors")
    assert last == f"last epoch, for the test: {run}/last.safetensors"
    assert evaluate == f"next: motionaware evaluate {run}/last.safetensors"


def test_train_warns_about_videos_in_both_train_and_val(
    recipe_file: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    videos = [str(path) for path in sorted(video_folder.glob("train/*/*.mp4"))]
    rows = [f"{path},{number % 2}\n" for number, path in enumerate(videos)]
    for name, own in (("train", rows[:6]), ("val", rows[4:8]), ("test", rows[8:])):
        (tmp_path / f"{name}.csv").write_text("".join(own))
    arguments = ["train", str(recipe_file), "--data.kind=csv", f"--data.root={tmp_path}"]
    arguments += ["--train.epochs=1", "--train.batch_size=2", f"--run={tmp_path / 'run'}"]
    assert main(arguments) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    (note,) = notes
    assert note.startswith(
        "note: train and val share 2 videos, so accuracy on val is too high; remove them"
    )


def test_train_warns_about_suspicious_classes_before_training(
    recipe_file: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = shutil.copytree(video_folder, tmp_path / "root")
    (root / "classes.txt").unlink()
    for split in ("train", "val"):
        (root / split / "Meeting").mkdir()  # without videos, and "meeting" but for its case
    arguments = ["train", str(recipe_file), "--data.kind=folder", f"--data.root={root}"]
    arguments += ["--train.epochs=1", "--train.batch_size=12", f"--run={tmp_path / 'run'}"]
    assert main(arguments) == 0
    first, spelling, untrained, unmeasured, epoch, *_ = capsys.readouterr().out.splitlines()
    assert "13 classes" in first
    assert spelling.startswith("note: classes 'Meeting' and 'meeting' differ only in case or bl")
    assert untrained.startswith("note: train has no video of Meeting: a model has an output for")
    assert unmeasured.startswith("note: val has no video of Meeting: its accuracy")
    assert epoch.startswith("epoch 1/1")


def train_with_a_relative_root(recipe_file: Path, folder: Path, *, out: str) -> None:
    arguments = ["train", str(recipe_file), "--data.kind=folder", "--data.root=d", "--run", out]
    command = program(*arguments, "--train.epochs=1", "--data.cache_dir=cache")
    done = subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_with_a_relative_root_is_evaluated_from_another_folder_and_after_a_move(
    recipe_file: Path,
    video_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    shutil.copytree(video_folder, work / "d")
    elsewhere.mkdir()
    train_with_a_relative_root(recipe_file, work, out="runs/r")
    data = RunFolder(work / "runs" / "r").recipe().data
    assert (data.root, data.cache_dir) == (str(work / "d"), str(work / "cache"))
    monkeypatch.chdir(elsewhere)
    assert main(["evaluate", str(work / "runs" / "r" / "best.safetensors")]) == 0
    here = capsys.readouterr().out
    moved = work.rename(tmp_path / "moved")
    assert main(["evaluate", str(moved / "runs" / "r" / "best.safetensors")]) == 0
    shown = capsys.readouterr()
    assert shown.out == here
    assert f"note: data.root {work / 'd'} does not exist; using {moved / 'd'}" in shown.err
    assert not list(elsewhere.iterdir())
    (moved / "d").rename(moved / "other")
    message = error_line(capsys, ["evaluate", moved / "runs" / "r" / "best.safetensors"])
    assert f"looked for {work / 'd'} and {moved / 'd'}, found no folder there" in message
    assert message.endswith("give the folder of the data with --root")
    command = ["evaluate", moved / "runs" / "r" / "best.safetensors", "--root", moved / "other"]
    assert main([str(word) for word in command]) == 0


def test_an_old_checkpoint_with_a_relative_root_fails_with_the_folders_that_were_searched(
    tiny_recipe: Recipe,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    model = load(checkpoint)
    data = DataConfig(kind="folder", root="d")
    model.recipe = recipe_to_dict(replace(tiny_recipe, data=data)) | {"trained": {"epoch": 1}}
    save(model, tmp_path / "old.safetensors")
    monkeypatch.chdir(tmp_path)
    message = error_line(capsys, ["evaluate", "old.safetensors"])
    assert "data.root d, which is relative to the current folder; looked for " in message
    assert f"{tmp_path / 'd'}, found no folder there; give the folder of the data" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "CK", ""],
        ["predict", "CK", "a.mp4", ""],
        ["visualize", "CK", ""],
        ["stream", "CK", ""],
        ["evaluate", "CK", "--root", ""],
        ["evaluate", ""],
        ["doctor", ""],
        ["prepare", "index", "csv", "--root", ""],
        ["profile", ""],
        ["train", "recipe.yaml", "--run", ""],
    ],
)
def test_the_error_names_an_empty_argument(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert " is empty; maybe a shell variable is not set." in error_line(capsys, arguments)


@pytest.mark.parametrize("key", ["root", "cache_dir"])
def test_the_error_names_an_empty_folder_in_a_recipe(
    key: str, recipe_file: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["train", recipe_file, f"--data.{key}="]
    assert f"data.{key} is empty, which would be the current folder" in error_line(
        capsys, arguments
    )


def test_predict_refuses_a_folder_of_videos_with_a_thumbnail(
    checkpoint: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(next((video_folder / "test").glob("*/*.mp4")), tmp_path / "a.mp4")
    Image.new("RGB", (32, 32)).save(tmp_path / "thumb.jpg")
    for command in ("predict", "visualize"):
        message = error_line(capsys, [command, checkpoint, tmp_path])
        assert f"is a folder of 1 video and 1 image, wanted one video; give {tmp_path}/*" in message


def test_the_commands_that_prepare_split_prints_work(
    video_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe_file: Path
):
    root = tmp_path / "my videos"
    for number, video in enumerate(sorted(video_folder.glob("*/*/*.mp4"))[:16]):
        folder = root / ("nod", "wave")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, folder / f"{number}.mp4")
    (tmp_path / "recipes").mkdir()
    shutil.copy(recipe_file, tmp_path / "recipes" / "folder.yaml")
    monkeypatch.chdir(tmp_path)
    command = program("prepare", "split", "--root", "my videos")
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=True)
    doctor, train_on_it = (
        line.partition(": motionaware ")[2]
        for line in done.stdout.splitlines()
        if ": motionaware " in line
    )
    assert doctor == "doctor 'my videos' --kind csv"
    assert train_on_it == ("train recipes/folder.yaml --data.kind csv --data.root 'my videos'")
    assert main(shlex.split(doctor)) == 0
    assert main([*shlex.split(train_on_it), "--run", "run", "--train.epochs=1"]) == 0


def test_doctor_and_train_detect_the_lists_of_prepare_split(
    tmp_path: Path, recipe_file: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("nod/a.mp4", "wave/b.mp4"):
        (tmp_path / "v" / name).parent.mkdir(parents=True)
        (tmp_path / "v" / name).touch()
    for split in ("train", "val", "test"):
        (tmp_path / "v" / f"{split}.csv").write_text("path,label\nnod/a.mp4,nod\nwave/b.mp4,wave\n")
    main(["doctor", str(tmp_path / "v")])
    assert f"{tmp_path / 'v'}, kind csv" in capsys.readouterr().out
    arguments = ["train", recipe_file, "--data.kind=folder", f"--data.root={tmp_path / 'v'}"]
    message = error_line(capsys, arguments)
    assert "it looks like data.kind csv (--data.kind csv; for doctor, evaluate and visu" in message
    assert "prepare split" not in message


def test_train_prints_an_evaluate_command_for_a_split_that_exists(
    recipe_file: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = shutil.copytree(video_folder, tmp_path / "root")
    arguments = ["train", str(recipe_file), "--data.kind=folder", "--train.epochs=1"]
    arguments += [f"--data.root={root}", "--train.batch_size=12"]
    assert main([*arguments, "--run", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.endswith("one/best.safetensors\n")
    shutil.rmtree(root / "test")
    assert main([*arguments, "--run", str(tmp_path / "other")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: motionaware evaluate {tmp_path}/other/best.safetensors --split val"
    assert main(last.split()[2:]) == 0


def test_the_default_run_folder_has_the_name_of_the_recipe(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(recipe_file), "--train.epochs=1"]) == 0
    assert RunFolder(tmp_path / "runs" / "tiny").recipe().train.epochs == 1


def test_train_keys_lists_all_keys(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--keys"]) == 0
    assert "optim.learning_rate" in capsys.readouterr().out


def test_train_keys_does_not_import_torch():
    code = (
        "import sys; from motionaware.cli import main; main(['train', '--keys'])\n"
        "sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ONE_THREAD)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--model.temporal=m2b"], "temporal 'm2b' is unknown; did you mean 'm2a'? Known: "),
        (["--model.backbone=resnet19"], "backbone 'resnet19' is unknown; did you mean 'resnet1"),
        (["--train.epoch=3"], "key train.epoch is unknown; did you mean 'train.epochs'?"),
        (
            ["--epochs", "3"],
            "the command line: key epochs is unknown; did you mean 'train.epochs'?",
        ),
        (["--train.epochs", "0"], "train.epochs is 0, wanted a number in [1, inf)"),
        (["--train.device=abacus"], "device 'abacus' cannot be used here"),
        (["--data.kind=folder", "--data.root=."], "train does not exist; wanted /"),
        (["--data.kind=folder", "--data.root=null"], "data of kind 'folder' needs its folder"),
        (["--optim.learning_rate=1e30", "--optim.max_gradient_norm=null"], "the loss is nan"),
        (["--model.pretrained=none.pth"], "pretrained weights none.pth do not exist"),
        (["more.yaml"], "unrecognized arguments: more.yaml"),
    ],
)
def test_the_error_of_an_invalid_recipe_is_one_line(
    overrides: list[str],
    message: str,
    recipe_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, ["train", recipe_file, *overrides])


def test_the_error_of_an_unknown_key_in_a_recipe_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "recipe.yaml").write_text("optim: {learning_rat: 1}")
    message = error_line(capsys, ["train", tmp_path / "recipe.yaml"])
    assert message.endswith(
        "key optim.learning_rat is unknown; did you mean 'optim.learning_rate'?"
    )


def test_recipe_and_resume_exclude_each_other(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert "leave one of the two out" in error_line(
        capsys, ["train", recipe_file, "--resume", tmp_path]
    )
    assert "give a recipe to start a run" in error_line(capsys, ["train"])
    message = error_line(capsys, ["train", "--resume", tmp_path, "--run", tmp_path])
    assert message == "a resumed run keeps its folder; give --resume RUN without --run"
    assert "holds no run to resume" in error_line(capsys, ["train", "--resume", tmp_path])


def test_an_existing_run_is_not_overwritten(
    tiny_recipe: Recipe, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    RunFolder(tmp_path / "run").begin(tiny_recipe)
    message = error_line(capsys, ["train", recipe_file, "--run", tmp_path / "run"])
    assert "already holds a run; resume it with --resume" in message


@pytest.mark.parametrize("kind", ["empty", "text", "truncated"])
def test_the_error_of_a_broken_training_video_is_one_line_that_names_it(
    kind: str, video_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    victim = sorted((tmp_path / "videos" / "train").glob("*/*.mp4"))[3]
    whole = victim.read_bytes()
    victim.write_bytes({"empty": b"", "text": b"no video", "truncated": whole[:-300]}[kind])
    message = error_line(capsys, ["train", video_recipe_file, "--run", tmp_path / "run"])
    assert str(victim) in message


def test_the_error_of_an_empty_data_folder_is_one_line(
    video_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.rmtree(tmp_path / "videos" / "train")
    (tmp_path / "videos" / "train").mkdir()
    message = error_line(capsys, ["train", video_recipe_file, "--run", tmp_path / "run"])
    assert message.endswith("train holds no class folder; it holds nothing")


def test_the_error_of_a_label_that_is_not_in_the_class_list_is_one_line(
    video_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "train.csv").write_text("a.mp4,cat\nb.mp4,dgo\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    arguments = ["train", video_recipe_file, "--data.kind=csv", f"--data.root={tmp_path}"]
    message = error_line(capsys, arguments)
    assert "train.csv, line 2: label 'dgo' is not in the class list; did you mean 'dog'?" in message
    assert message.endswith(f"; correct it, or add it to {tmp_path}/classes.txt")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "RECIPE", "--run", "FILE"],
        ["train", "RECIPE", "--run", "FILE/run"],
        ["quickstart", "--out", "FILE"],
        ["prepare", "motionpairs", "--out", "FILE"],
        ["prepare", "index", "folder", "--root", "VIDEOS", "--frames-to", "FILE"],
        ["prepare", "shards", "folder", "--root", "VIDEOS", "--out", "FILE"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_an_output_folder_that_is_a_file_is_refused_before_any_work(
    arguments,
    recipe_file: Path,
    video_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    named = {"RECIPE": recipe_file, "VIDEOS": video_folder}
    arguments = [str(named.get(word, word)).replace("FILE", str(file)) for word in arguments]
    assert error_line(capsys, arguments).startswith(f"{file} is a file, wanted a folder")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["notes.txt", "tiny.yaml"]


def test_resuming_a_finished_run_prints_that_it_is_finished(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    assert main(["train", str(recipe_file), "--train.epochs=1", "--run", str(run)]) == 0
    ended = capsys.readouterr().out.splitlines()
    assert main(["train", "--resume", str(run)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    more = f"for more: motionaware train --resume {run} --train.epochs 2, or more"
    assert first == f"{run} is finished, after 1 epoch; {more}"
    assert others == ended[-2:]


def test_a_finished_run_can_be_extended(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    assert main(["train", str(recipe_file), "--train.epochs=1", "--run", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--train.epochs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "resumed with train.epochs 2 (was 1)" in lines
    assert any(line.startswith("epoch 2/2") for line in lines)
    message = error_line(capsys, ["train", "--resume", run, "--optim.learning_rate=0.5"])
    assert "optim.learning_rate was 0.02, is 0.5 now" in message


def test_the_printed_command_continues_a_finished_run_that_cannot_be_extended(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    arguments = ["--train.epochs=1", "--optim.schedule=cosine"]
    assert main(["train", str(recipe_file), *arguments, "--run", str(run)]) == 0
    assert main(["train", "--resume", str(run)]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "is finished" in one]
    message = error_line(capsys, ["train", "--resume", run, "--train.epochs=2"])
    command = message.partition("its weights: motionaware ")[2].partition(". Runs")[0].split()
    assert " ".join(command).startswith(line.partition("its weights: motionaware ")[2])
    command[command.index("NEW")] = str(tmp_path / "new")
    assert main(command) == 0
    assert f"weights from {run}/last.safetensors: 156 of 156" in capsys.readouterr().out


def test_the_warning_of_a_checkpoint_without_a_checksum_is_one_line(
    checkpoint: Path, tmp_path: Path
):
    model = load(checkpoint)
    early = tmp_path / "early.safetensors"
    assert model.plan is not None
    facts = {"clip": asdict(model.clip), "plan": asdict(model.plan), "recipe": model.recipe}
    texts = {key: json.dumps(value) for key, value in facts.items()}
    texts |= {"class_names": json.dumps(model.class_names), "version": "0.1.0"}
    save_file(model.state_dict(), early, {"format": "motionaware-1"} | texts)
    done = subprocess.run(
        program("profile", early, "--sites"), capture_output=True, text=True, env=ONE_THREAD
    )
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"motionaware: note: {early} has no checksum, since an early version")


def test_the_error_of_a_damaged_checkpoint_is_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    damaged = bytearray(checkpoint.read_bytes())
    damaged[-9] ^= 255
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    for arguments in (["predict", "a.mp4"], ["evaluate"], ["profile"]):
        message = error_line(
            capsys, [arguments[0], tmp_path / "damaged.safetensors", *arguments[1:]]
        )
        assert message.startswith(
            f"{tmp_path}/damaged.safetensors is damaged: its content does not"
        )


@pytest.mark.slow
def test_the_error_of_a_loader_worker_is_one_line(
    tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache = tmp_path / "cache"
    data = replace(tiny_recipe.data, root=str(cache), num_workers=1)
    (tmp_path / "tiny.yaml").write_text(recipe_to_yaml(replace(tiny_recipe, data=data)))
    run = tmp_path / "run"
    code = (
        "import sys; from motionaware.cli import main; import motionaware.engine.train as t\n"
        "import shutil; fit = t.Trainer.fit\n"
        f"t.Trainer.fit = lambda run: (shutil.rmtree({str(cache)!r}), fit(run))[1]\n"
        f"sys.exit(main(['train', {str(tmp_path / 'tiny.yaml')!r}, '--run', {str(run)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ONE_THREAD
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"motionaware: {cache}/")
    assert line.endswith(": No such file or directory")


@pytest.mark.slow
def test_the_error_of_a_full_disk_is_one_line_that_names_the_file(
    recipe_file: Path, tmp_path: Path
):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    arguments = program("train", recipe_file, "--run", tmp_path / "run")
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=ONE_THREAD, preexec_fn=limit
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"motionaware: {tmp_path / 'run' / 'last.safetensors'}")
    assert "unchanged" in line
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_a_signal_stopped_resumes_to_the_same_result(
    number: signal.Signals, code: int, video_recipe_file: Path, tmp_path: Path
):
    arguments = program("train", video_recipe_file, "--train.epochs=4", "--train.batch_size=3")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main([*arguments[3:], "--run", str(whole)]) == 0

    process = subprocess.Popen(
        [*arguments, "--run", str(halves)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
        start_new_session=True,
    )
    while not (halves / "log.csv").exists():
        assert process.poll() is None
        time.sleep(0.005)
    for _ in range(2):  # twice, as `timeout` does: to the process and to its group
        os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    (line,) = errors.splitlines()
    assert line.startswith("motionaware: stopped in epoch ")
    assert line.endswith(f"Continue with: motionaware train --resume {halves}")

    assert main(["train", "--resume", str(halves)]) == 0
    rows, wanted = (
        [{**row, "seconds": ""} for row in RunFolder(folder).read_log()]
        for folder in (halves, whole)
    )
    assert rows == wanted
    one, other = (load(RunFolder(folder).last).state_dict() for folder in (halves, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.slow
def test_ctrl_c_ends_quickstart_in_one_line_and_saves_both_runs(tmp_path: Path):
    out = str(tmp_path / "out")
    code = (
        "import sys; from dataclasses import replace; import motionaware.apps.quickstart as q\n"
        "few = dict(num_train_clips=240, num_val_clips=12, num_test_clips=12)\n"
        "recipe = replace(q.RECIPE, data=replace(q.RECIPE.data, **few))\n"
        "q.quickstart.__kwdefaults__['recipe'] = recipe\n"
        f"from motionaware.cli import main; sys.exit(main(['quickstart', '--out', {out!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
        start_new_session=True,
    )
    runs = [tmp_path / "out" / name for name in ("none", "m2a")]
    deadline = time.monotonic() + 120
    while not all((run / "recipe.yaml").exists() for run in runs):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "motionaware: stopped; both runs are saved. Repeat the command to continue"
    ]
    assert all((run / "resume.pt").exists() for run in runs)


# ----------------------------------------------------------------------------- evaluate, predict


def test_evaluate_uses_the_data_set_of_training_by_default(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", str(checkpoint)]) == 0
    first, *classes = capsys.readouterr().out.splitlines()
    assert first.startswith("test: 12 videos  top-1 ")
    assert "top-5" in first
    assert [line.split("%")[-1].strip() for line in classes] == list(CLASS_NAMES)
    assert main(["evaluate", str(checkpoint), "--json", "--split", "val"]) == 0
    assert json.loads(capsys.readouterr().out)["num_videos"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "."], "was trained on motionpairs, which is synthesized, not read; give the"),
        (["--root", ".", "--kind", "folder"], "test does not exist; wanted ./SPLIT/CLASS/VIDEO"),
        (["--root", "none", "--kind", "csv"], "data.root none is not a folder"),
        (["--views", "0"], "eval.num_views is 0, wanted a number in [1, inf)"),
        (["--crops", "0"], "eval.num_crops is 0, wanted 1 or 3"),
    ],
)
def test_errors_of_evaluate_are_one_line(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, ["evaluate", checkpoint, *arguments])


def test_the_error_of_a_data_set_with_another_number_of_classes_is_one_line(
    checkpoint: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("meeting", "parting"):
        shutil.copytree(video_folder / "test" / name, tmp_path / "test" / name)
    arguments = ["evaluate", checkpoint, "--root", tmp_path, "--kind", "folder"]
    assert "the model has 12 classes, the data have 2" in error_line(capsys, arguments)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_the_error_of_an_unreadable_checkpoint_is_one_line(
    command: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from safetensors.torch import save_file

    none, cut, foreign = (tmp_path / f"{n}.safetensors" for n in ("none", "cut", "foreign"))
    cut.write_bytes(checkpoint.read_bytes()[:-1000])
    save_file({"x": torch.zeros(1)}, foreign)
    more = ["video.mp4"] if command == "predict" else []
    assert "none.safetensors does not exist" in error_line(capsys, [command, none, *more])
    assert "incomplete metadata" in error_line(capsys, [command, cut, *more])
    assert "it was not written by motionaware" in error_line(capsys, [command, foreign, *more])


def test_predict_prints_a_table_or_one_json_object_per_video(
    checkpoint: Path, video_folder: Path, capsys: pytest.CaptureFixture[str]
):
    videos = [str(path) for path in sorted(video_folder.glob("test/*/*.mp4"))[:2]]
    assert main(["predict", str(checkpoint), *videos, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::3] == videos
    assert all("%  " in line for line in (*lines[1::3], *lines[2::3]))
    assert main(["predict", str(checkpoint), *videos, "--json", "--clips", "2"]) == 0
    predictions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [prediction["video"] for prediction in predictions] == videos
    assert [len(prediction["parts"]) for prediction in predictions] == [2, 2]
    assert predictions[0]["parts"][0]["start_seconds"] == 0.0


def test_predict_continues_after_a_broken_video(
    checkpoint: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    good = [str(path) for path in sorted(video_folder.glob("test/*/*.mp4"))[:2]]
    (tmp_path / "bad.mp4").write_text("no video")
    arguments = ["predict", str(checkpoint), good[0], str(tmp_path / "bad.mp4"), good[1], "--json"]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert [json.loads(line)["video"] for line in shown.out.splitlines()] == good
    broken, count = shown.err.splitlines()
    assert broken.startswith("motionaware: ")
    assert "bad.mp4" in broken
    assert count == "motionaware: 1 of 3 videos have no prediction"


# -------------------------------------------------------------------------------------- visualize


def test_visualize_draws_and_prints_the_selected_class_sites_and_layer(
    checkpoint: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    video = str(next((video_folder / "test").glob("*/*.mp4")))
    out = tmp_path / "sheet.png"
    arguments = ["visualize", str(checkpoint), video, "--out", str(out), "--class", "moving up"]
    assert main([*arguments, "--sites", "layer1.0.conv1", "layer2.0.conv1"]) == 0
    *_, cam, sites, picture = capsys.readouterr().out.splitlines()
    assert cam == "Grad-CAM of moving up at layer3"
    assert sites == "sites: layer1.0.conv1, layer2.0.conv1"
    assert picture == f"picture: {out}"
    assert out.stat().st_size > 10_000
    assert main([*arguments, "--sites", "first", "--layer", "layer2", "--clip", "1", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["sites"], drawn["cam_layer"]) == (["layer1.0.conv1"], "layer2")


def test_visualize_saturation_prints_a_table_or_json_and_draws_with_out(
    checkpoint: Path, video_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["visualize", str(checkpoint), "--saturation"]
    assert main(arguments) == 0
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head == "12 clips of val"
    assert columns.startswith("site            diagonal  last row  others  saturated  entropy")
    assert len(rows) == 8
    out = tmp_path / "maps.png"
    arguments += ["--root", str(video_folder), "--kind", "folder", "--split", "test"]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["num_clips"], len(found["sites"])) == ("test", 12, 8)
    assert out.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to visualize: give a VIDEO, or --saturation to measure"),
        (["--class", "1"], "nothing to visualize: give a VIDEO, or --saturation"),
        (["a.mp4", "--saturation"], "a.mp4 does not fit: give either a VIDEO"),
        (["--saturation", "--class", "1", "--clip", "2"], "--class, --clip does not fit"),
        (["a.mp4", "--split", "val"], "--split does not fit"),
        (["a.mp4", "--out", "a.pdf"], "a.pdf ends with '.pdf'; choose .png, .gif, .mp4"),
        (["--saturation", "--out", "a.gif"], "a.gif ends with '.gif'; the attention is drawn as"),
        (["none.mp4"], "none.mp4 does not exist"),
        (["a.mp4", "--class", "turning"], "class 'turning' is unknown; did you mean 'turning cl"),
        (["a.mp4", "--sites", "layer9"], "site 'layer9' is unknown; known: layer1.0.conv1, "),
    ],
)
def test_errors_of_visualize_are_one_line(
    options: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    assert message in error_line(capsys, ["visualize", checkpoint, *options])


# ------------------------------------------------------------------------------- prepare, doctor


def test_profile_prints_the_cost_or_the_sites_of_a_model(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["profile", str(checkpoint)]) == 0
    assert "multiply-adds" in capsys.readouterr().out
    assert main(["profile", "resnet18_quarter", "--temporal", "tsm", "--size", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plain"]["num_parameters"] > 0
    assert main(["profile", str(checkpoint), "--sites"]) == 0
    assert "layer4.1.conv1" in capsys.readouterr().out


def test_the_error_of_an_unknown_backbone_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert "did you mean 'resnet18'" in error_line(capsys, ["profile", "resnet81"])


def test_doctor_finds_a_broken_video_among_those_that_prepare_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sizes = ["--train", "12", "--val", "12", "--test", "12", "--frames", "8", "--size", "32"]
    assert main(["prepare", "motionpairs", "--out", str(tmp_path), *sizes]) == 0
    assert capsys.readouterr().out.startswith(f"36 videos written to {tmp_path}")
    assert main(["doctor", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no problems found"
    assert "  train        8 frames, 32 x 32 pixels (height x width)" in lines
    broken = next(tmp_path.glob("train/*/*.mp4"))
    broken.write_bytes(b"")
    assert main(["doctor", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 problem found"
    assert lines[-2].startswith(f"! {broken} is an empty file")


def test_the_error_of_a_wrong_number_of_clips_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["prepare", "motionpairs", "--out", tmp_path / "out", "--val", "0"]
    assert error_line(capsys, arguments).startswith("num_clips = 0 is too few")


def test_the_error_of_quickstart_without_matplotlib_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = error_line(capsys, ["quickstart", "--out", tmp_path / "out"])
    assert message == "pictures need matplotlib; run: pip install 'motionaware[plots]'"


# ------------------------------------------------------------------------------------ own modules

MIX = """
from torch import nn

class Mix(nn.Module):
    def __init__(self, *, channels, kernel=3):
        super().__init__()
        self.mix = nn.Conv3d(channels, channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    def forward(self, clips):
        return clips + self.mix(clips.transpose(1, 2)).transpose(1, 2)
"""


@pytest.fixture
def recipe_with_users_module(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose temporal module is a file beside it; the working folder is another one."""
    text = recipe_file.read_text().replace("temporal: m2a", "temporal: mix.py:Mix(kernel=1),tsm")
    recipe_file.write_text(text)
    recipe_file.with_name("mix.py").write_text(MIX)
    work = recipe_file.parent / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return recipe_file


def test_a_users_module_trains_resumes_and_evaluates_from_another_folder(
    recipe_with_users_module: Path, capsys, monkeypatch
):
    assert main(["train", str(recipe_with_users_module), "--run", "run"]) == 0
    message = capsys.readouterr().out
    assert "temporal mix.py:Mix(kernel=1),tsm at 8 sites" in message
    assert (
        message.splitlines()[-1] == "next: motionaware evaluate run/best.safetensors --allow-code"
    )
    run = Path("run").resolve()
    monkeypatch.chdir("/")
    assert main(["train", "--resume", str(run)]) == 0
    best = run / "best.safetensors"
    capsys.readouterr()
    assert "--allow-code" in error_line(capsys, ["evaluate", best])
    assert main(["evaluate", str(best), "--allow-code"]) == 0
    assert main(["profile", str(best), "--allow-code", "--sites"]) == 0


def test_a_grid_compares_users_modules(recipe_with_users_module: Path, capsys):
    grid = recipe_with_users_module.with_name("grid.yaml")
    grid.write_text(
        f"recipe: {recipe_with_users_module.name}\nbackbones: [resnet18_quarter]\nseeds: [0]\n"
        'temporal: [none, "mix.py:Mix", "mix.py:Mix(kernel=1)"]\n'
        'overrides: {train.epochs: 1}\npairs: [["mix.py:Mix", "mix.py:Mix(kernel=1)"]]\n'
    )
    assert main(["compare", str(grid), "--out", "report", "--examples", "1"]) == 0
    text = Path("report/report.md").read_text()
    assert "mix.py:Mix(kernel=1)" in text
    assert str(recipe_with_users_module.parent) not in text
    runs = sorted(map(str, Path("report/runs").glob("*/*/seed0")))
    capsys.readouterr()
    assert "--allow-code" in error_line(capsys, ["compare", *runs, "--out", "again"])
    assert main(["compare", *runs, "--out", "again", "--allow-code", "--examples", "0"]) == 0


@pytest.mark.parametrize("where", ["__init__", "forward"])
def test_an_error_in_a_users_module_is_one_line_with_file_and_line(
    recipe_with_users_module: Path, capsys, where
):
    line = {"__init__": "        super().__init__()", "forward": "    def forward(self, clips):"}
    broken = MIX.replace(line[where], f"{line[where]}\n        undefined_name")
    recipe_with_users_module.with_name("mix.py").write_text(broken)
    number = broken.splitlines().index("        undefined_name") + 1
    message = error_line(capsys, ["train", recipe_with_users_module])
    place = f"{recipe_with_users_module.with_name('mix.py')}, line {number}"
    assert message == f"{place}: NameError: name 'undefined_name' is not defined"


# -------------------------------------------------------------------------------- curves and notes


def test_the_curves_of_a_resumed_run_show_all_epochs(
    recipe_file: Path, tmp_path: Path, monkeypatch, capsys
):
    pytest.importorskip("matplotlib")
    from motionaware.report import run_curves as curves

    drawn = []
    monkeypatch.setattr(
        curves, "draw_run", lambda rows, path, title: drawn.append([one["epoch"] for one in rows])
    )
    whole = RunFolder.write_log

    def stop_after_first(self, rows):
        whole(self, rows)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunFolder, "write_log", stop_after_first)
    assert main(["train", str(recipe_file), "--run", str(tmp_path / "run")]) == 130
    assert drawn[-1] == ["1"]
    monkeypatch.setattr(RunFolder, "write_log", whole)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert drawn[-1] == ["1", "2"]
    assert f"curves: {tmp_path / 'run' / 'curves.png'}" in capsys.readouterr().out


def test_without_matplotlib_a_run_trains_and_prints_why_there_are_no_curves(
    recipe_file: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", str(recipe_file), "--run", str(tmp_path / "run")]) == 0
    notes = [one for one in capsys.readouterr().out.splitlines() if one.startswith("note: ")]
    (note,) = notes
    assert note.startswith("note: curves.png is not drawn: pictures need matplotlib; run: pip")
    assert not (tmp_path / "run" / "curves.png").exists()


def test_warnings_of_libraries_are_hidden_and_ours_are_one_line(monkeypatch, capsys):
    def warn(*args: object, **kwargs: object) -> DoctorReport:
        warnings.warn("of a library", UserWarning, stacklevel=1)
        warnings.warn("the file has changed", MotionAwareWarning, stacklevel=1)
        return DoctorReport()

    monkeypatch.setattr("motionaware.apps.doctor.doctor", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["doctor"]) == 0
        assert capsys.readouterr().err == "motionaware: note: the file has changed\n"
        shown = []
        warnings.showwarning = lambda message, *place: shown.append(str(message))
        assert main(["--traceback", "doctor"]) == 0
        assert shown == ["of a library"]

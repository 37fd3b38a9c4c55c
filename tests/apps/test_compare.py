import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from motionaware.apps import compare as compare_module
from motionaware.apps.compare import Comparison, compare, compare_runs
from motionaware.cli import main
from motionaware.engine.config import Recipe
from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train
from motionaware.errors import RecipeError, TrainingInterrupted
from motionaware.files import lock_folder
from motionaware.models.checkpoint import load, save
from motionaware.report import costs
from motionaware.report import train_runs as runs
from motionaware.report.train_runs import Run, plan_runs, safe_name, train_missing

RECIPE = """
clip: {num_frames: 4, image_size: 24}
data:
  {kind: motionpairs, num_train_clips: 24, num_val_clips: 12, num_test_clips: 36, num_workers: 0}
train: {epochs: 1, batch_size: 12, num_threads: 1, device: cpu}
"""
GRID = """
recipe: recipe.yaml
title: A <small> grid
backbones: [resnet18_quarter]
temporal: [none, m2a]
seeds: [0, 1]
"""


def write_grid(folder: Path, text: str = GRID) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "grid.yaml").write_text(text)
    return folder / "grid.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[str]]:
    """The grid, what comparing it found, and what it said meanwhile."""
    grid = write_grid(tmp_path_factory.mktemp("compare"))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "NUM_REPEATS", 2)
        found = compare(grid, grid.parent / "out", jobs=2, num_examples=1, log=said.append)
    return grid, found, said


@pytest.fixture
def again(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the grid and of all it made."""
    monkeypatch.setattr(costs, "NUM_REPEATS", 1)
    shutil.copytree(made[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "grid.yaml"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# -------------------------------------------------------------------------------------- the report


def test_every_run_is_trained_and_said(made):
    grid, found, [first, *said] = made
    assert first == "4 of 4 runs to train, 2 at a time"
    assert len(said) == 4
    assert all(re.match(r"\[\d/4\] resnet18_quarter, .*: validation top-1 \d", one) for one in said)
    for temporal in ("none", "m2a"):
        for seed in (0, 1):
            folder = grid.parent / "out" / "runs" / "resnet18_quarter" / temporal / f"seed{seed}"
            assert len(RunFolder(folder).read_log()) == 1
            facts = json.loads((folder / "provenance.json").read_text())
            assert {"date", "commit", "machine", "versions"} == facts.keys()
    assert found.num_failed == 0


def test_the_results_follow_from_the_predictions(made):
    _, found, _ = made
    right = {}
    for row in rows_of(found.report / "runs.csv"):
        with np.load(found.report / row["folder"] / "predictions-test.npz") as kept:
            assert kept["probabilities"].shape == (36, 12)
            assert kept["names"][0] == "motionpairs/test/000000"
            hits = kept["probabilities"].argmax(axis=1) == kept["labels"]
        right[row["temporal"], row["seed"]] = hits
        assert float(row["top1"]) == pytest.approx(hits.mean())
    plain, m2a = rows_of(found.report / "results.csv")
    assert (plain["temporal"], m2a["temporal"]) == ("none", "m2a")
    for row in (plain, m2a):
        tops = [right[row["temporal"], seed].mean() for seed in "01"]
        assert float(row["top1_mean"]) == pytest.approx(np.mean(tops))
        assert float(row["top1_sd"]) == pytest.approx(np.std(tops, ddof=1))
        assert row["num_videos"] == "36"
        assert int(row["num_parameters"]) > 6e5
        assert float(row["latency_seconds"]) > 0
    assert float(m2a["gmac"]) > float(plain["gmac"]) > 0
    gain = float(m2a["top1_mean"]) - float(plain["top1_mean"])
    assert float(m2a["gain"]) == pytest.approx(gain)
    assert float(m2a["gain_low"]) <= gain <= float(m2a["gain_high"])
    assert plain["gain"] == ""


def test_per_class_numbers_are_those_of_the_predictions(made):
    _, found, _ = made
    plain, m2a = found.findings.columns
    (gain,) = found.findings.gains
    rows = rows_of(found.report / "classes.csv")
    assert [row["num_videos"] for row in rows] == ["3"] * 12
    for place, row in enumerate(rows):
        shares = {}
        for column in (plain, m2a):
            hits = [one.right[one.labels == place] for one in column.runs]
            shares[column.name] = np.concatenate(hits).mean()
            assert float(row[column.name]) == pytest.approx(shares[column.name], abs=1e-6)
        assert gain.per_class()[place] == pytest.approx(shares[m2a.name] - shares[plain.name])


def test_the_page_needs_nothing_else(made):
    _, found, _ = made
    page = (found.report / "report.html").read_text()
    sources = re.findall(r"(?:src|href)=\"([^\"]{0,40})", page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "<h1>A &lt;small&gt; grid</h1>" in page
    chosen = re.search(r'id="classes">(.*?)</script>', page)
    assert chosen is not None
    data = json.loads(chosen[1])
    assert [one["name"] for one in data["columns"]] == [
        "resnet18_quarter none",
        "resnet18_quarter m2a",
    ]
    for one in data["columns"]:
        assert one["seeds"] == [0, 1]
        assert [len(shares) for shares in one["shares"]] == [12, 12]


def test_the_report_links_pictures_that_are_there(made):
    _, found, _ = made
    text = (found.report / "report.md").read_text()
    pictures = re.findall(r"\]\((figures/[^)]+\.png)\)", text)
    assert {"figures/cost.png", "figures/curves-resnet18_quarter.png"} <= set(pictures)
    assert "figures/confusion-resnet18_quarter.png" in pictures
    assert "figures/classes-resnet18_quarter-m2a-over-none.png" in pictures
    assert all((found.report / picture).is_file() for picture in pictures)
    for heading in ("Accuracy and cost", "Gains", "Class by class", "Where this comes from"):
        assert f"## {heading}" in text
    assert str(found.report) not in text


def test_the_report_holds_the_recipe_and_no_path_of_a_home(made):
    grid, found, _ = made
    for name in ("report.md", "report.html", "tables.tex"):
        text = (found.report / name).read_text()
        assert str(grid.parent) not in text
        assert "Recipe: recipe.yaml, varied by grid.yaml." in text
    text = (found.report / "report.md").read_text()
    assert "<summary>The recipe of resnet18_quarter, none, seed 0</summary>" in text
    assert "\n  num_train_clips: 24\n" in text
    assert "\n  root: cache\n" in text


def test_the_tables_are_latex(made):
    _, found, _ = made
    text = (found.report / "tables.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"resnet18\_quarter & m2a & 2 &" in text
    assert text.startswith("% Recipe: recipe.yaml, varied by grid.yaml. Seeds 0, 1. Report of ")
    assert "±" not in text


# ------------------------------------------------------------------------------------------- again


def test_what_is_finished_is_neither_trained_nor_judged_again(again: Path, monkeypatch):
    def must_not(*_, **__):
        raise AssertionError("done before")

    monkeypatch.setattr(runs, "_start", must_not)
    monkeypatch.setattr("motionaware.report.predictions.predict_split", must_not)
    monkeypatch.setattr("motionaware.report.costs.measure", must_not)
    said: list[str] = []
    before = (again.parent / "out" / "results.csv").read_text()
    compare(again, again.parent / "out", num_examples=0, log=said.append)
    assert said == []
    assert (again.parent / "out" / "results.csv").read_text() == before


def test_another_checkpoint_is_judged_again(again: Path):
    column = again.parent / "out" / "runs" / "resnet18_quarter" / "m2a"
    shutil.copy(column / "seed1" / "last.safetensors", column / "seed0" / "last.safetensors")
    compare(again, again.parent / "out", num_examples=0)
    one, other = (np.load(column / name / "predictions-test.npz") for name in ("seed0", "seed1"))
    assert (one["probabilities"] == other["probabilities"]).all()


def test_damaged_predictions_are_made_again(again: Path):
    path = again.parent / "out/runs/resnet18_quarter/m2a/seed0/predictions-test.npz"
    with np.load(path) as kept:
        before = kept["probabilities"]
    path.write_bytes(path.read_bytes()[:-100])
    compare(again, again.parent / "out", num_examples=0)
    with np.load(path) as kept:
        assert (kept["probabilities"] == before).all()


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}', None])
def test_damaged_costs_and_those_of_other_classes_are_measured_again(again: Path, content):
    path = again.parent / "out" / "costs.json"
    kept = json.loads(path.read_text())
    if content is None:
        content = json.dumps(kept | {"key": kept["key"] | {"num_classes": 5}})
    path.write_text(content)
    compare(again, again.parent / "out", num_examples=0)
    found = json.loads(path.read_text())
    assert found["key"] == kept["key"]
    assert found["facts"]["repeats"] == "1"  # `made` has 2


def test_two_compares_do_not_work_in_one_folder(again: Path, made, monkeypatch):
    monkeypatch.setattr(runs, "_start", None)
    out = again.parent / "out"
    words = f"another compare is at work in {out}; wait until it has ended, or take another --out"
    with lock_folder(out, busy_message=""), pytest.raises(BlockingIOError, match=re.escape(words)):
        compare(again, out, num_examples=0)
    folder = out / "runs/resnet18_quarter/none/seed0"
    with lock_folder(out, busy_message=""), pytest.raises(BlockingIOError, match=re.escape(words)):
        compare_runs([folder], out, num_examples=0)
    compare(again, out, num_examples=0)


def test_a_run_that_a_killed_compare_left_at_work_is_not_trained_twice(again: Path, monkeypatch):
    monkeypatch.setattr(runs, "_start", None)
    folder = again.parent / "out/runs/resnet18_quarter/none/seed0"
    (folder / "last.safetensors").unlink()  # not finished
    words = "seed0 is being trained by another process; wait until it has ended, or end it"
    with RunFolder(folder).alone(), pytest.raises(BlockingIOError, match=words):
        compare(again, again.parent / "out", num_examples=0)


def test_a_half_trained_run_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(costs, "NUM_REPEATS", 1)
    grid = write_grid(
        tmp_path,
        GRID.replace("[none, m2a]", "[none]").replace("[0, 1]", "[0]")
        + "overrides: {train.epochs: 2}\n",
    )
    out = tmp_path / "out"
    recipe = runs.plan_runs(compare_module.grid_recipes(compare_module.read_grid(grid), grid), out)
    (run,) = recipe

    def stop_after_an_epoch(line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run.recipe, run.folder.path, log=stop_after_an_epoch)
    compare(grid, out, num_examples=0)
    whole = tmp_path / "whole"
    train(run.recipe, whole)
    for row, wanted in zip(run.folder.read_log(), RunFolder(whole).read_log(), strict=True):
        assert row | {"seconds": ""} == wanted | {"seconds": ""}


# ------------------------------------------------------------------------- finished runs, by folder


def test_finished_runs_get_the_same_report(again: Path, made):
    folders = sorted((again.parent / "out" / "runs").glob("*/*/seed*"))
    folders = [folder for folder in folders if folder.is_dir()]
    found = compare_runs(folders, again.parent / "other", num_examples=0)
    assert [column.temporal for column in found.findings.columns] == ["none", "m2a"]
    (gain,), (wanted,) = found.findings.gains, made[1].findings.gains
    assert (gain.difference, gain.interval) == (wanted.difference, wanted.interval)
    assert (again.parent / "other" / "report.html").is_file()
    for name in ("report.html", "report.md", "runs.csv"):  # shown to others, it tells of no home
        assert str(again.parent) not in (again.parent / "other" / name).read_text()


def test_the_head_of_a_report_says_what_was_skipped(again: Path):
    folders = sorted(path.parent for path in (again.parent / "out/runs").glob("*/*/seed0/log.csv"))
    compare_runs(folders, again.parent / "whole", num_examples=0)
    text, _, _ = (again.parent / "whole" / "report.md").read_text().partition("The recipe of")
    assert "kipped" not in text
    num = 0
    for folder in folders:
        path = folder / "predictions-test.npz"
        with np.load(path) as kept:
            content = dict(kept) | {"num_skipped": np.array(2)}
        np.savez_compressed(path, allow_pickle=False, **content)
        num = len(content["labels"])
    (folders[0] / "skipped.csv").write_text("split,video,why\ntrain,a.mp4,does not exist\n")
    compare_runs(folders, again.parent / "other", num_examples=0)
    for name in ("report.md", "report.html"):
        text = (again.parent / "other" / name).read_text()
        assert f"judged on {num} of {num + 2} videos of the test split, 2 skipped, 12 cl" in text
        assert "up to 1 videos a run, in 1 of 2 runs; each lists its own in skipped.csv" in text


def rewrite(folder: Path, before: str, after: str) -> None:
    path = folder / "recipe.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_runs_of_different_data_are_refused(again: Path):
    one, other = (again.parent / "out/runs/resnet18_quarter" / name for name in ("none", "m2a"))
    rewrite(other / "seed0", "num_train_clips: 24", "num_train_clips: 48")
    words = "are of different data: data.num_train_clips is 24 in the one, 48 in the other"
    with pytest.raises(ValueError, match=words):
        compare_runs([one / "seed0", other / "seed0"], again.parent / "other")


def test_runs_of_one_column_may_differ_by_the_seed_alone(again: Path):
    column = again.parent / "out/runs/resnet18_quarter/none"
    rewrite(column / "seed0", "learning_rate: 0.02", "learning_rate: 0.04")
    words = r"would be one column, but optim.learning_rate is 0.04 in the one, 0.02 in the other"
    with pytest.raises(ValueError, match=words):
        compare_runs([column / "seed0", column / "seed1"], again.parent / "other")


def test_a_run_given_twice_is_refused(again: Path):
    folder = again.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(ValueError, match="are both resnet18_quarter, none, seed 0; give one"):
        compare_runs([folder, folder], again.parent / "other")


def test_an_unfinished_run_says_how_to_finish_it(again: Path):
    folder = again.parent / "out/runs/resnet18_quarter/none/seed0"
    rewrite(folder, "epochs: 1", "epochs: 3")
    with pytest.raises(ValueError, match=r"has 1 of 3 epochs; finish it by motionaware train"):
        compare_runs([folder], again.parent / "other")


def test_a_pair_that_no_backbone_has_is_refused(again: Path):
    folder = again.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(ValueError, match="pair m2a tsm: no backbone has runs of both; .* of none"):
        compare_runs([folder], again.parent / "other", pairs=[("m2a", "tsm")])


def test_a_baseline_of_which_there_is_no_run_is_refused(again: Path):
    folder = again.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(ValueError, match="baseline 'nine': .* there are runs of none"):
        compare_runs([folder], again.parent / "other", baseline="nine")


# ------------------------------------------------------------------------------ before it trains


def refused(folder: Path, text: str) -> str:
    """What is said of a grid that cannot be; nothing may have been trained."""
    grid = write_grid(folder, text)
    with pytest.raises((RecipeError, ValueError)) as caught:
        compare(grid, folder / "out")
    assert not list((folder / "out").glob("runs/*/*/seed0"))
    return str(caught.value)


def test_a_misspelt_module_fails_before_anything_trains(tmp_path: Path):
    words = refused(tmp_path, GRID.replace("m2a]", "m2b]"))
    assert words.startswith(f"{tmp_path / 'grid.yaml'}: temporal 'm2b' is unknown; did you mean")


def test_a_misspelt_backbone_fails_before_anything_trains(tmp_path: Path):
    words = refused(tmp_path, GRID.replace("resnet18_quarter", "resnet18_quartre"))
    assert "resnet18_quartre" in words


def test_absent_data_fail_before_anything_trains(tmp_path: Path):
    words = refused(tmp_path, GRID + f"overrides: {{data.kind: folder, data.root: {tmp_path}}}\n")
    assert words.startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert str(tmp_path) in words.partition(": ")[2]


def test_a_root_that_is_not_there_is_said_with_the_name_of_the_grid(tmp_path: Path):
    absent = tmp_path / "absent"
    words = refused(tmp_path, GRID + f"overrides: {{data.kind: folder, data.root: {absent}}}\n")
    assert words.startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert str(absent) in words


def test_a_folder_without_a_run_cannot_be_compared(tmp_path: Path):
    words = "nothing holds no run to compare: it has no recipe.yaml; give folders of finished runs"
    with pytest.raises(FileNotFoundError, match=words):
        compare_runs([tmp_path / "nothing"], tmp_path / "out")


def test_a_run_of_another_recipe_is_refused(again: Path):
    again.write_text(GRID + "overrides: {optim.learning_rate: 0.5}\n")
    words = (
        r"seed0 was begun with another recipe: optim.learning_rate is 0.02 there, 0.5 in the grid; "
        r"take another --out, or take that folder away"
    )
    with pytest.raises(ValueError, match=words):
        compare(again, again.parent / "out")


def test_where_a_run_computes_does_not_make_it_another(again: Path, monkeypatch):
    again.write_text(GRID + "overrides: {data.num_workers: 1, train.num_threads: 2}\n")
    monkeypatch.setattr(runs, "_start", None)
    assert compare(again, again.parent / "out", num_examples=0).num_failed == 0


def test_names_that_make_one_folder_are_refused(tmp_path: Path):
    assert safe_name("a/b:c") == "a_b_c"
    words = refused(tmp_path, GRID.replace("m2a]", "'m2a,  tsm', 'm2a, tsm']"))
    assert "two names of the grid make the same folder name" in words


# ---------------------------------------------------------------------------- failures, and Ctrl-C


def child(code: str):
    """In place of a training process."""

    def start(run: Run, *, slot: int, jobs: int) -> "subprocess.Popen[bytes]":
        run.folder.path.parent.mkdir(parents=True, exist_ok=True)
        with run.beside(".log").open("ab") as log:
            words = [sys.executable, "-c", code, str(run.folder.path)]
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    return start


def test_a_cell_that_fails_is_reported_and_the_others_go_on(
    again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    again.write_text(GRID.replace("[none, m2a]", "[none, m2a, tsm]"))
    code = "print('motionaware: the loss is nan'); raise SystemExit(1)"
    monkeypatch.setattr(runs, "_start", child(code))
    out = again.parent / "out"
    assert main(["compare", str(again), "--out", str(out), "--examples", "0"]) == 1
    said = capsys.readouterr()
    assert "tsm, seed 0: failed: the loss is nan (exit code 1" in said.out
    assert re.search(r"resnet18_quarter tsm +top-1 failed", said.out)
    assert "runs that failed: 2; the report says why" in said.err
    text = (out / "report.md").read_text()
    assert "failed: resnet18_quarter, tsm, seed 1: the loss is nan" in text
    assert "| resnet18_quarter | tsm | 0 of 2 | failed |" in text
    assert "| resnet18_quarter | m2a | 2 |" in text


def test_a_grid_of_which_nothing_finished_has_a_report(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(runs, "_start", child("raise SystemExit(3)"))
    found = compare(write_grid(tmp_path), tmp_path / "out", jobs=4)
    assert found.num_failed == 4
    text = (tmp_path / "out" / "report.md").read_text()
    assert "No run finished." in text
    assert "Seeds" not in text
    assert "seed 1: it said nothing (exit code 3" in text
    assert [row["num_failed"] for row in rows_of(tmp_path / "out" / "results.csv")] == ["2", "2"]


def test_ctrl_c_ends_all_children_and_says_how_to_go_on(tmp_path: Path, monkeypatch):
    code = (
        "import pathlib, signal, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def end(*_): folder.with_suffix('.ended').touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "folder.with_suffix('.began').touch()\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(runs, "_start", child(code))
    planned = [
        Run(
            backbone="b",
            temporal="none",
            seed=seed,
            recipe=Recipe(),
            folder=RunFolder(tmp_path / f"seed{seed}"),
        )
        for seed in range(3)
    ]

    def press_when_both_have_begun() -> None:
        while len(list(tmp_path.glob("*.began"))) < 2:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_when_both_have_begun).start()
    with pytest.raises(TrainingInterrupted, match="0 of 3 runs are done, .* with the same command"):
        train_missing(planned, jobs=2)
    assert sorted(path.name for path in tmp_path.glob("*.ended")) == ["seed0.ended", "seed1.ended"]


def test_a_grid_and_runs_do_not_go_together(again: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(again), str(again.parent)]) == 1
    assert "give one grid, or folders of finished runs, not both" in capsys.readouterr().err
    assert main(["compare", str(again), "--split", "val"]) == 1
    assert "--split is written in the grid" in capsys.readouterr().err
    assert main(["compare", str(again.parent), "--jobs", "2"]) == 1
    assert "--jobs is for a grid" in capsys.readouterr().err
    assert main(["compare", str(again), "--jobs", "0"]) == 1
    assert "jobs = 0" in capsys.readouterr().err


def test_without_matplotlib_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'motionaware\[plots\]'"):
        compare(write_grid(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------ NaN, and early stopping


def test_a_run_whose_scores_are_nan_is_reported_and_the_others_are_evaluated(again: Path):
    folder = again.parent / "out" / "runs" / "resnet18_quarter" / "m2a" / "seed1"
    files = RunFolder(folder)
    model = load(files.last)
    torch.nn.init.constant_(model.head.bias, float("nan"))
    save(model, files.last)
    found = compare(again, again.parent / "out", num_examples=0)
    assert found.num_failed == 1
    plain, m2a = found.findings.columns
    assert (len(plain.runs), len(m2a.runs)) == (2, 1)
    (words,) = m2a.failures
    assert "seed 1: the model's scores of motionpairs/test/000000, motionpairs/test/000001" in words


def test_a_run_that_stopped_early_counts_as_finished(tmp_path: Path):
    grid = write_grid(tmp_path)
    text = RECIPE.replace("epochs: 1,", "epochs: 9, early_stopping_epochs: 1,")
    (tmp_path / "recipe.yaml").write_text(text)
    recipes = grid_recipes(read_grid(grid), grid)
    run = plan_runs(recipes, tmp_path / "out")[0]
    run.folder.begin(run.recipe)
    run.folder.last.touch()
    run.folder.write_log([{"epoch": 1, "val_top1": 0.5}])
    assert not run.is_finished()
    run.folder.write_log([{"epoch": 1, "val_top1": 0.5}, {"epoch": 2, "val_top1": 0.5}])
    assert run.is_finished()

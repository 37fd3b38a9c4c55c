import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from motionaware.apps.compare import Comparison, compare, compare_runs
from motionaware.cli import main
from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train
from motionaware.errors import DataError, MissingPackage, UsageError
from motionaware.files import lock_folder
from motionaware.models.checkpoint import load, save
from motionaware.report import cost_cache, train_runs
from motionaware.report.runs import Run, plan_runs

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
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[str]]:
    """The path of a grid, the result of its comparison, and the lines that were logged."""
    grid = write_grid(tmp_path_factory.mktemp("compare"))
    logged: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_cache, "NUM_REPEATS", 2)
        comparison = compare(grid, grid.parent / "out", jobs=2, num_examples=1, log=logged.append)
    return grid, comparison, logged


@pytest.fixture
def copied_grid(compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a copy of the grid, next to copies of its runs and report."""
    monkeypatch.setattr(cost_cache, "NUM_REPEATS", 1)
    shutil.copytree(compared[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "grid.yaml"


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# -------------------------------------------------------------------------------------- the report


def test_every_run_is_trained_and_logged(compared):
    grid, comparison, [first, *logged] = compared
    assert first == "4 of 4 runs to train, 2 in parallel"
    assert len(logged) == 4
    pattern = r"\[\d/4\] resnet18_quarter, .*: validation top-1 \d"
    assert all(re.match(pattern, line) for line in logged)
    for temporal in ("none", "m2a"):
        for seed in (0, 1):
            folder = grid.parent / "out" / "runs" / "resnet18_quarter" / temporal / f"seed{seed}"
            assert len(RunFolder(folder).read_log()) == 1
            provenance = json.loads((folder / "provenance.json").read_text())
            assert {"date", "commit", "machine", "versions"} == provenance.keys()
    assert comparison.num_failed == 0


def test_the_results_are_computed_from_the_stored_predictions(compared):
    _, comparison, _ = compared
    correct = {}
    for row in read_csv(comparison.report / "runs.csv"):
        with np.load(comparison.report / row["folder"] / "predictions-test.npz") as predictions:
            assert predictions["probabilities"].shape == (36, 12)
            assert predictions["names"][0] == "motionpairs/test/000000"
            hits = predictions["probabilities"].argmax(axis=1) == predictions["labels"]
        correct[row["temporal"], row["seed"]] = hits
        assert float(row["top1"]) == pytest.approx(hits.mean())
    baseline, m2a = read_csv(comparison.report / "results.csv")
    assert (baseline["temporal"], m2a["temporal"]) == ("none", "m2a")
    for row in (baseline, m2a):
        top1 = [correct[row["temporal"], seed].mean() for seed in "01"]
        assert float(row["top1_mean"]) == pytest.approx(np.mean(top1))
        assert float(row["top1_sd"]) == pytest.approx(np.std(top1, ddof=1))
        assert row["num_videos"] == "36"
        assert int(row["num_parameters"]) > 6e5
        assert float(row["latency_seconds"]) > 0
    assert float(m2a["gmac"]) > float(baseline["gmac"]) > 0
    gain = float(m2a["top1_mean"]) - float(baseline["top1_mean"])
    assert float(m2a["gain"]) == pytest.approx(gain)
    assert float(m2a["gain_low"]) <= gain <= float(m2a["gain_high"])
    assert baseline["gain"] == ""


def test_per_class_accuracies_are_computed_from_the_predictions(compared):
    _, comparison, _ = compared
    baseline, m2a = comparison.results.cells
    (gain,) = comparison.results.gains
    rows = read_csv(comparison.report / "classes.csv")
    assert [row["num_videos"] for row in rows] == ["3"] * 12
    for label, row in enumerate(rows):
        accuracies = {}
        for cell in (baseline, m2a):
            hits = [one.correct[one.labels == label] for one in cell.runs]
            accuracies[cell.name] = np.concatenate(hits).mean()
            assert float(row[cell.name]) == pytest.approx(accuracies[cell.name], abs=1e-6)
        difference = accuracies[m2a.name] - accuracies[baseline.name]
        assert gain.per_class()[label] == pytest.approx(difference)


def test_the_html_page_needs_no_other_file(compared):
    _, comparison, _ = compared
    page = (comparison.report / "report.html").read_text()
    sources = re.findall(r"(?:src|href)=\"([^\"]{0,40})", page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "<h1>A &lt;small&gt; grid</h1>" in page
    chart = re.search(r'id="class-data">(.*?)</script>', page)
    assert chart is not None
    data = json.loads(chart[1])
    assert [cell["name"] for cell in data["cells"]] == [
        "resnet18_quarter none",
        "resnet18_quarter m2a",
    ]
    for cell in data["cells"]:
        assert cell["seeds"] == [0, 1]
        assert [len(accuracies) for accuracies in cell["accuracies"]] == [12, 12]


def test_all_linked_figures_exist(compared):
    _, comparison, _ = compared
    text = (comparison.report / "report.md").read_text()
    links = re.findall(r"\]\((figures/[^)]+\.png)\)", text)
    assert {"figures/cost.png", "figures/curves-resnet18_quarter.png"} <= set(links)
    assert "figures/confusion-resnet18_quarter.png" in links
    assert "figures/classes-resnet18_quarter-m2a-over-none.png" in links
    assert all((comparison.report / link).is_file() for link in links)
    for heading in ("Accuracy and cost", "Gains", "Per-class differences", "Provenance"):
        assert f"## {heading}" in text
    assert str(comparison.report) not in text


def test_the_report_has_the_recipe_and_no_absolute_path(compared):
    grid, comparison, _ = compared
    for name in ("report.md", "report.html", "tables.tex"):
        text = (comparison.report / name).read_text()
        assert str(grid.parent) not in text
        assert "Recipe: recipe.yaml, varied by grid.yaml." in text
    text = (comparison.report / "report.md").read_text()
    assert "<summary>Recipe of resnet18_quarter, none, seed 0</summary>" in text
    assert "\n  num_train_clips: 24\n" in text
    assert "\n  root: cache\n" in text


def test_the_tables_are_written_as_latex(compared):
    _, comparison, _ = compared
    text = (comparison.report / "tables.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"resnet18\_quarter & m2a & 2 &" in text
    assert text.startswith("% Recipe: recipe.yaml, varied by grid.yaml. Seeds 0, 1. Report of ")
    assert "±" not in text


# ------------------------------------------------------------------------------ a second comparison


def test_finished_runs_are_neither_trained_nor_evaluated_again(copied_grid: Path, monkeypatch):
    def must_not(*_, **__):
        raise AssertionError("called a second time")

    monkeypatch.setattr(train_runs, "_start_training", must_not)
    monkeypatch.setattr("motionaware.report.predictions.predict_split", must_not)
    monkeypatch.setattr("motionaware.report.cost_cache.measure", must_not)
    logged: list[str] = []
    before = (copied_grid.parent / "out" / "results.csv").read_text()
    compare(copied_grid, copied_grid.parent / "out", num_examples=0, log=logged.append)
    assert logged == []
    assert (copied_grid.parent / "out" / "results.csv").read_text() == before


def test_a_changed_checkpoint_is_evaluated_again(copied_grid: Path):
    cell = copied_grid.parent / "out" / "runs" / "resnet18_quarter" / "m2a"
    shutil.copy(cell / "seed1" / "last.safetensors", cell / "seed0" / "last.safetensors")
    compare(copied_grid, copied_grid.parent / "out", num_examples=0)
    seed0, seed1 = (np.load(cell / name / "predictions-test.npz") for name in ("seed0", "seed1"))
    assert (seed0["probabilities"] == seed1["probabilities"]).all()


def test_damaged_predictions_are_computed_again(copied_grid: Path):
    path = copied_grid.parent / "out/runs/resnet18_quarter/m2a/seed0/predictions-test.npz"
    with np.load(path) as predictions:
        before = predictions["probabilities"]
    path.write_bytes(path.read_bytes()[:-100])
    compare(copied_grid, copied_grid.parent / "out", num_examples=0)
    with np.load(path) as predictions:
        assert (predictions["probabilities"] == before).all()


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}', None])
def test_costs_are_measured_again_if_damaged_or_for_another_number_of_classes(
    copied_grid: Path, content
):
    path = copied_grid.parent / "out" / "costs.json"
    stored = json.loads(path.read_text())
    if content is None:
        content = json.dumps(stored | {"key": stored["key"] | {"num_classes": 5}})
    path.write_text(content)
    compare(copied_grid, copied_grid.parent / "out", num_examples=0)
    measured = json.loads(path.read_text())
    assert measured["key"] == stored["key"]
    assert measured["facts"]["repeats"] == "1"  # the stored file has 2


def test_two_comparisons_do_not_run_in_one_folder(copied_grid: Path, monkeypatch):
    monkeypatch.setattr(train_runs, "_start_training", None)
    out = copied_grid.parent / "out"
    message = f"another comparison is running in {out}; wait until it ends, or choose another --out"
    with (
        lock_folder(out, busy_message=""),
        pytest.raises(BlockingIOError, match=re.escape(message)),
    ):
        compare(copied_grid, out, num_examples=0)
    folder = out / "runs/resnet18_quarter/none/seed0"
    with (
        lock_folder(out, busy_message=""),
        pytest.raises(BlockingIOError, match=re.escape(message)),
    ):
        compare_runs([folder], out, num_examples=0)
    compare(copied_grid, out, num_examples=0)


def test_a_run_that_outlives_a_killed_comparison_is_not_trained_twice(
    copied_grid: Path, monkeypatch
):
    monkeypatch.setattr(train_runs, "_start_training", None)
    folder = copied_grid.parent / "out/runs/resnet18_quarter/none/seed0"
    (folder / "last.safetensors").unlink()  # not finished
    message = "seed0 is being trained by another process; wait until it has ended, or end it"
    with RunFolder(folder).alone(), pytest.raises(BlockingIOError, match=message):
        compare(copied_grid, copied_grid.parent / "out", num_examples=0)


def test_an_interrupted_run_continues_to_the_same_numbers(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cost_cache, "NUM_REPEATS", 1)
    grid = write_grid(
        tmp_path,
        GRID.replace("[none, m2a]", "[none]").replace("[0, 1]", "[0]")
        + "overrides: {train.epochs: 2}\n",
    )
    out = tmp_path / "out"
    (run,) = plan_runs(grid_recipes(read_grid(grid), grid), out)

    def stop_after_an_epoch(line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run.recipe, run.folder.path, log=stop_after_an_epoch)
    compare(grid, out, num_examples=0)
    uninterrupted = tmp_path / "uninterrupted"
    train(run.recipe, uninterrupted)
    for row, wanted in zip(run.folder.read_log(), RunFolder(uninterrupted).read_log(), strict=True):
        assert row | {"seconds": ""} == wanted | {"seconds": ""}


# -------------------------------------------------------------------------- finished runs by folder


def test_finished_runs_get_the_same_report(copied_grid: Path, compared):
    folders = sorted((copied_grid.parent / "out" / "runs").glob("*/*/seed*"))
    folders = [folder for folder in folders if folder.is_dir()]
    comparison = compare_runs(folders, copied_grid.parent / "other", num_examples=0)
    assert [cell.temporal for cell in comparison.results.cells] == ["none", "m2a"]
    (gain,), (wanted,) = comparison.results.gains, compared[1].results.gains
    assert (gain.difference, gain.bootstrap) == (wanted.difference, wanted.bootstrap)
    assert (copied_grid.parent / "other" / "report.html").is_file()
    for name in ("report.html", "report.md", "runs.csv"):  # no absolute path in shared files
        assert str(copied_grid.parent) not in (copied_grid.parent / "other" / name).read_text()


def test_the_summary_counts_skipped_videos(copied_grid: Path):
    folders = sorted(
        path.parent for path in (copied_grid.parent / "out/runs").glob("*/*/seed0/log.csv")
    )
    compare_runs(folders, copied_grid.parent / "unskipped", num_examples=0)
    text, _, _ = (copied_grid.parent / "unskipped" / "report.md").read_text().partition("Recipe of")
    assert "kipped" not in text
    num = 0
    for folder in folders:
        path = folder / "predictions-test.npz"
        with np.load(path) as predictions:
            content = dict(predictions) | {"num_skipped": np.array(2)}
        np.savez_compressed(path, allow_pickle=False, **content)
        num = len(content["labels"])
    (folders[0] / "skipped.csv").write_text("split,video,why\ntrain,a.mp4,does not exist\n")
    compare_runs(folders, copied_grid.parent / "other", num_examples=0)
    for name in ("report.md", "report.html"):
        text = (copied_grid.parent / "other" / name).read_text()
        assert f"on {num} of {num + 2} videos of the test split (2 skipped), 12 classes" in text
        assert "up to 1 video per run, in 1 of 2 runs; skipped.csv of each run lists" in text


def rewrite(folder: Path, before: str, after: str) -> None:
    path = folder / "recipe.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_runs_of_different_data_are_refused(copied_grid: Path):
    none, m2a = (
        copied_grid.parent / "out/runs/resnet18_quarter" / name for name in ("none", "m2a")
    )
    rewrite(m2a / "seed0", "num_train_clips: 24", "num_train_clips: 48")
    message = "different data: data.num_train_clips is 24 in the first and 48 in the second"
    with pytest.raises(UsageError, match=message):
        compare_runs([none / "seed0", m2a / "seed0"], copied_grid.parent / "other")


def test_runs_of_one_cell_may_differ_only_in_the_seed(copied_grid: Path):
    cell = copied_grid.parent / "out/runs/resnet18_quarter/none"
    rewrite(cell / "seed0", "learning_rate: 0.02", "learning_rate: 0.04")
    message = "but optim.learning_rate is 0.04 in the first and 0.02 in the second"
    with pytest.raises(UsageError, match=message):
        compare_runs([cell / "seed0", cell / "seed1"], copied_grid.parent / "other")


def test_a_run_given_twice_is_refused(copied_grid: Path):
    folder = copied_grid.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(UsageError, match="are both resnet18_quarter, none, seed 0; give only one"):
        compare_runs([folder, folder], copied_grid.parent / "other")


def test_an_unfinished_run_is_refused_with_the_command_that_finishes_it(copied_grid: Path):
    folder = copied_grid.parent / "out/runs/resnet18_quarter/none/seed0"
    rewrite(folder, "epochs: 1", "epochs: 3")
    with pytest.raises(
        ValueError, match=r"has 1 of 3 epochs; finish it first: motionaware train --resume"
    ):
        compare_runs([folder], copied_grid.parent / "other")


def test_a_pair_without_runs_of_both_modules_is_refused(copied_grid: Path):
    folder = copied_grid.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(
        UsageError, match="pairs name 'm2a', which has no run; there are runs of none"
    ):
        compare_runs([folder], copied_grid.parent / "other", pairs=[("m2a", "tsm")])


def test_a_baseline_without_runs_is_refused(copied_grid: Path):
    folder = copied_grid.parent / "out/runs/resnet18_quarter/none/seed0"
    with pytest.raises(UsageError, match="baseline 'nine' has no run; there are runs of none"):
        compare_runs([folder], copied_grid.parent / "other", baseline="nine")


# -------------------------------------------------------------------------- checks before training


def error_of(folder: Path, text: str) -> str:
    """Return the message of the error about a wrong grid, and check that nothing was trained."""
    grid = write_grid(folder, text)
    with pytest.raises((UsageError, DataError)) as caught:
        compare(grid, folder / "out")
    assert not list((folder / "out").glob("runs/*/*/seed0"))
    return str(caught.value)


def test_an_unknown_module_fails_before_training(tmp_path: Path):
    message = error_of(tmp_path, GRID.replace("m2a]", "m2b]"))
    assert message.startswith(f"{tmp_path / 'grid.yaml'}: temporal 'm2b' is unknown; did you mean")


def test_an_unknown_backbone_fails_before_training(tmp_path: Path):
    message = error_of(tmp_path, GRID.replace("resnet18_quarter", "resnet18_quartre"))
    assert "resnet18_quartre" in message


def test_a_folder_without_data_fails_before_training(tmp_path: Path):
    message = error_of(
        tmp_path, GRID + f"overrides: {{data.kind: folder, data.root: {tmp_path}}}\n"
    )
    assert message.startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert str(tmp_path) in message.partition(": ")[2]


def test_the_error_about_a_missing_data_root_names_the_grid(tmp_path: Path):
    missing = tmp_path / "missing"
    message = error_of(tmp_path, GRID + f"overrides: {{data.kind: folder, data.root: {missing}}}\n")
    assert message.startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert str(missing) in message


def test_a_folder_without_a_run_cannot_be_compared(tmp_path: Path):
    message = "empty holds no run: it has no recipe.yaml; give folders of finished runs"
    with pytest.raises(FileNotFoundError, match=message):
        compare_runs([tmp_path / "empty"], tmp_path / "out")


def test_a_run_of_another_recipe_is_refused(copied_grid: Path):
    copied_grid.write_text(GRID + "overrides: {optim.learning_rate: 0.5}\n")
    message = (
        r"seed0 was started with another recipe: optim.learning_rate is 0.02 there and 0.5 in the "
        r"grid; choose another --out, or move that folder away"
    )
    with pytest.raises(UsageError, match=message):
        compare(copied_grid, copied_grid.parent / "out")


def test_a_run_may_continue_with_other_workers_and_threads(copied_grid: Path, monkeypatch):
    copied_grid.write_text(GRID + "overrides: {data.num_workers: 1, train.num_threads: 2}\n")
    monkeypatch.setattr(train_runs, "_start_training", None)
    assert compare(copied_grid, copied_grid.parent / "out", num_examples=0).num_failed == 0


# ----------------------------------------------------------------------------------- failures


def process_running(code: str):
    """Return a replacement of `_start_training` whose process runs the given Python code."""

    def start(run: Run, *, slot: int, jobs: int) -> "subprocess.Popen[bytes]":
        run.folder.path.parent.mkdir(parents=True, exist_ok=True)
        with run.sibling_path(".log").open("ab") as log:
            command = [sys.executable, "-c", code, str(run.folder.path)]
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    return start


def test_a_failed_cell_is_reported_and_the_others_are_compared(
    copied_grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    copied_grid.write_text(GRID.replace("[none, m2a]", "[none, m2a, tsm]"))
    code = "print('motionaware: the loss is nan'); raise SystemExit(1)"
    monkeypatch.setattr(train_runs, "_start_training", process_running(code))
    out = copied_grid.parent / "out"
    assert main(["compare", str(copied_grid), "--out", str(out), "--examples", "0"]) == 1
    printed = capsys.readouterr()
    assert "tsm, seed 0: failed: the loss is nan (exit code 1" in printed.out
    assert re.search(r"resnet18_quarter tsm +top-1 failed", printed.out)
    assert "2; the report" in printed.err
    text = (out / "report.md").read_text()
    assert "failed: resnet18_quarter, tsm, seed 1: the loss is nan" in text
    assert "| resnet18_quarter | tsm | 0 of 2 | failed |" in text
    assert "| resnet18_quarter | m2a | 2 |" in text


def test_a_grid_without_a_finished_run_has_a_report(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(train_runs, "_start_training", process_running("raise SystemExit(3)"))
    comparison = compare(write_grid(tmp_path), tmp_path / "out", jobs=4)
    assert comparison.num_failed == 4
    text = (tmp_path / "out" / "report.md").read_text()
    assert "No run finished." in text
    assert "Seeds" not in text
    assert "seed 1: no output (exit code 3" in text
    assert [row["num_failed"] for row in read_csv(tmp_path / "out" / "results.csv")] == ["2", "2"]


def test_options_of_a_grid_and_of_finished_runs_exclude_each_other(
    copied_grid: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["compare", str(copied_grid), str(copied_grid.parent)]) == 1
    assert "give one grid, or folders of finished runs, not both" in capsys.readouterr().err
    assert main(["compare", str(copied_grid), "--split", "val"]) == 1
    assert "--split is written in the grid" in capsys.readouterr().err
    assert main(["compare", str(copied_grid.parent), "--jobs", "2"]) == 1
    assert "--jobs is for a grid" in capsys.readouterr().err
    assert main(["compare", str(copied_grid), "--jobs", "0"]) == 1
    assert "jobs = 0" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["matplotlib.figure", "jinja2", "scipy"])
def test_a_missing_package_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"pip install 'motionaware\[compare\]'"):
        compare(write_grid(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_with_nan_scores_is_reported_and_the_others_are_evaluated(copied_grid: Path):
    folder = copied_grid.parent / "out" / "runs" / "resnet18_quarter" / "m2a" / "seed1"
    files = RunFolder(folder)
    model = load(files.last)
    torch.nn.init.constant_(model.head.bias, float("nan"))
    save(model, files.last)
    comparison = compare(copied_grid, copied_grid.parent / "out", num_examples=0)
    assert comparison.num_failed == 1
    baseline, m2a = comparison.results.cells
    assert (len(baseline.runs), len(m2a.runs)) == (2, 1)
    (message,) = m2a.failures
    assert "resnet18_quarter, m2a, seed 1: " in message
    assert "motionpairs/test/000000, motionpairs/test/000001" in message

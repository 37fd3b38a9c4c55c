"""Open finished runs by folder, and check that they can be compared."""

from collections.abc import Sequence
from pathlib import Path

from motionaware.engine.dataset_factory import open_source
from motionaware.engine.grid import check_pairs
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.report.runs import Run, recipe_differences, with_shared_cache
from motionaware.temporal.own import names_own_code, short_name


def open_finished_run(folder: Path, out: Path, *, allow_code: bool = False) -> Run:
    """Return the finished run in a folder.

    Args:
        folder: Folder of the run.
        out: Folder of the report.
        allow_code: Allow a run whose recipe names user code; evaluating it imports that code.

    Raises:
        FileNotFoundError: The folder holds no run.
        UsageError: The run is not finished, its data set is missing, or it names user code
            and `allow_code` is False.
    """
    run_folder = RunFolder(folder)
    if not run_folder.holds_run():
        raise FileNotFoundError(
            f"{folder} holds no run: it has no recipe.yaml; give folders of finished runs, or a "
            "grid (.yaml)"
        )
    recipe = run_folder.recipe()
    model = recipe.model
    if names_own_code(model.temporal) and not allow_code:
        raise UsageError(
            f"{folder} names user code, {short_name(model.temporal)}, and evaluating the run "
            "executes it; if you trust it, add --allow-code (allow_code=True in Python)"
        )
    run = Run(
        backbone=model.backbone,
        temporal=short_name(model.temporal),
        seed=recipe.train.seed,
        recipe=with_shared_cache(recipe, out),
        folder=run_folder,
    )
    if not run.is_finished():
        raise UsageError(
            f"{folder} has {run.num_epochs_done()} of {recipe.train.epochs} epochs; finish it "
            f"first: motionaware train --resume {folder}"
        )
    _check_data_root(run)
    return run


def _check_data_root(run: Run) -> None:
    """Raise UsageError if the data set is no longer where the recipe says."""
    data = run.recipe.data
    if not open_source(data).needs_folder or data.root is None or Path(data.root).is_dir():
        return
    working_folder = "" if Path(data.root).is_absolute() else f" in {Path.cwd()}"
    raise UsageError(
        f"{run.folder.path} was trained on data.root {data.root}, which is not a folder"
        f"{working_folder}; if the data set was moved, change data.root in "
        f"{run.folder.path / 'recipe.yaml'}"
    )


def check_cells(runs: Sequence[Run]) -> None:
    """Check that no run is given twice and that the runs of a cell differ only in the seed.

    Raises:
        UsageError: The message names both runs.
    """
    by_name: dict[str, Run] = {}
    first_of_cell: dict[tuple[str, str], Run] = {}
    for run in runs:
        if run.name in by_name:
            raise UsageError(
                f"{by_name[run.name].folder.path} and {run.folder.path} are both {run.name}; give "
                "only one of them"
            )
        by_name[run.name] = run
        first = first_of_cell.setdefault((run.backbone, run.temporal), run)
        differences = recipe_differences(first.recipe, run.recipe)
        differences.pop("train.seed", None)
        differences.pop("data.root", None)  # check_same_data compares the resolved paths
        for key, (first_value, value) in differences.items():
            raise UsageError(
                f"{first.folder.path} and {run.folder.path} have the same backbone and temporal "
                f"module, but {key} is {first_value!r} in the first and {value!r} in the second; "
                "runs of one model may differ only in the seed: compare them in separate reports"
            )


def check_comparable(runs: Sequence[Run], pairs: Sequence[tuple[str, str]], baseline: str) -> None:
    """Check that there are runs of the baseline and of both modules of each pair.

    Raises:
        UsageError: The message names the baseline or the pair, and the modules with runs.
    """
    cells = {(run.backbone, run.temporal) for run in runs}
    modules = {temporal for _, temporal in cells}
    if baseline not in ("none", *modules):
        raise UsageError(
            f"baseline {baseline!r} has no run; there are runs of {', '.join(sorted(modules))}"
        )
    for module in dict.fromkeys(module for pair in pairs for module in pair):
        if module not in modules:
            raise UsageError(
                f"pairs name {module!r}, which has no run; "
                + did_you_mean(
                    module, modules, then=f"there are runs of {', '.join(sorted(modules))}"
                )
            )
    check_pairs(pairs, baseline=baseline)
    for temporal, reference in pairs:
        if not any({(backbone, temporal), (backbone, reference)} <= cells for backbone, _ in cells):
            raise UsageError(
                f"pair {temporal} {reference}: no backbone has runs of both; there are runs of "
                f"{', '.join(sorted(modules))}"
            )


def sort_cells(runs: Sequence[Run], baseline: str) -> list[tuple[str, str]]:
    """Return backbone and temporal module of each cell: grouped by backbone, the baseline first."""
    cells = list(dict.fromkeys((run.backbone, run.temporal) for run in runs))
    backbones = list(dict.fromkeys(backbone for backbone, _ in cells))
    return sorted(cells, key=lambda cell: (backbones.index(cell[0]), cell[1] != baseline))

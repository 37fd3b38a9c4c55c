"""Runs that were trained before: which there are, and whether they can be compared."""

from collections.abc import Sequence
from pathlib import Path

from motionaware.engine.dataset_factory import open_source
from motionaware.engine.grid import check_pairs
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import UsageError
from motionaware.report.train_runs import Run, different_keys, with_cache
from motionaware.temporal.own import names_own_code, short_name


def open_finished(folder: Path, out: Path, *, allow_code: bool = False) -> Run:
    """The run in a folder.

    Args:
        folder: Of the run.
        out: Folder of the report.
        allow_code: The code that the run's recipe names may be imported.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not finished, its data are gone, or it names code while `allow_code` is
            false.
    """
    files = RunFolder(folder)
    if not files.holds_run():
        raise FileNotFoundError(
            f"{folder} holds no run to compare: it has no recipe.yaml; give folders of finished "
            "runs, or a grid (.yaml)"
        )
    recipe = files.recipe()
    model = recipe.model
    if names_own_code(model.temporal) and not allow_code:
        raise UsageError(
            f"{folder} names code of its author, {short_name(model.temporal)}, and judging it "
            "would run that code; if you trust it, add --allow-code (allow_code=True in Python)"
        )
    run = Run(
        backbone=model.backbone,
        temporal=short_name(model.temporal),
        seed=recipe.train.seed,
        recipe=with_cache(recipe, out),
        folder=files,
    )
    if not run.is_finished():
        raise UsageError(
            f"{folder} has {run.epochs_done()} of {recipe.train.epochs} epochs; finish it by "
            f"motionaware train --resume {folder}"
        )
    _check_data_are_there(run)
    return run


def _check_data_are_there(run: Run) -> None:
    """Refuse a run whose data are elsewhere today, and say where it notes them."""
    data = run.recipe.data
    if not open_source(data).needs_folder or data.root is None or Path(data.root).is_dir():
        return
    begin = "" if Path(data.root).is_absolute() else f" in {Path.cwd()}"
    raise UsageError(
        f"{run.folder.path} was trained on data.root {data.root}, which is not a folder{begin}; "
        f"if the data were moved, change data.root in {run.folder.path / 'recipe.yaml'}"
    )


def check_columns(runs: Sequence[Run]) -> None:
    """Refuse a run given twice, and runs of one column that differ by more than the seed."""
    first: dict[tuple[str, str], Run] = {}
    seen: dict[str, Run] = {}
    for run in runs:
        if run.name in seen:
            raise UsageError(
                f"{seen[run.name].folder.path} and {run.folder.path} are both {run.name}; give one"
            )
        seen[run.name] = run
        other = first.setdefault((run.backbone, run.temporal), run)
        differing = different_keys(other.recipe, run.recipe)
        differing.pop("train.seed", None)
        differing.pop("data.root", None)  # resolved, it is the same
        for key, (one, two) in differing.items():
            raise UsageError(
                f"{other.folder.path} and {run.folder.path} would be one column, but {key} is "
                f"{one!r} in the one, {two!r} in the other; compare them apart"
            )


def check_comparable(runs: Sequence[Run], pairs: Sequence[tuple[str, str]], baseline: str) -> None:
    """Refuse a baseline or a pair of which there are no runs."""
    check_pairs(pairs, baseline=baseline)
    columns = {(run.backbone, run.temporal) for run in runs}
    known = ", ".join(sorted({temporal for _, temporal in columns}))
    if baseline not in ("none", *(temporal for _, temporal in columns)):
        raise UsageError(f"baseline {baseline!r}: there is no run of it; there are runs of {known}")
    for one, other in pairs:
        if not any({(name, one), (name, other)} <= columns for name, _ in columns):
            raise UsageError(
                f"pair {one} {other}: no backbone has runs of both; there are runs of {known}"
            )


def columns_in_order(runs: Sequence[Run], baseline: str) -> list[tuple[str, str]]:
    """Columns as they were given, those of one backbone together, the baseline first."""
    names = list(dict.fromkeys((run.backbone, run.temporal) for run in runs))
    backbones = list(dict.fromkeys(backbone for backbone, _ in names))
    return sorted(names, key=lambda name: (backbones.index(name[0]), name[1] != baseline))

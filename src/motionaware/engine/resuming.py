"""What may change when a run is resumed: where it computes, and how long it trains."""

from typing import Any

from motionaware.engine.config import OptimConfig
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import RecipeError

# Where the data lie, where it computes, and what happens at a video that cannot be read.
MAY_CHANGE = frozenset(
    {
        "data.root",
        "data.on_error",
        "data.max_skipped_share",
        "data.num_workers",
        "data.cache_dir",
        "data.cache_gib",
        "train.device",
        "train.num_threads",
    }
)
EPOCHS = "train.epochs"

_FALLS_TO_THE_END = {"cosine": "falls to 0", "one-cycle": "rises and falls"}


def changed_keys(begun: dict[str, Any], recipe: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """The dotted keys in which two recipes differ, as plain values, each with both values."""
    return {
        f"{group}.{key}": (begun[group][key], value)
        for group, keys in recipe.items()
        for key, value in keys.items()
        if begun[group][key] != value
    }


def check_changes(
    changes: dict[str, tuple[object, object]],
    optim: OptimConfig,
    *,
    folder: RunFolder,
    epochs_done: int,
) -> None:
    """Refuse changes by which a resumed run would not be the run that was begun.

    Args:
        changes: Of `changed_keys`.
        optim: The schedule that the run has.
        folder: Of the run, for the error.
        epochs_done: Whole epochs that are trained.

    Raises:
        RecipeError: Naming the key, both values, and what to do.
    """
    new_run = f"start a new run from its weights: {new_run_command(folder)}"
    refused = {key: pair for key, pair in changes.items() if key not in MAY_CHANGE | {EPOCHS}}
    for key, (before, now) in refused.items():
        more = f" (and {len(refused) - 1} keys more)" if len(refused) > 1 else ""
        raise RecipeError(
            f"{folder.path} was begun with another recipe: {key} was {before!r}, is {now!r} now"
            f"{more}; put it back on the command line or in {folder.recipe_file}, or {new_run}. "
            f"A resumed run may change {EPOCHS}, {', '.join(sorted(MAY_CHANGE))}"
        )
    if EPOCHS not in changes:
        return
    before, now = changes[EPOCHS]
    assert isinstance(before, int) and isinstance(now, int)
    if not can_be_extended(optim):
        raise RecipeError(
            f"{folder.path} cannot continue with {EPOCHS} {now} in place of {before}: its learning "
            f"rate {_FALLS_TO_THE_END[optim.schedule]} over the {before} epochs that it was begun "
            f"with (optim.schedule: {optim.schedule}), so its first {epochs_done} epochs would "
            f"have had other learning rates; {new_run} --{EPOCHS} {max(now - epochs_done, 1)}. "
            "Runs with optim.schedule step can be extended"
        )
    if now <= epochs_done:
        raise RecipeError(
            f"{folder.path} has {epochs_done} whole epochs behind it; wanted {EPOCHS} above that, "
            f"not {now}"
        )


def can_be_extended(optim: OptimConfig) -> bool:
    """Whether the learning rate of an epoch is the same, however many epochs there are."""
    return optim.schedule not in _FALLS_TO_THE_END


def new_run_command(folder: RunFolder) -> str:
    """The command that begins a new run with the weights of one."""
    return f"motionaware train {folder.recipe_file} --run NEW --model.pretrained {folder.last}"


def describe_changes(changes: dict[str, tuple[object, object]]) -> str:
    """The changes in words.

    >>> describe_changes({"train.epochs": (30, 40), "train.device": ("cpu", "cuda")})
    'train.epochs 40 (was 30), train.device cuda (was cpu)'
    """
    return ", ".join(f"{key} {now} (was {before})" for key, (before, now) in changes.items())

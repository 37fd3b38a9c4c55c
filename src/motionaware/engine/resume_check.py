"""Check whether a resumed run may use its recipe, and describe what changed."""

from collections.abc import Mapping
from typing import Any

from motionaware.engine.config import OptimConfig, Recipe
from motionaware.engine.config_io import recipe_from_dict, recipe_to_dict
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import RecipeError

# Keys that do not change the numbers that are computed, and the handling of unreadable videos.
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
        "train.keep_freed_memory",
    }
)
EPOCHS = "train.epochs"

# Schedules that depend on the number of epochs, with a description for the error.
_PLANNED_TO_THE_END = {"cosine": "falls to 0", "one-cycle": "rises and falls"}

Changes = Mapping[str, tuple[object, object]]
"""Dotted key -> its value when the run began, and its value now."""


def check_recipe_unchanged(
    recipe: Recipe, *, folder: RunFolder, saved: Mapping[str, Any] | None
) -> Changes:
    """Check that a resumed run would be the run that began. Returns the permitted changes.

    Args:
        recipe: The recipe to resume with.
        folder: Folder of the run.
        saved: The content of resume.pt; None if the run stopped before the first save.

    Raises:
        RecipeError: A key changed that may not; the message says what to do.
    """
    begun = folder.recipe()
    if saved and "recipe" in saved:  # early versions did not save it
        begun = recipe_from_dict(saved["recipe"], source="resume.pt")
    changes = changed_keys(recipe_to_dict(begun), recipe_to_dict(recipe))
    check_changes(changes, begun.optim, folder=folder, epochs_done=saved["epoch"] if saved else 0)
    return changes


def changed_keys(begun: Mapping[str, Any], recipe: Mapping[str, Any]) -> Changes:
    """Return the dotted keys in which two recipes, as plain values, differ."""
    return {
        f"{group}.{key}": (begun[group][key], value)
        for group, keys in recipe.items()
        for key, value in keys.items()
        if begun[group][key] != value
    }


def check_changes(
    changes: Changes, optim: OptimConfig, *, folder: RunFolder, epochs_done: int
) -> None:
    """Check that only keys changed that a resumed run may change.

    Args:
        changes: What `changed_keys` returned.
        optim: Optimizer and schedule with which the run began.
        folder: Folder of the run, for the error.
        epochs_done: Completed epochs.

    Raises:
        RecipeError: Names the key, both values, and what to do.
    """
    new_run = f"start a new run from its weights: {new_run_command(folder)}"
    refused = {key: pair for key, pair in changes.items() if key not in MAY_CHANGE | {EPOCHS}}
    for key, (before, now) in refused.items():
        more = f" (and {len(refused) - 1} more keys)" if len(refused) > 1 else ""
        raise RecipeError(
            f"{folder.path} was begun with another recipe: {key} was {before!r}, is {now!r} now"
            f"{more}; restore it on the command line or in {folder.recipe_file}, or {new_run}. "
            f"A resumed run may change {EPOCHS}, {', '.join(sorted(MAY_CHANGE))}"
        )
    if EPOCHS not in changes:
        return
    before, now = changes[EPOCHS]
    assert isinstance(before, int) and isinstance(now, int)
    if not can_be_extended(optim):
        raise RecipeError(
            f"{folder.path} cannot continue with {EPOCHS} {now} in place of {before}: its learning "
            f"rate {_PLANNED_TO_THE_END[optim.schedule]} over the {before} epochs with which it "
            f"began (optim.schedule: {optim.schedule}), so its first {epochs_done} epochs would "
            f"have had other learning rates; {new_run} --{EPOCHS} {max(now - epochs_done, 1)}. "
            "Runs with optim.schedule step can be extended"
        )
    if now <= epochs_done:
        raise RecipeError(
            f"{folder.path} has completed {epochs_done} epochs; wanted {EPOCHS} above that, "
            f"not {now}"
        )


def can_be_extended(optim: OptimConfig) -> bool:
    """Return True if the learning rate of an epoch does not depend on the number of epochs."""
    return optim.schedule not in _PLANNED_TO_THE_END


def new_run_command(folder: RunFolder) -> str:
    """Return the command that starts a new run from the weights of a run."""
    return f"motionaware train {folder.recipe_file} --run NEW --model.pretrained {folder.last}"


def describe_changes(changes: Changes) -> str:
    """Return the changes as text.

    >>> describe_changes({"train.epochs": (30, 40), "train.device": ("cpu", "cuda")})
    'train.epochs 40 (was 30), train.device cuda (was cpu)'
    """
    return ", ".join(f"{key} {now} (was {before})" for key, (before, now) in changes.items())

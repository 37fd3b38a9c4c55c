"""A run of a comparison: its folder, its state, and how its recipe differs from others."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_to_dict
from motionaware.engine.dataset_factory import open_source
from motionaware.engine.early_stopping import is_over
from motionaware.engine.paths import with_absolute_paths
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import UsageError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer
from motionaware.temporal.own import names_own_code

# Keys that do not change what a run learns.
_IRRELEVANT_KEYS = frozenset(
    {"data.num_workers", "train.device", "train.num_threads", "train.keep_freed_memory"}
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a comparison, trained or not.

    Attributes:
        backbone: Name of the backbone.
        temporal: Name of the temporal module.
        seed: Seed of the training.
        recipe: Recipe of the run.
        folder: Folder of the run.
    """

    backbone: str
    temporal: str
    seed: int
    recipe: Recipe
    folder: RunFolder

    @property
    def name(self) -> str:
        """Backbone, temporal module and seed, for messages."""
        return f"{self.backbone}, {self.temporal}, seed {self.seed}"

    def num_epochs_done(self) -> int:
        """Return the number of completed epochs."""
        return len(self.folder.read_log())

    def is_finished(self) -> bool:
        """Return True if no epoch is left to train and the last checkpoint exists."""
        return is_over(self.folder.read_log(), self.recipe.train) and self.folder.last.is_file()

    def load_model(self) -> VideoRecognizer:
        """Load the last checkpoint.

        User code in the model is imported only if the run's recipe names it.

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: The checkpoint is damaged, or names code that the recipe does not name.
        """
        temporal = self.recipe.model.temporal
        return load(self.folder.last, temporal=temporal if names_own_code(temporal) else None)

    def sibling_path(self, suffix: str) -> Path:
        """Return the path of the run's folder with a suffix added to its name."""
        return self.folder.path.with_name(self.folder.path.name + suffix)

    def provenance(self) -> dict[str, str]:
        """Return date, commit, machine and versions of the training; empty if not recorded."""
        path = self.folder.path / "provenance.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def plan_runs(recipes: Mapping[tuple[str, str, int], Recipe], out: Path) -> list[Run]:
    """Assign every run of a grid its folder, `runs/BACKBONE/TEMPORAL/seedN` below `out`.

    Args:
        recipes: Recipe of each run, by backbone, temporal module and seed.
        out: Folder of the report.

    Raises:
        UsageError: Two cells would share a folder.
    """
    runs = []
    for (backbone, temporal, seed), recipe in recipes.items():
        folder = out / "runs" / safe_name(backbone) / safe_name(temporal) / f"seed{seed}"
        run = Run(
            backbone=backbone,
            temporal=temporal,
            seed=seed,
            recipe=with_shared_cache(recipe, out),
            folder=RunFolder(folder),
        )
        runs.append(run)
    if len({run.folder.path for run in runs}) < len(runs):
        names = sorted({f"{backbone}/{temporal}" for backbone, temporal, _ in recipes})
        raise UsageError(
            f"two names of the grid give the same folder name; make them differ by more than "
            f"special characters: {', '.join(names)}"
        )
    return runs


def safe_name(name: str) -> str:
    """Return a name with the characters that are not safe in a path replaced by `_`.

    >>> safe_name("m2a(reduction=4)"), safe_name("m2a(reduction=4),tsm")
    ('m2a_reduction=4', 'm2a_reduction=4_,tsm')
    """
    return re.sub(r"[^\w.@+,=-]+", "_", name).strip("_")


def with_shared_cache(recipe: Recipe, out: Path) -> Recipe:
    """Return the recipe with MotionPairs cached in `out/cache`, unless its root exists.

    All runs of a comparison then share one copy of the rendered videos.
    """
    data = recipe.data
    if not open_source(data).is_generated or (data.root and Path(data.root).is_dir()):
        return recipe
    return replace(recipe, data=replace(data, root=str(out / "cache")))


def recipe_differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two recipes differ, each with both values.

    Keys that do not change what a run learns are ignored.
    """
    values, second_values = (
        recipe_to_dict(with_absolute_paths(recipe)) for recipe in (first, second)
    )
    ignored = set(_IRRELEVANT_KEYS)
    if open_source(first.data).is_generated:
        ignored.add("data.root")  # only the cache
        ignored.add("clip.square_pixels")  # rendered frames have square pixels
    return {
        f"{group}.{key}": (value, second_values[group][key])
        for group, keys in values.items()
        for key, value in keys.items()
        if value != second_values[group][key] and f"{group}.{key}" not in ignored
    }

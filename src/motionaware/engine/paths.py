"""Paths in a recipe: make them absolute, and find the data of a run that was moved."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.dataset_factory import open_source
from motionaware.errors import DataError

RUN_FOLDER = "run_folder"  # key in the training facts of a checkpoint


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute `data.root`, `data.cache_dir` and `model.pretrained`.

    Relative paths are relative to the current folder. A run that stores absolute paths can be
    resumed, evaluated and compared from any folder. Addresses are not changed, nor is a
    `model.pretrained` that is not an existing file.
    """
    data, model = recipe.data, recipe.model
    data = replace(data, root=_absolute(data.root), cache_dir=_absolute(data.cache_dir))
    if isinstance(model.pretrained, str) and Path(model.pretrained).exists():
        model = replace(model, pretrained=_absolute(model.pretrained) or model.pretrained)
    return replace(recipe, data=data, model=model)


def _absolute(path: str | None) -> str | None:
    return path if not path or "://" in path else str(Path(path).absolute())


def locate_data(
    data: DataConfig, *, checkpoint: str | Path, trained: Mapping[str, Any]
) -> DataConfig:
    """Return the data of a checkpoint with the folder in which they are now.

    If `data.root` does not exist, the folder at the same place relative to the run folder is used:
    a run and its data may be moved together. A missing cache of decoded frames is left out, which
    changes no number.

    Args:
        data: The data of the checkpoint's recipe.
        checkpoint: The file, in its run folder.
        trained: The checkpoint's facts about its training.

    Raises:
        DataError: The data are in neither place.
    """
    if data.cache_dir is not None and not Path(data.cache_dir).is_dir():
        data = replace(data, cache_dir=None)
    root = data.root
    if root is None or not open_source(data).needs_folder or Path(root).is_dir():
        return data
    candidates = [str(Path(root).absolute())]
    if RUN_FOLDER in trained and Path(root).is_absolute():
        relative_root = os.path.relpath(root, trained[RUN_FOLDER])
        moved = os.path.normpath(Path(checkpoint).absolute().parent / relative_root)
        if Path(moved).is_dir():
            return replace(data, root=moved)
        candidates.append(moved)
    note = "" if Path(root).is_absolute() else ", which is relative to the current folder"
    raise DataError(
        f"{checkpoint} was trained on data.root {root}{note}; looked for "
        f"{' and '.join(dict.fromkeys(candidates))}, found no folder there; give the folder of the "
        "data with --root"
    )

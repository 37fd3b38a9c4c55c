"""The paths in a recipe: where relative ones begin, and where data are after a run was moved."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from motionaware.data.shards.layout import KIND as SHARDS
from motionaware.engine.config import DataConfig, Recipe
from motionaware.errors import DataError

RUN_FOLDER = "run_folder"  # of a checkpoint's facts about its training


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute `data.root`, `data.cache_dir` and `model.pretrained`.

    Relative paths begin at the current folder. Absolute ones mean the same in every folder: a run
    that stores them can be resumed, evaluated and compared from anywhere. Addresses stay as they
    are, and so does a `model.pretrained` that is no file.
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
    """Return the data that a checkpoint was trained on with the folder in which they are now.

    If the folder is not where it was, we look for it at the same place relative to the run folder:
    a run and its data may be moved together. A cache of decoded frames that is not there is left
    out, which changes no number.

    Args:
        data: As the checkpoint's recipe says.
        checkpoint: The file, in its run folder.
        trained: The checkpoint's facts about its training.

    Raises:
        DataError: The data are in neither place.
    """
    if data.cache_dir is not None and not Path(data.cache_dir).is_dir():
        data = replace(data, cache_dir=None)
    root = data.root
    if root is None or data.kind in ("motionpairs", SHARDS) or Path(root).is_dir():
        return data
    looked = [str(Path(root).absolute())]
    if RUN_FOLDER in trained and Path(root).is_absolute():
        beside = os.path.relpath(root, trained[RUN_FOLDER])
        moved = os.path.normpath(Path(checkpoint).absolute().parent / beside)
        if Path(moved).is_dir():
            return replace(data, root=moved)
        looked.append(moved)
    relative = "" if Path(root).is_absolute() else ", which is relative to the current folder"
    raise DataError(
        f"{checkpoint} was trained on data.root {root}{relative}; looked for "
        f"{' and '.join(dict.fromkeys(looked))}, found no folder there; give the folder of the "
        "data with --root"
    )

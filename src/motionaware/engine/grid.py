"""Grids: the backbones, temporal modules and seeds that a comparison trains under one recipe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import (
    build_config,
    read_recipe,
    read_yaml,
    recipe_from_dict,
    recipe_to_dict,
    with_absolute_module_paths,
)
from motionaware.engine.config_validation import check_fields, check_override
from motionaware.errors import RecipeError
from motionaware.messages import did_you_mean


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Overrides of the recipe for some cells of a grid.

    Attributes:
        backbone: Backbone of the cells; null for all backbones.
        temporal: Temporal module of the cells; null for all modules.
        overrides: Values by dotted keys of the recipe.
    """

    backbone: str | None = None
    temporal: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def matches(self, backbone: str, temporal: str) -> bool:
        """Return True if the overrides apply to a cell."""
        return self.backbone in (None, backbone) and self.temporal in (None, temporal)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A comparison: every backbone with every temporal module and every seed.

    Attributes:
        recipe: Path of the recipe of all runs, relative to the folder of the grid's file.
        backbones: Values of `model.backbone`.
        temporal: Values of `model.temporal`. Relative paths of user modules are searched in the
            folder of the grid, then in that of the recipe, then in the working folder.
        seeds: Values of `train.seed`.
        overrides: Values for all runs, by dotted keys of the recipe.
        cells: Overrides for some cells; later ones take precedence.
        pairs: Pairs of temporal modules (module, reference) to compare, in addition to each module
            with the baseline.
        baseline: Temporal module that the others are compared with.
        split: Split on which the runs are evaluated.
        title: Heading of the report; "" for the name of the grid's file.
    """

    recipe: str
    backbones: tuple[str, ...]
    temporal: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: dict[str, Any] = field(default_factory=dict)
    cells: tuple[CellConfig, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    baseline: str = "none"
    split: Literal["val", "test"] = "test"
    title: str = ""

    def __post_init__(self) -> None:
        check_fields("grid", self)
        for name in ("backbones", "temporal", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise RecipeError(
                    f"{name} is {list(values)}; wanted at least one value, each only once"
                )
        references = [
            *((module, self.temporal, "pairs") for pair in self.pairs for module in pair),
            *((cell.temporal, self.temporal, "cells") for cell in self.cells if cell.temporal),
            *((cell.backbone, self.backbones, "cells") for cell in self.cells if cell.backbone),
        ]
        for name, known, key in references:
            if name not in known:
                raise RecipeError(
                    f"{key} names {name!r}, which is not in the grid; it has {', '.join(known)}"
                )
        if self.baseline not in ("none", *self.temporal):
            raise RecipeError(
                f"baseline is {self.baseline!r}, which is not in the grid; temporal has "
                f"{', '.join(self.temporal)}"
            )
        check_pairs(self.pairs, baseline=self.baseline)

    def run_keys(self) -> Iterator[tuple[str, str, int]]:
        """Yield backbone, temporal module and seed of every run, grouped by seed."""
        for backbone in self.backbones:
            for seed in self.seeds:
                for temporal in self.temporal:
                    yield backbone, temporal, seed


def check_pairs(pairs: Sequence[tuple[str, str]], *, baseline: str) -> None:
    """Check that each pair has two different modules and is given once.

    The baseline may only be the second module of a pair.

    Raises:
        RecipeError: A pair is wrong; the message names it.
    """
    checked = set()
    for temporal, reference in pairs:
        pair = f"pair {temporal}, {reference}"
        if temporal == reference:
            raise RecipeError(f"{pair}: both modules are the same; give two different modules")
        if temporal == baseline:
            raise RecipeError(
                f"{pair}: {baseline} is the baseline and must come second; swap the two, or remove "
                "the pair: each module is compared with the baseline anyway"
            )
        if {temporal, reference} in checked:
            raise RecipeError(f"{pair}: is given twice; give it once")
        checked.add(frozenset((temporal, reference)))


def read_grid(path: str | Path) -> Grid:
    """Read a grid from a YAML file.

    Raises:
        RecipeError: A key is unknown or missing, or a value has the wrong type.
        FileNotFoundError: The file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"grid {path} does not exist; docs/comparing.md explains grids")
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise RecipeError(
            f"{path} contains a {type(content).__name__}; wanted a mapping with keys such as recipe"
        )
    known = [field.name for field in fields(Grid)]
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"a grid has {', '.join(known)}"
            raise RecipeError(f"{path}: key {key} is unknown; {hint.strip()}")
    for key in ("recipe", "backbones", "temporal"):
        if key not in content:
            raise RecipeError(f"{path}: key {key} is missing; every grid needs it")
    return build_config(Grid, content, source=str(path))


def grid_recipes(grid: Grid, path: str | Path) -> dict[tuple[str, str, int], Recipe]:
    """Return the recipe of every run of a grid, by backbone, temporal module and seed.

    Args:
        grid: The grid.
        path: File of the grid; the path of the recipe is relative to its folder.

    Raises:
        RecipeError: A key is unknown, or a value has the wrong type.
        FileNotFoundError: The recipe does not exist.
        UsageError: A name refers to a file or module that does not exist.
    """
    file = Path(path).parent / grid.recipe
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: recipe {grid.recipe} does not exist; tried {file}, because paths in a grid "
            "are relative to the folder of the grid"
        )
    base = recipe_to_dict(read_recipe(file))
    return {key: _make_recipe(grid, base, key, path=Path(path)) for key in grid.run_keys()}


def _make_recipe(
    grid: Grid, base: Mapping[str, Any], run_key: tuple[str, str, int], *, path: Path
) -> Recipe:
    source = str(path)
    backbone, temporal, seed = run_key
    overrides: dict[str, Any] = dict(grid.overrides)
    for cell in grid.cells:
        if cell.matches(backbone, temporal):
            overrides |= cell.overrides
    varied = {"model.backbone": backbone, "model.temporal": temporal, "train.seed": seed}
    content = {group: dict(keys) for group, keys in base.items()}
    for key in overrides:
        check_override(Recipe, f"--{key}", source=f"{source}: overrides")
        if key in varied:
            raise RecipeError(
                f"{source}: overrides contain {key}, which the grid varies; use backbones, "
                "temporal and seeds instead"
            )
    for key, value in (overrides | varied).items():
        group, _, name = key.partition(".")
        content[group][name] = value
    recipe = recipe_from_dict(content, source=source)
    folders = dict.fromkeys((path.parent, (path.parent / grid.recipe).parent, Path()))
    return with_absolute_module_paths(recipe, tuple(folders))

"""Grids: which backbones, temporal modules and seeds to compare under one recipe."""

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
    """What some cells of a grid have of their own.

    Attributes:
        backbone: Of the cells that are meant; null means those of all backbones.
        temporal: Likewise.
        overrides: Dotted keys of the recipe, with their values.
    """

    backbone: str | None = None
    temporal: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def covers(self, backbone: str, temporal: str) -> bool:
        """Whether a cell is meant."""
        return self.backbone in (None, backbone) and self.temporal in (None, temporal)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A comparison: every backbone with every temporal module and every seed.

    Attributes:
        recipe: Path of the recipe that all runs share, from the folder of the grid's file on.
        backbones: Names, as `model.backbone` of a recipe.
        temporal: Names, as `model.temporal`; paths of own modules begin at the folder of the grid,
            then at that of the recipe, then at the working folder.
        seeds: Of training, as `train.seed`.
        overrides: Dotted keys of the recipe, with their values, for all cells.
        cells: Overrides of some cells; later ones win.
        pairs: Two temporal modules each, to be compared beside those that are compared with the
            baseline.
        baseline: The temporal module that gains are counted from.
        split: Of the data, on which runs are evaluated.
        title: Of the report.
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
                    f"{name} is {list(values)}, wanted at least one value and none twice"
                )
        named = [
            *((one, self.temporal, "pairs") for pair in self.pairs for one in pair),
            *((cell.temporal, self.temporal, "cells") for cell in self.cells if cell.temporal),
            *((cell.backbone, self.backbones, "cells") for cell in self.cells if cell.backbone),
        ]
        for name, known, key in named:
            if name not in known:
                raise RecipeError(
                    f"{key} names {name!r}, which the grid does not hold; it has {', '.join(known)}"
                )
        if self.baseline not in ("none", *self.temporal):
            raise RecipeError(
                f"baseline is {self.baseline!r}, which the grid does not hold; temporal has "
                f"{', '.join(self.temporal)}"
            )
        check_pairs(self.pairs, baseline=self.baseline)

    def names(self) -> Iterator[tuple[str, str, int]]:
        """Backbone, temporal module and seed of every run, seeds before temporal modules."""
        for backbone in self.backbones:
            for seed in self.seeds:
                for temporal in self.temporal:
                    yield backbone, temporal, seed


def check_pairs(pairs: Sequence[tuple[str, str]], *, baseline: str) -> None:
    """Refuse pairs that would be no comparison, or the same one twice.

    Raises:
        RecipeError: Naming the pair.
    """
    seen = set()
    for one, other in pairs:
        if one == other:
            raise RecipeError(f"pair {one}, {other}: one module twice; give two that differ")
        if one == baseline:
            raise RecipeError(
                f"pair {one}, {other}: gains are counted from {baseline}; write it the other way "
                "round, or leave it out: each module is compared with the baseline anyway"
            )
        if {one, other} in seen:
            raise RecipeError(f"pair {one}, {other}: is there twice; give it once")
        seen.add(frozenset((one, other)))


def read_grid(path: str | Path) -> Grid:
    """Read a grid from YAML.

    Raises:
        RecipeError: A key is unknown or missing, or a value is of the wrong kind.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"grid {path} does not exist; docs/comparing.md says how to write")
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise RecipeError(f"{path} holds {type(content).__name__}, wanted keys such as recipe:")
    known = [one.name for one in fields(Grid)]
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"a grid has {', '.join(known)}"
            raise RecipeError(f"{path}: key {key} is unknown; {hint.strip()}")
    for key in ("recipe", "backbones", "temporal"):
        if key not in content:
            raise RecipeError(f"{path}: key {key} is missing; a grid needs it")
    return build_config(Grid, content, source=str(path))


def grid_recipes(grid: Grid, path: str | Path) -> dict[tuple[str, str, int], Recipe]:
    """The recipe of every run of a grid, by backbone, temporal module and seed.

    Args:
        grid: As it was read.
        path: Of its file: the recipe is looked for from there on.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong kind.
        FileNotFoundError: The recipe is not there.
        ValueError: A name refers to a file or module that does not exist.
    """
    file = Path(path).parent / grid.recipe
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: recipe {grid.recipe} does not exist; looked for {file}, since paths in a "
            "grid begin at its own folder"
        )
    base = recipe_to_dict(read_recipe(file))
    return {names: _recipe_of(grid, base, names, path=Path(path)) for names in grid.names()}


def _recipe_of(
    grid: Grid, base: Mapping[str, Any], names: tuple[str, str, int], *, path: Path
) -> Recipe:
    source = str(path)
    backbone, temporal, seed = names
    values: dict[str, Any] = dict(grid.overrides)
    for cell in grid.cells:
        if cell.covers(backbone, temporal):
            values |= cell.overrides
    own = {"model.backbone": backbone, "model.temporal": temporal, "train.seed": seed}
    content = {group: dict(keys) for group, keys in base.items()}
    for key in values:
        check_override(Recipe, f"--{key}", source=f"{source}: overrides")
        if key in own:
            raise RecipeError(f"{source}: overrides name {key}, which the grid itself varies")
    for key, value in (values | own).items():
        group, _, name = key.partition(".")
        content[group][name] = value
    recipe = recipe_from_dict(content, source=source)
    folders = dict.fromkeys((path.parent, (path.parent / grid.recipe).parent, Path()))
    return with_absolute_module_paths(recipe, tuple(folders))

"""Recipes written down: YAML, dotted overrides, plain values <-> the dataclasses of groups.py."""

import dataclasses
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from motionaware.clip import upgrade_clip_fields
from motionaware.data.annotations.split import contents
from motionaware.engine.config import (
    Recipe,
)
from motionaware.engine.config_validation import (
    check_keys,
    check_override,
    explanations,
    kind_words,
    known_keys,
    summary,
)
from motionaware.errors import RecipeError

_Config = TypeVar("_Config")


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from YAML; what it does not name has the defaults above.

    Args:
        path: The file.
        overrides: Dotted, as on a command line: `["--train.epochs=5", "--model.temporal=tsm"]`.

    Raises:
        RecipeError: A key is unknown, a value is of the wrong kind, or it is a folder.
        FileNotFoundError: There is no such file.
        ValueError: `model.temporal` names a file or module that does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise RecipeError(f"{path} is a folder, wanted a YAML file; it holds {contents(path)}")
    if not path.is_file():
        raise FileNotFoundError(
            f"recipe {path.absolute()} does not exist; give the path of a YAML file. Recipes "
            "such as folder.yaml are in the folder recipes/ of motionaware's source"
        )
    content = read_yaml(path)
    if content is None:
        raise RecipeError(f"{path} is empty; wanted keys such as model:, as in recipes/folder.yaml")
    recipe = _parse(content, overrides, source=str(path))
    return with_own_code_found(recipe, _code_folders(path, overrides))


def _code_folders(path: Path, overrides: Sequence[str]) -> tuple[Path, Path]:
    """Where paths of own modules in a recipe begin: in its folder, then in the working folder.

    A path on the command line begins in the working folder first.
    """
    if any(one.partition("=")[0] == "--model.temporal" for one in overrides):
        return Path(), path.parent
    return path.parent, Path()


def with_own_code_found(recipe: Recipe, folders: Sequence[Path] = (Path(),)) -> Recipe:
    """Give a recipe whose `model.temporal` names files of own modules by absolute paths.

    Args:
        recipe: The recipe.
        folders: Where relative paths begin, in this order; the working folder by default.

    Raises:
        ValueError: A file or module is in none of them.
    """
    if ":" not in recipe.model.temporal:  # names of the table have none; spares importing torch
        return recipe
    from motionaware.temporal.own import find_own

    temporal = find_own(recipe.model.temporal, folders)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, temporal=temporal))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as plain values; None where it is empty.

    Raises:
        RecipeError: It is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {_on_one_line(error)}") from error


def read_stored_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe that a run folder holds; see `recipe_from_dict`.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong kind.
        ValueError: `model.temporal` names a file or module that does not exist.
    """
    recipe = recipe_from_dict(read_yaml(path) or {}, overrides, source=str(path))
    return with_own_code_found(recipe, _code_folders(path, overrides))


def recipe_from_dict(
    content: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str
) -> Recipe:
    """Build a recipe from the values that `recipe_to_dict` gave; `source` is named in errors.

    A key of `clip` that did not exist when they were written is set by `upgrade_clip_fields`.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong kind.
    """
    clip = content.get("clip", {}) if isinstance(content, Mapping) else None
    if isinstance(clip, Mapping):
        content = {**content, "clip": upgrade_clip_fields(clip)}
    return _parse(content, overrides, source=source)


def recipe_to_dict(recipe: Recipe, *, folder: Path | None = None) -> dict[str, Any]:
    """A recipe as plain values, ready for YAML or JSON.

    Args:
        recipe: The recipe.
        folder: Of the file that will hold the values: paths of own modules are given relative to
            it, so that a run and its modules can be moved together; None leaves them.
    """
    plain = dataclasses.asdict(recipe)
    if folder is not None and ":" in recipe.model.temporal:
        from motionaware.temporal.own import relative_own

        plain["model"]["temporal"] = relative_own(recipe.model.temporal, folder)
    for group in plain.values():  # YAML and JSON have lists, not tuples
        group |= {key: list(value) for key, value in group.items() if isinstance(value, tuple)}
    return plain


def recipe_to_yaml(recipe: Recipe, *, folder: Path | None = None) -> str:
    """A recipe as YAML with every value written out; `read_recipe` gives it back.

    `folder` is that of the file to be written, as for `recipe_to_dict`.
    """
    return yaml.safe_dump(recipe_to_dict(recipe, folder=folder), sort_keys=False)


def _parse(content: Any, overrides: Sequence[str], *, source: str) -> Recipe:
    if not isinstance(content, Mapping):
        raise RecipeError(f"{source} holds {type(content).__name__}, wanted keys such as model:")
    check_keys(Recipe, content, source)
    for override in overrides:
        check_override(Recipe, override, source="the command line")
    return build_config(Recipe, content, overrides, source=source)


def build_config(
    config: type[_Config],
    content: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    source: str,
) -> _Config:
    """Build a dataclass from plain values; its keys are known to be there.

    Raises:
        RecipeError: A value is of the wrong kind; `source` is named.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(config)
    try:
        defaults = parser.parse_object(dict(content), defaults=True)
        values = parser.parse_args(list(overrides), namespace=defaults)
        return config(**vars(parser.instantiate(values)))
    except (ArgumentError, TypeError, ValueError) as error:
        words = _explain(config, error)
        key = words.partition(" ")[0]  # of ClipSpec's own errors, without its group
        keys = [override[2:].partition("=")[0] for override in overrides]
        given = any(key in (one, one.rpartition(".")[2]) for one in keys)
        raise RecipeError(f"{'the command line' if given else source}: {words}") from error


def _explain(config: type, error: Exception) -> str:
    """Say of a value of the wrong kind what is wanted there; pass other words on."""
    words = _on_one_line(error)
    found = re.match(r'Parser key "([\w.]+)": .*(?:Got|Given) value: (.*)$', words)
    if found is None:
        return words
    key, value = found.groups()
    return f"{key} is {value}, wanted {kind_words(known_keys(config)[key])}"


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def describe_keys() -> str:
    """Explain every key of a recipe: values, default and meaning, group by group."""
    defaults = recipe_to_dict(Recipe())
    lines: list[str] = []
    meanings: dict[str, str] = {}
    for key, kind in known_keys(Recipe).items():
        group, _, name = key.partition(".")
        if not name:
            lines += ["", f"{group}: {summary(kind)}", ""]
            meanings = explanations(kind)
            continue
        default = json.dumps(defaults[group][name]).replace('"', "")
        values = "true or false" if kind is bool else kind_words(kind)
        lines.append(f"  {key}   {values}; default {default}")
        lines += textwrap.indent(textwrap.fill(meanings[name], 88), " " * 6).splitlines()
    return "\n".join(lines[1:])

"""Read and write recipes: YAML files, dotted overrides and plain values."""

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from motionaware.clip import upgrade_clip_fields
from motionaware.data.annotations.split import contents
from motionaware.engine.config import Recipe
from motionaware.engine.config_validation import (
    check_keys,
    check_override,
    describe_type,
    docstring_summary,
    field_descriptions,
    known_keys,
)
from motionaware.errors import RecipeError

_Config = TypeVar("_Config")

_COMMAND_LINE = "the command line"


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file. Keys that are absent have the defaults of `Recipe`.

    Args:
        path: The file.
        overrides: Dotted, as on a command line: `["--train.epochs=5", "--model.temporal=tsm"]`.

    Raises:
        RecipeError: A key is unknown, a value has the wrong type, or `path` is a folder.
        FileNotFoundError: There is no such file.
        UsageError: `model.temporal` names a file or module that does not exist.
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
    return with_absolute_module_paths(recipe, _module_folders(path, overrides))


def _module_folders(path: Path, overrides: Sequence[str]) -> tuple[Path, Path]:
    """Return the folders in which files of a user's temporal modules are searched, in order."""
    if any(override.partition("=")[0] == "--model.temporal" for override in overrides):
        return Path(), path.parent
    return path.parent, Path()


def with_absolute_module_paths(recipe: Recipe, folders: Sequence[Path] = (Path(),)) -> Recipe:
    """Return the recipe with absolute paths of the module files that `model.temporal` names.

    Args:
        recipe: The recipe.
        folders: Folders in which relative paths are searched, in this order.

    Raises:
        UsageError: A file or module is in none of the folders.
    """
    if ":" not in recipe.model.temporal:  # avoids importing torch
        return recipe
    from motionaware.temporal.own import find_own

    temporal = find_own(recipe.model.temporal, folders)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, temporal=temporal))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file as plain values, None if it is empty.

    Raises:
        RecipeError: The file is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def read_stored_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of a run folder; see `recipe_from_dict`.

    Raises:
        RecipeError: A key is unknown, or a value has the wrong type.
        UsageError: `model.temporal` names a file or module that does not exist.
    """
    recipe = recipe_from_dict(read_yaml(path) or {}, overrides, source=str(path))
    return with_absolute_module_paths(recipe, _module_folders(path, overrides))


def recipe_from_dict(
    content: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str
) -> Recipe:
    """Build a recipe from the plain values that `recipe_to_dict` returned.

    A key of `clip` that an older version did not write gets its value from `upgrade_clip_fields`.

    Args:
        content: The values, by group and key.
        overrides: Dotted, as for `read_recipe`.
        source: Where the values are from, for errors.

    Raises:
        RecipeError: A key is unknown, or a value has the wrong type.
    """
    clip = content.get("clip", {}) if isinstance(content, Mapping) else None
    if isinstance(clip, Mapping):
        content = {**content, "clip": upgrade_clip_fields(clip)}
    return _parse(content, overrides, source=source)


def recipe_to_dict(recipe: Recipe, *, folder: Path | None = None) -> dict[str, Any]:
    """Return the values of a recipe as plain values for YAML or JSON, by group and key.

    Args:
        recipe: The recipe.
        folder: Folder of the file that will hold the values. Paths of module files become relative
            to it, so that both can be moved together. None keeps them.
    """
    plain = dataclasses.asdict(recipe)
    if folder is not None and ":" in recipe.model.temporal:
        from motionaware.temporal.own import relative_own

        plain["model"]["temporal"] = relative_own(recipe.model.temporal, folder)
    for group in plain.values():  # YAML and JSON have lists, not tuples
        group |= {key: list(value) for key, value in group.items() if isinstance(value, tuple)}
    return plain


def recipe_to_yaml(recipe: Recipe, *, folder: Path | None = None) -> str:
    """Return a recipe as YAML with all values, defaults included. `read_recipe` reads it back.

    `folder` is that of the file to be written, as for `recipe_to_dict`.
    """
    return yaml.safe_dump(recipe_to_dict(recipe, folder=folder), sort_keys=False)


def _parse(content: Any, overrides: Sequence[str], *, source: str) -> Recipe:
    if not isinstance(content, Mapping):
        raise RecipeError(f"{source} holds {type(content).__name__}, wanted keys such as model:")
    check_keys(Recipe, content, source)
    for override in overrides:
        check_override(Recipe, override, source=_COMMAND_LINE)
    return build_config(Recipe, content, overrides, source=source)


def build_config(
    config: type[_Config],
    content: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    source: str,
) -> _Config:
    """Build a dataclass, and the dataclasses in its fields, from plain values.

    Each value is converted on its own, so that an error can name its key and its source.

    Args:
        config: The dataclass.
        content: The values, by group and key. All keys must exist; see `check_keys`.
        overrides: Dotted, as for `read_recipe`. All keys must exist; see `check_override`.
        source: Where `content` is from, for errors.

    Raises:
        RecipeError: A value has the wrong type or is out of range.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    types = known_keys(config)
    parser = ArgumentParser(exit_on_error=False)
    for key, value_type in types.items():
        if not dataclasses.is_dataclass(value_type):
            parser.add_argument(f"--{key}", type=value_type)

    def convert(key: str, value: Any, *, source: str) -> Any:
        try:
            if value is None and type(None) not in typing.get_args(types[key]):
                raise TypeError("jsonargparse accepts None for every type")
            if source == _COMMAND_LINE:
                parsed = parser.parse_args([f"--{key}={value}"], defaults=False)
            else:
                parsed = parser.parse_object({key: value}, defaults=False)
            return parser.instantiate(parsed)[key]
        except (ArgumentError, TypeError, ValueError) as error:
            found = "null" if value is None else " ".join(str(value).split()) or repr(value)
            wanted = describe_type(types[key])
            raise RecipeError(f"{source}: {key} is {found}, wanted {wanted}") from error

    values = {key: convert(key, value, source=source) for key, value in _leaves(content, types)}
    given = {
        key: convert(key, text, source=_COMMAND_LINE) for key, text in _split_overrides(overrides)
    }
    try:
        return _instantiate(config, values | given)
    except ValueError as error:
        is_given = bool(given) and not _can_instantiate(config, given)
        raise RecipeError(f"{_COMMAND_LINE if is_given else source}: {error}") from error


def _leaves(
    content: Mapping[str, Any], types: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Iterate over the dotted keys and the values of nested groups."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        if dataclasses.is_dataclass(types[key]):
            yield from _leaves(value, types, f"{key}.")
        else:
            yield key, value


def _split_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Iterate over key and text of overrides, written `--key=value` or `--key value`.

    Raises:
        RecipeError: An argument does not start with `--`, or a key has no value.
    """
    arguments = list(overrides)
    while arguments:
        argument = arguments.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            raise RecipeError(f"{_COMMAND_LINE}: unrecognized arguments: {argument}")
        if not equals:
            if not arguments or arguments[0].startswith("--"):
                raise RecipeError(f"{_COMMAND_LINE}: argument --{key}: expected one argument")
            text = arguments.pop(0)
        yield key, text


def _instantiate(config: type[_Config], values: Mapping[str, Any], prefix: str = "") -> _Config:
    """Build a dataclass from converted values by dotted key; raises what its checks raise."""
    arguments = {}
    for name, value_type in known_keys(config).items():
        key = f"{prefix}{name}"
        if dataclasses.is_dataclass(value_type):
            assert isinstance(value_type, type)
            arguments[name] = _instantiate(value_type, values, f"{key}.")
        elif "." not in name and key in values:
            arguments[name] = values[key]
    return config(**arguments)


def _can_instantiate(config: type, values: Mapping[str, Any]) -> bool:
    try:
        _instantiate(config, values)
    except ValueError:
        return False
    return True


def describe_keys() -> str:
    """Return a text that explains each key of a recipe: type, default and meaning, by group."""
    defaults = recipe_to_dict(Recipe())
    lines: list[str] = []
    descriptions: dict[str, str] = {}
    for key, value_type in known_keys(Recipe).items():
        group, _, name = key.partition(".")
        if not name:
            lines += ["", f"{group}: {docstring_summary(value_type)}", ""]
            descriptions = field_descriptions(value_type)
            continue
        default = json.dumps(defaults[group][name]).replace('"', "")
        values = "true or false" if value_type is bool else describe_type(value_type)
        lines.append(f"  {key}   {values}; default {default}")
        lines += textwrap.indent(textwrap.fill(descriptions[name], 88), " " * 6).splitlines()
    return "\n".join(lines[1:])

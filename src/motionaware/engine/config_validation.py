"""Check the keys and values of recipes, and describe them for error messages and `--keys`."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from motionaware.errors import RecipeError
from motionaware.messages import did_you_mean


def check_fields(group: str, config: Any, **intervals: str) -> None:
    """Check the numbers of a dataclass against intervals, and its `Literal` fields.

    Args:
        group: Name of the group in the recipe, for the error.
        config: The dataclass.
        **intervals: Interval of each number by field, such as `"[1, inf)"`. None always passes.

    Raises:
        RecipeError: A number is outside its interval, or a value is not one of the choices.
    """
    for name, interval in intervals.items():
        value = getattr(config, name)
        low, high = (float(end) for end in interval[1:-1].split(","))
        inside = value is None or (
            (low <= value if interval[0] == "[" else low < value)
            and (value <= high if interval[-1] == "]" else value < high)
        )
        if not inside:
            raise RecipeError(f"{group}.{name} is {value}, wanted a number in {interval}")
    for name, value_type in typing.get_type_hints(type(config)).items():
        choices = typing.get_args(value_type) if typing.get_origin(value_type) is Literal else ()
        if choices and getattr(config, name) not in choices:
            raise RecipeError(
                f"{group}.{name} is {getattr(config, name)!r}, wanted one of {', '.join(choices)}"
            )


def known_keys(config: type, prefix: str = "") -> dict[str, Any]:
    """Return the type of each dotted key. The type of a group is its dataclass."""
    keys: dict[str, Any] = {}
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        value_type = hints[field.name]
        keys[prefix + field.name] = value_type
        if dataclasses.is_dataclass(value_type):
            assert isinstance(value_type, type)
            keys |= known_keys(value_type, f"{prefix}{field.name}.")
    return keys


def check_keys(config: type, content: Mapping[Any, Any], source: str, prefix: str = "") -> None:
    """Check that each key of nested values exists, and that each group holds keys.

    Raises:
        RecipeError: Names the key and `source`, the file.
    """
    for key, value in content.items():
        value_type = _type_of_key(config, f"{prefix}{key}", source)
        if dataclasses.is_dataclass(value_type):
            if not isinstance(value, Mapping):
                raise RecipeError(
                    f"{source}: key {prefix}{key} holds {value!r}, wanted keys below it"
                )
            check_keys(config, value, source, f"{prefix}{key}.")


def check_override(config: type, override: str, *, source: str) -> None:
    """Check that the key of an override `--key` or `--key=value` exists and is not a group.

    Raises:
        RecipeError: Names the key and `source`, for example "the command line".
    """
    if override.startswith("--"):
        key = override[2:].partition("=")[0]
        if dataclasses.is_dataclass(_type_of_key(config, key, source)):
            raise RecipeError(f"{source}: {key} is a group; give a key below it, --{key}.KEY")


def _type_of_key(config: type, key: str, source: str) -> Any:
    keys = known_keys(config)
    if key in keys:
        return keys[key]
    leaf = key.rpartition(".")[2]
    same_leaf = [known for known in keys if known.endswith(f".{leaf}")]
    groups = (known for known, kind in keys.items() if dataclasses.is_dataclass(kind))
    hint = (
        did_you_mean(key, keys)
        or did_you_mean(f".{leaf}", same_leaf)
        or f"the groups are {', '.join(groups)}; motionaware train --keys lists every key"
    )
    raise RecipeError(f"{source}: key {key} is unknown; {hint.strip()}")


def describe_type(value_type: Any) -> str:
    """Return a type in the notation of a recipe.

    >>> describe_type(int | None), describe_type(tuple[int, ...])
    ('int or null', '[int, ...]')
    """
    arguments = typing.get_args(value_type)
    if typing.get_origin(value_type) is Literal:
        return " or ".join(arguments)
    if any(typing.get_origin(argument) is Literal for argument in arguments):
        return " or ".join(describe_type(argument) for argument in arguments)
    if typing.get_origin(value_type) is dict:
        return f"{{name: {describe_type(arguments[1])}, ...}}"
    if value_type is type(None):
        return "null"
    text = value_type.__name__ if type(value_type) is type else str(value_type)
    return text.replace(" | ", " or ").replace("None", "null").replace("tuple[", "[")


def field_descriptions(config: type) -> dict[str, str]:
    """Return the text of each field in the `Attributes:` section of a dataclass's docstring.

    An entry may describe several fields, `a, b: text`.

    >>> from motionaware.clip import ClipSpec
    >>> field_descriptions(ClipSpec)["image_size"]
    'Height and width of a frame, in pixels.'
    """
    found: dict[str, str] = {}
    shared: list[str] = []
    _, _, section = inspect.cleandoc(config.__doc__ or "").partition("Attributes:\n")
    for line in section.splitlines():
        entry = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if entry:
            names, text = entry.groups()
            shared = names.split(", ")
            found |= dict.fromkeys(shared, text)
        elif line.startswith("        "):
            found |= {name: f"{found[name]} {line.strip()}" for name in shared}
    return found


def docstring_summary(config: type) -> str:
    """Return the first line of a dataclass's docstring, without its full stop."""
    return inspect.cleandoc(config.__doc__ or "").partition("\n")[0].rstrip(".")

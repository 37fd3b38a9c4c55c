"""Keys: the dotted names of a recipe's fields, and what each of them may hold."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from motionaware.errors import RecipeError
from motionaware.messages import did_you_mean


def check_fields(group: str, config: Any, **intervals: str) -> None:
    """Refuse what lies outside its interval, `[1, inf)` for example, or is no choice of a Literal.

    None passes: a field that may be null is switched off by it.
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
    for name, kind in typing.get_type_hints(type(config)).items():
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        if choices and getattr(config, name) not in choices:
            raise RecipeError(
                f"{group}.{name} is {getattr(config, name)!r}, wanted one of {', '.join(choices)}"
            )


def known_keys(config: type, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a recipe with the type of its value; a group's is its dataclass."""
    keys: dict[str, Any] = {}
    hints = typing.get_type_hints(config)
    for one in dataclasses.fields(config):
        kind = hints[one.name]
        keys[prefix + one.name] = kind
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            keys |= known_keys(kind, f"{prefix}{one.name}.")
    return keys


def check_keys(config: type, content: Mapping[Any, Any], source: str, prefix: str = "") -> None:
    """Refuse a key that names no field, and a group that holds no keys."""
    for key, value in content.items():
        kind = _check_key(config, f"{prefix}{key}", source)
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise RecipeError(
                    f"{source}: key {prefix}{key} holds {value!r}, wanted keys below it"
                )
            check_keys(config, value, source, f"{prefix}{key}.")


def check_override(config: type, override: str, *, source: str) -> None:
    """Refuse `--key` or `--key=value` where the key names no field; `source` says who gave it."""
    if override.startswith("--"):
        key = override[2:].partition("=")[0]
        if dataclasses.is_dataclass(_check_key(config, key, source)):
            raise RecipeError(f"{source}: {key} is a group; give a key below it, --{key}.KEY")


def _check_key(config: type, key: str, source: str) -> Any:
    keys = known_keys(config)
    if key in keys:
        return keys[key]
    leaf = key.rpartition(".")[2]
    same_leaf = [one for one in keys if one.endswith(f".{leaf}")]
    groups = (one for one, kind in keys.items() if dataclasses.is_dataclass(kind))
    hint = (
        did_you_mean(key, keys)
        or did_you_mean(f".{leaf}", same_leaf)
        or f"the groups are {', '.join(groups)}; motionaware train --keys lists every key"
    )
    raise RecipeError(f"{source}: key {key} is unknown; {hint.strip()}")


def kind_words(kind: Any) -> str:
    """A type as a person would write it in a recipe."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(typing.get_args(kind))
    if any(typing.get_origin(one) is Literal for one in typing.get_args(kind)):
        return " or ".join(kind_words(one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is dict:
        return f"{{name: {kind_words(typing.get_args(kind)[1])}, ...}}"
    if kind is type(None):
        return "null"
    words = kind.__name__ if type(kind) is type else str(kind)
    return words.replace(" | ", " or ").replace("None", "null").replace("tuple[", "[")


def explanations(config: type) -> dict[str, str]:
    """What each field of a dataclass means, from the `Attributes:` section of its docstring.

    Several fields may share an entry, `a, b: meaning`.

    >>> from motionaware.clip import ClipSpec
    >>> explanations(ClipSpec)["image_size"]
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


def summary(config: type) -> str:
    """The first line of a dataclass's docstring, without its full stop."""
    return inspect.cleandoc(config.__doc__ or "").partition("\n")[0].rstrip(".")

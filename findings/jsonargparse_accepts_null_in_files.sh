#!/usr/bin/env bash
# jsonargparse 4.53.0: null in a config file passes for a key whose type is int; on the command line it is refused.
#
# Expected: `epochs: int = 3` refuses null wherever it comes from, or takes it as "not given" and keeps 3.
# Behaviour: parse_object, which reads the content of a config file, validates and returns None for the key. An empty
# YAML value (`epochs:`) is null, so a key that was left blank replaces the default by None without an error. The same
# value on the command line (--epochs=null) is refused with "Expected a <class 'int'>".
# Output: parse_object gives epochs=None; --epochs=null is refused; the word "many" is refused in both.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jsonargparse==4.53.0 pyyaml
"$folder/venv/bin/python" <<'P'
from dataclasses import dataclass

from jsonargparse import ArgumentError, ArgumentParser


@dataclass
class Config:
    epochs: int = 3


parser = ArgumentParser(exit_on_error=False)
parser.add_class_arguments(Config)


def is_refused(parse, value):
    try:
        parse(value)
    except (ArgumentError, TypeError):
        return True
    return False


found = parser.parse_object({"epochs": None}).epochs
refused = {
    "file, many": is_refused(parser.parse_object, {"epochs": "many"}),
    "command line, null": is_refused(parser.parse_args, ["--epochs=null"]),
    "command line, many": is_refused(parser.parse_args, ["--epochs=many"]),
}
print(f"file, null: epochs={found!r}; refused: {refused}")
assert found is None and all(refused.values())
P

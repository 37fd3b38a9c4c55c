"""The house of docs/architecture.md: each line knows its room."""

import ast
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import motionaware
from motionaware.models.site_hooks import sites

SOURCE = Path(__file__).parents[1] / "src" / "motionaware"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]


def imports(name: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((SOURCE / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def calls(name: str) -> set[str]:
    """Names of functions and methods that are called: `print`, `.view`."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / name).read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                found.add(function.id)
            elif isinstance(function, ast.Attribute):
                found.add(f".{function.attr}")
    return found


def arguments(name: str) -> set[str]:
    """String constants that are handed to a call, such as einops patterns."""
    return {
        argument.value
        for node in ast.walk(ast.parse((SOURCE / name).read_text()))
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def importing(*modules: str) -> Callable[[str], bool]:
    return lambda name: any(
        one == module or one.startswith(f"{module}.") for one in imports(name) for module in modules
    )


def calling(*functions: str) -> Callable[[str], bool]:
    return lambda name: bool(calls(name) & set(functions))


def saying(*words: str) -> Callable[[str], bool]:
    return lambda name: any(word in one for one in arguments(name) for word in words)


# What a line does -> the rooms in which it may.
ROOMS = {
    "time and batch share an axis": (saying("(b t)"), ["ops/layout.py"]),
    "print, exit": (calling("print", "exit"), ["cli/", "__main__.py"]),
    "timm": (importing("timm"), ["models/backbones.py"]),
    "torchvision.models": (importing("torchvision.models"), ["models/backbones.py"]),
    "decoders": (importing("av", "torchcodec"), ["data/video/"]),
    "yaml": (importing("yaml", "jsonargparse"), ["engine/config_io.py"]),
    "a change to someone's network": (
        calling(".add_module", ".set_submodule", ".register_forward_pre_hook"),
        ["models/insertion.py", "models/site_hooks.py"],
    ),
    "a hook that looks": (
        calling(".register_forward_hook"),
        ["explain/activations.py", "models/insertion.py", "models/site_hooks.py"],
    ),
    "pictures": (importing("matplotlib"), ["apps/", "explain/", "report/"]),
    "fake tensors": (importing("torch._subclasses"), ["models/fake_tensors.py"]),
    "blind reshapes": (calling(".view", ".reshape"), []),
    "draws of chance": (calling(".randint", ".rand", ".randperm", ".manual_seed"), ["data/"]),
}
EXCEPTIONS = {
    # Its witnesses stand in a copy of the network whose tensors are fake; the network has none.
    ("a change to someone's network", "models/shape_tracing.py"),
    ("a hook that looks", "models/shape_tracing.py"),
    # It stops a copy of the network, which shares its parameters, at one layer.
    ("a change to someone's network", "models/token_order.py"),
    # A run's own seed: of initial weights and dropout.
    ("draws of chance", "engine/train.py"),
    # Reads a tensor's bytes for a checksum: .view(torch.uint8) changes the dtype, not the axes.
    ("blind reshapes", "models/weights.py"),
}


@pytest.mark.parametrize("what", ROOMS)
def test_each_line_is_in_its_room(what):
    does, rooms = ROOMS[what]
    strays = [
        name
        for name in NAMES
        if does(name)
        and not any(name.startswith(room) for room in rooms)
        and (what, name) not in EXCEPTIONS
    ]
    assert not strays


@pytest.mark.parametrize("what", [what for what, (_, rooms) in ROOMS.items() if rooms])
def test_the_rule_finds_what_it_looks_for(what):
    does, _ = ROOMS[what]
    assert any(does(name) for name in NAMES)


def test_what_insert_s_example_calls_and_type_checkers_see_is_public():
    assert motionaware.sites is sites
    seen = {name for name in imports("__init__.py") if name.startswith("motionaware.")}
    for name in motionaware.__all__:
        assert any(one.rpartition(".")[2] == name for one in seen), name
        getattr(motionaware, name)


def test_the_architecture_page_lists_every_file_with_its_first_line():
    script = runpy.run_path(str(SOURCE.parents[1] / "scripts" / "architecture-page"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["updated_page"](), "run scripts/architecture-page"

"""Rules of docs/architecture.md: which files may contain which kind of code."""

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
    """Return the names of called functions and methods, such as `print` and `.view`."""
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
    """Return string constants that are arguments of calls, such as einops patterns."""
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


def with_argument(*texts: str) -> Callable[[str], bool]:
    return lambda name: any(text in value for value in arguments(name) for text in texts)


# Kind of code -> how to detect it, and the paths that may contain it.
RULES = {
    "a joint axis of time and batch": (with_argument("(b t)"), ["ops/layout.py"]),
    "print and exit": (calling("print", "exit"), ["cli/", "__main__.py"]),
    "import of timm": (importing("timm"), ["models/backbones.py"]),
    "import of torchvision.models": (importing("torchvision.models"), ["models/backbones.py"]),
    "import of decoders": (importing("av", "torchcodec"), ["data/video/"]),
    "import of yaml": (importing("yaml", "jsonargparse"), ["engine/config_io.py"]),
    "a change to a user's network": (
        calling(".add_module", ".set_submodule", ".register_forward_pre_hook"),
        ["models/insertion.py", "models/site_hooks.py"],
    ),
    "a forward hook": (
        calling(".register_forward_hook"),
        ["explain/activations.py", "models/insertion.py", "models/site_hooks.py"],
    ),
    "import of matplotlib": (importing("matplotlib"), ["apps/", "explain/", "report/"]),
    "fake tensors": (importing("torch._subclasses"), ["models/fake_tensors.py"]),
    "a reshape without axis names": (calling(".view", ".reshape"), []),
    "a random draw": (calling(".randint", ".rand", ".randperm", ".manual_seed"), ["data/"]),
}
EXCEPTIONS = {
    # It changes and hooks a copy of the network, whose tensors are fake.
    ("a change to a user's network", "models/shape_tracing.py"),
    ("a forward hook", "models/shape_tracing.py"),
    # It changes a copy of the network that shares its parameters.
    ("a change to a user's network", "models/token_order.py"),
    # It seeds initial weights and dropout.
    ("a random draw", "engine/train.py"),
    # Reads a tensor's bytes for a checksum: .view(torch.uint8) changes the dtype, not the axes.
    ("a reshape without axis names", "models/weights.py"),
}


@pytest.mark.parametrize("kind", RULES)
def test_each_kind_of_code_is_only_in_its_files(kind):
    contains, allowed = RULES[kind]
    misplaced = [
        name
        for name in NAMES
        if contains(name)
        and not any(name.startswith(path) for path in allowed)
        and (kind, name) not in EXCEPTIONS
    ]
    assert not misplaced


@pytest.mark.parametrize("kind", [kind for kind, (_, allowed) in RULES.items() if allowed])
def test_each_rule_detects_code_in_its_files(kind):
    contains, _ = RULES[kind]
    assert any(contains(name) for name in NAMES)


def test_public_names_can_be_imported_and_are_declared_for_type_checkers():
    assert motionaware.sites is sites
    declared = {name for name in imports("__init__.py") if name.startswith("motionaware.")}
    for name in motionaware.__all__:
        assert any(path.rpartition(".")[2] == name for path in declared), name
        getattr(motionaware, name)


def test_the_architecture_page_lists_every_file_with_its_first_line():
    script = runpy.run_path(str(SOURCE.parents[1] / "scripts" / "architecture-page"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["updated_page"](), "run scripts/architecture-page"

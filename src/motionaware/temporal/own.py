"""Finds and imports a user's own temporal modules: classes and functions in files and packages.

| name | meaning |
|---|---|
| `mix.py:Mix` | `Mix` in the file `mix.py`; the path may be relative, absolute, or begin with `~` |
| `my_package.mix:Mix` | `Mix` in an importable module |
| `code/my_package.mix:Mix` | the same, where the folder `code` holds `my_package` |

`find_own` makes relative paths absolute; recipes and checkpoints call it with their own folder.
This is the only file that imports a user's code, and only `import_own` does so. own_maker.py calls
the code.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.temporal.grammar import Term, split_terms


def names_own_code(temporal: str) -> bool:
    """Return True if a temporal name has a term that imports a user's file or module.

    >>> names_own_code("m2a,tsm"), names_own_code("tsm,mix.py:Mix")
    (False, True)
    """
    return any(term.attribute is not None for term in split_terms(temporal))


def find_own(temporal: str, folders: Sequence[str | Path] = (".",)) -> str:
    """Return the temporal name with absolute paths to its files; other terms do not change.

    Args:
        temporal: A temporal name.
        folders: Start folders of relative paths; the first one that holds the file is used.

    Raises:
        UsageError: A file or module is in none of the folders; the message lists them.
    """
    return _map_own_terms(
        temporal, lambda reference: _find(reference, [Path(one) for one in folders])
    )


def relative_own(temporal: str, folder: str | Path) -> str:
    """Return the temporal name with paths relative to a folder, for files that lie in that folder.

    A path stays absolute where no relative path exists (another drive on Windows).
    """

    def shorten(reference: str) -> str:
        if not os.path.isabs(reference):  # noqa: PTH117 - knows Windows paths on Windows
            return reference
        try:
            return Path(os.path.relpath(reference, folder)).as_posix()
        except ValueError:
            return reference

    return _map_own_terms(temporal, shorten)


def short_name(temporal: str) -> str:
    """Return the temporal name without the folders of its files, for tables and messages.

    >>> short_name("/home/me/exp/mix.py:Mix(kernel=5),tsm")
    'mix.py:Mix(kernel=5),tsm'
    """
    return _map_own_terms(temporal, lambda reference: re.split(r"[/\\]", reference)[-1])


def own_digests(temporal: str) -> dict[str, str]:
    """Return the SHA-256 of the source of each own module by its short name, without importing it.

    Installed packages are left out.

    Args:
        temporal: A temporal name with absolute paths; see `find_own`.
    """
    digests = {}
    for term in split_terms(temporal):
        source = None if term.attribute is None else _source_of(term.names)
        if source is not None:
            content = source.read_bytes()
            digests[short_name(f"{term.names}:x")[:-2]] = hashlib.sha256(content).hexdigest()
    return digests


def import_own(term: Term) -> Any:
    """Import and return the class or function that a term names.

    A file is executed once per content, with its folder on Python's path.

    Raises:
        UsageError: The file, the module or the name in it does not exist, or its code raises an
            error; the message then gives file and line.
    """
    assert term.attribute is not None
    reference = _find(term.names, [Path.cwd()])
    try:
        module = (
            _import_file(Path(reference))
            if reference.endswith(".py")
            else _import_dotted(reference)
        )
    except (Exception, SystemExit) as error:
        raise UsageError(f"temporal {term}: {_describe_with_line(error, reference)}") from error
    _check_imported_from(reference, module)
    found: Any = module
    for part in term.attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(
                f"temporal {term}: {reference} has no {part!r}; {_known_names(found, part)}"
            )
        found = getattr(found, part)
    return found


def _map_own_terms(temporal: str, change: Callable[[str], str]) -> str:
    """Apply a function to the path of each own module in a temporal name."""
    terms = split_terms(temporal)
    if all(term.attribute is None for term in terms):
        return temporal
    return ",".join(
        str(term if term.attribute is None else term._replace(names=change(term.names)))
        for term in terms
    )


# ------------------------------------------------------------------------------------------ finding


def _find(reference: str, folders: Sequence[Path]) -> str:
    """Return the absolute path of a file; for a dotted path in a folder `FOLDER/package.module`."""
    subfolder, module = _split_folder(reference)
    places = list(dict.fromkeys(_absolute(folder / subfolder) for folder in folders))
    if module.endswith(".py"):
        for folder in places:
            if (folder / module).is_file():
                return str(folder / module)
        raise _absent(reference, [folder / module for folder in places])
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(
            f"temporal {reference!r} names no Python code; write FILE.py:CLASS, such as "
            "mix.py:Mix, or PACKAGE.MODULE:CLASS, such as my_package.mix:Mix"
        )
    for folder in places:
        if _source_in(folder, module) is not None:
            return str(folder / module)
    if str(subfolder) == "." and _is_installed(module.partition(".")[0]):
        return module
    tail = module.replace(".", "/") + ".py"
    raise _absent(reference, [folder / tail for folder in places])


def _split_folder(reference: str) -> tuple[Path, str]:
    """Split `a/b/mix.py` into `a/b` and `mix.py`; `a/b/pkg.mix` into `a/b` and `pkg.mix`."""
    path = Path(reference).expanduser()
    return path.parent, path.name


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - removes `..`, keeps links


def _absent(reference: str, searched: Sequence[Path]) -> UsageError:
    kind = "file" if reference.endswith(".py") else "module"
    return UsageError(
        f"temporal names the {kind} {reference}, which does not exist; looked for "
        f"{' and '.join(map(str, searched))}"
        f"{'' if kind == 'file' else ', and among the installed packages'}. Paths are relative to "
        "the folder of the file that contains them, or to the working folder"
    )


def _source_in(folder: Path, module: str) -> Path | None:
    path = folder.joinpath(*module.split("."))
    for source in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if source.is_file():
            return source
    return None


def _source_of(reference: str) -> Path | None:
    """Return the source file of what `_find` returned; None for an installed package."""
    folder, module = _split_folder(reference)
    if module.endswith(".py"):
        return folder / module
    return None if str(folder) == "." else _source_in(folder, module)


def _is_installed(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


# ---------------------------------------------------------------------------------------- importing


class _SourceLoader(SourceFileLoader):
    """Reads the source each time, since cached bytecode may be older, and writes no bytecode."""

    def path_stats(self, path: Any) -> Any:
        raise OSError


def _import_file(path: Path) -> ModuleType:
    digest = hashlib.sha256(os.fsencode(path) + b"\0" + path.read_bytes()).hexdigest()[:12]
    name = f"motionaware_own_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_SourceLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle and dataclasses read it there
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_dotted(reference: str) -> ModuleType:
    folder, name = _split_folder(reference)
    if str(folder) == ".":
        return importlib.import_module(name)
    with _on_path(folder):
        importlib.invalidate_caches()  # the file may be newer than Python's cached listing
        return importlib.import_module(name)


def _check_imported_from(reference: str, module: ModuleType) -> None:
    """Check that a module in a folder is not another one with the same name.

    Raises:
        UsageError: This process imported the other one before.
    """
    wanted, imported = _source_of(reference), getattr(module, "__file__", None)
    if wanted is not None and (imported is None or not wanted.samefile(imported)):
        raise UsageError(
            f"temporal names {wanted}, but this process has imported {module.__name__} from "
            f"{imported}; rename one of the two packages"
        )


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _describe_with_line(error: BaseException, reference: str) -> str:
    """Return `FILE, line N: TYPE: MESSAGE`, with the last executed line of the user's file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    message = f"{type(error).__name__}: {error}"
    source = str(_source_of(reference))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == source:
            if isinstance(error, ImportError) and (frame.line or "").startswith("from ."):
                message += "; name the module by its package, such as my_package.mix:Mix"
            return f"{source}, line {frame.lineno}: {message}"
    return f"{reference}: {message}"


def _known_names(found: Any, part: str) -> str:
    """Return a hint that names similar, or all, classes and functions of a module or class."""
    known = [name for name in vars(found) if not name.startswith("_")]
    if hint := did_you_mean(part, known):
        return hint.strip()
    defined = [
        name
        for name in known
        if getattr(getattr(found, name), "__module__", "") == getattr(found, "__name__", None)
    ]
    if not defined:
        return "it defines no class and no function"
    return f"it defines {', '.join(defined)}"

"""Own modules: a class or function in a user's file or package, as a temporal module.

| written | means |
|---|---|
| `mix.py:Mix` | `Mix` in the file `mix.py`; the path may be relative, absolute, or begin with `~` |
| `my_package.mix:Mix` | `Mix` in an importable module |
| `code/my_package.mix:Mix` | the same, where the folder `code` holds `my_package` |

`find_own` replaces relative paths by absolute ones; recipes and checkpoints do that from their own
folder. This is the only file that imports code of a user. Nothing is imported before `import_own`.
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

from motionaware.errors import OWN_CODE_MARK
from motionaware.messages import did_you_mean
from motionaware.temporal.grammar import Written, split_terms


def names_own_code(temporal: str) -> bool:
    """Whether a temporal name has a term that imports a file or module of a user.

    >>> names_own_code("m2a,tsm"), names_own_code("tsm,mix.py:Mix")
    (False, True)
    """
    return any(term.attribute is not None for term in split_terms(temporal))


def find_own(temporal: str, folders: Sequence[str | Path] = (".",)) -> str:
    """Give the same name with the absolute paths of its files; other terms are kept.

    Args:
        temporal: A temporal name.
        folders: Where relative paths begin; the first folder that holds the file is taken.

    Raises:
        ValueError: A file or module is in none of these places; all of them are listed.
    """
    return _each_own(temporal, lambda names: _find(names, [Path(one) for one in folders]))


def relative_own(temporal: str, folder: str | Path) -> str:
    """Give the same name with paths relative to a folder, as files in that folder record it.

    A path stays absolute where no relative one exists (another drive of Windows).
    """

    def shorten(names: str) -> str:
        if not os.path.isabs(names):  # noqa: PTH117 - of Windows, too, where it is
            return names
        try:
            return Path(os.path.relpath(names, folder)).as_posix()
        except ValueError:
            return names

    return _each_own(temporal, shorten)


def short_name(temporal: str) -> str:
    """Give the same name without the folders of its files, for tables and messages.

    >>> short_name("/home/me/exp/mix.py:Mix(kernel=5),tsm")
    'mix.py:Mix(kernel=5),tsm'
    """
    return _each_own(temporal, lambda names: re.split(r"[/\\]", names)[-1])


def own_digests(temporal: str) -> dict[str, str]:
    """Give the SHA-256 of the source of each own module, by its short name; imports nothing.

    Installed packages are left out. `temporal` has absolute paths; see `find_own`.
    """
    digests = {}
    for term in split_terms(temporal):
        source = None if term.attribute is None else _source_of(term.names)
        if source is not None:
            content = source.read_bytes()
            digests[short_name(f"{term.names}:x")[:-2]] = hashlib.sha256(content).hexdigest()
    return digests


def import_own(term: Written) -> Any:
    """Import what a term names.

    A file is run once for each content; its folder is on Python's path while it is run.

    Raises:
        ValueError: It does not exist, its code raises an error, or it holds no such name; the
            message gives file and line.
    """
    assert term.attribute is not None
    names = _find(term.names, [Path.cwd()])
    try:
        module = _import_file(Path(names)) if names.endswith(".py") else _import_dotted(names)
    except (Exception, SystemExit) as error:
        if isinstance(error, _OwnError):
            raise
        raise _OwnError(f"temporal {term}: {_place_and_words(error, names)}") from error
    found: Any = module
    for part in term.attribute.split("."):
        if not hasattr(found, part):
            raise _OwnError(f"temporal {term}: {names} has no {part!r}; {_candidates(found, part)}")
        found = getattr(found, part)
    return found


class _OwnError(ValueError):
    """An own module cannot be had; the words are for the user."""


def _each_own(temporal: str, change: Callable[[str], str]) -> str:
    terms = split_terms(temporal)
    if all(term.attribute is None for term in terms):
        return temporal
    return ",".join(
        str(term if term.attribute is None else term._replace(names=change(term.names)))
        for term in terms
    )


# ------------------------------------------------------------------------------------------ finding


def _find(names: str, folders: Sequence[Path]) -> str:
    """The absolute path of a file; of a dotted path in a folder, `FOLDER/package.module`."""
    folder, module = _part(names)
    places = list(dict.fromkeys(_absolute(one / folder) for one in folders))
    if module.endswith(".py"):
        for place in places:
            if (place / module).is_file():
                return str(place / module)
        _refuse_absent(names, [place / module for place in places])
    if not all(part.isidentifier() for part in module.split(".")):
        raise _OwnError(
            f"temporal {names!r} names no Python code; write FILE.py:CLASS, such as mix.py:Mix, or "
            "PACKAGE.MODULE:CLASS, such as my_package.mix:Mix"
        )
    for place in places:
        if _source_in(place, module) is not None:
            return str(place / module)
    if str(folder) == "." and _is_installed(module.partition(".")[0]):
        return module
    tail = module.replace(".", "/") + ".py"
    return _refuse_absent(names, [place / tail for place in places])


def _part(names: str) -> tuple[Path, str]:
    """`a/b/mix.py` -> (`a/b`, `mix.py`); `a/b/package.mix` -> (`a/b`, `package.mix`)."""
    path = Path(names).expanduser()
    return path.parent, path.name


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - `..` goes, links stay


def _refuse_absent(names: str, places: Sequence[Path]) -> str:
    kind = "file" if names.endswith(".py") else "module"
    raise _OwnError(
        f"temporal names the {kind} {names}, which does not exist; looked for "
        f"{' and '.join(map(str, places))}"
        f"{'' if kind == 'file' else ', and among the installed packages'}. Paths begin at the "
        "folder of the file that names them, or at the working folder"
    )


def _source_in(folder: Path, module: str) -> Path | None:
    path = folder.joinpath(*module.split("."))
    for source in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if source.is_file():
            return source
    return None


def _source_of(names: str) -> Path | None:
    """The source of an own module that `_find` found; None for an installed package."""
    folder, module = _part(names)
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
    """Reads the source each time: a cached bytecode file may be older, and none is left behind."""

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
    setattr(module, OWN_CODE_MARK, True)
    sys.modules[name] = module  # pickle and dataclasses look there
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_dotted(names: str) -> ModuleType:
    folder, name = _part(names)
    if str(folder) == ".":
        module = importlib.import_module(name)
    else:
        with _on_path(folder):
            importlib.invalidate_caches()  # the file may be younger than Python's listing
            module = importlib.import_module(name)
        wanted, there = _source_in(folder, name), getattr(module, "__file__", None)
        if wanted is not None and (there is None or not wanted.samefile(there)):
            raise _OwnError(
                f"temporal names {wanted}, but this process has imported {name} from {there}; "
                "rename one of the two packages"
            )
    setattr(module, OWN_CODE_MARK, True)
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _place_and_words(error: BaseException, names: str) -> str:
    """`mix.py, line 3: NameError: ...`, of the last line in the user's code that was run."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    if "relative import" in str(error):
        words += "; name the module by its package, such as my_package.mix:Mix"
    source = _source_of(names)
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if source is not None and frame.filename == str(source):
            return f"{frame.filename}, line {frame.lineno}: {words}"
    return f"{names}: {words}"


def _candidates(found: Any, part: str) -> str:
    known = [name for name in vars(found) if not name.startswith("_")]
    own = [
        name
        for name in known
        if getattr(getattr(found, name), "__module__", "") == getattr(found, "__name__", None)
    ]
    if hint := did_you_mean(part, known):
        return hint.strip()
    return f"it defines {', '.join(own)}" if own else "it defines no class and no function"

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from motionaware.errors import UsageError
from motionaware.temporal.names import is_causal, site_maker
from motionaware.temporal.own import find_own, names_own_code, own_digests, relative_own, short_name

MIX = """
from torch import nn

class Mix(nn.Module):
    def __init__(self, *, channels, num_frames, kernel=3, mode="mean"):
        super().__init__()
        self.arguments = (channels, num_frames, kernel, mode)
    def forward(self, clips):
        return clips

class Block:
    Inner = Mix

def small(channels):
    return Mix(channels=channels, num_frames=1)

instance = Mix(channels=1, num_frames=1)
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the file mix.py."""
    (tmp_path / "mix.py").write_text(MIX)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(temporal: str, **options) -> Any:
    maker = site_maker(temporal, **options)
    assert maker is not None
    return maker(channels=16, num_frames=4)


@pytest.mark.parametrize(
    ("temporal", "arguments"),
    [
        ("mix.py:Mix", (16, 4, 3, "mean")),
        ("mix.py:Mix(kernel=5, mode=max)", (16, 4, 5, "max")),
        ("mix.py:Mix(kernel=(1, 3))", (16, 4, (1, 3), "mean")),
        ("./mix.py : Mix( kernel = 5 )", (16, 4, 5, "mean")),
        ("mix.py:Block.Inner", (16, 4, 3, "mean")),
        ("mix.py:small", (16, 1, 3, "mean")),
    ],
)
def test_a_class_or_function_in_a_file_gets_its_keywords_and_options(folder, temporal, arguments):
    assert made(temporal).arguments == arguments


@pytest.mark.parametrize(
    "name", ["with blank/mix.py", "a (copy)/mix.py", "a/../mix.py", "x+y/mix.py", "模/mix.py"]
)
def test_a_path_may_contain_blanks_brackets_dots_and_any_script(folder, name):
    path = folder / name
    for parent in ("a", path.parent):
        (folder / parent).mkdir(exist_ok=True)
    path.write_text(MIX)
    assert made(f"{name}:Mix(kernel=5)").arguments[2] == 5
    assert made(f"{path}:Mix").arguments[2] == 3


def test_own_modules_join_others_by_a_comma(folder):
    joined = made("m2a(reduction=2),mix.py:Mix(kernel=5),tsm,mix.py:small")
    assert isinstance(joined, nn.Sequential)
    assert [type(one).__name__ for one in joined][::2] == ["Gate", "TemporalShift"]
    assert joined[1].arguments == (16, 4, 5, "mean")


def test_own_modules_do_not_join_by_a_plus(folder):
    with pytest.raises(ValueError, match="join your own modules by ',' only"):
        site_maker("mix.py:Mix+attention")


def test_a_dotted_path_is_found_in_the_working_folder_and_imports_its_package(folder):
    package = folder / "package_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(MIX)
    (package / "mix.py").write_text("from .parts import Mix")
    assert made("package_of_a_test.mix:Mix(kernel=7)").arguments[2] == 7
    assert str(folder) not in sys.path


def test_a_dotted_path_may_name_an_installed_package():
    assert isinstance(made("torch.nn:Identity"), nn.Identity)


def test_a_package_with_the_name_of_an_imported_one_is_an_error(folder):
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "module_of_a_test.py").write_text(MIX)
    made("one/module_of_a_test:Mix")
    with pytest.raises(ValueError, match="this process has imported module_of_a_test from"):
        made("two/module_of_a_test:Mix")


def test_a_file_may_import_its_neighbours_and_sys_path_is_restored(folder):
    (folder / "helper_of_a_test.py").write_text("KERNEL = 9")
    (folder / "uses.py").write_text(
        "from helper_of_a_test import KERNEL\n" + MIX.replace("kernel=3", "kernel=KERNEL")
    )
    before = list(sys.path)
    assert made("uses.py:Mix").arguments[2] == 9
    assert sys.path == before
    assert not (folder / "__pycache__" / "uses.cpython-311.pyc").exists()


def test_a_file_is_executed_once_per_content(folder):
    file = folder / "mix.py"
    note = "\nfrom pathlib import Path\nPath('runs').write_text(Path('runs').read_text() + 'x')"
    (folder / "runs").write_text("")
    file.write_text(MIX + note)
    made("mix.py:Mix")
    made("mix.py:Mix")
    assert (folder / "runs").read_text() == "x"
    stamp = file.stat().st_mtime_ns
    file.write_text((MIX + note).replace("kernel=3", "kernel=5"))  # same length and time as before
    os.utime(file, ns=(stamp, stamp))
    assert made("mix.py:Mix").arguments[2] == 5


def test_a_module_from_a_file_can_be_pickled(folder):
    module = made("mix.py:Mix")
    assert pickle.loads(pickle.dumps(module)).arguments == module.arguments


@pytest.mark.parametrize(
    ("temporal", "message"),
    [
        ("mix.py:Mux", "mix.py has no 'Mux'; did you mean 'Mix'"),
        ("mix.py:Gate", "it defines Mix, Block, small"),
        ("mix.py:Block.Other", "has no 'Other'"),
        (
            "mix.py:instance",
            "temporal is a Mix instance, wanted a callable that makes one module per site",
        ),
        ("mix.py:number", "is 3, a int; wanted a class or a function"),
        ("mix.py:Mix(kern=5)", "has no option 'kern'; its options are kernel, mode"),
        ("mix.py:Mix(channels=5)", "has no option 'channels'"),
        ("mix.py:Mix(5)", "options of temporal 'mix.py:Mix' cannot be parsed"),
        ("absent.py:Mix", "names the file absent.py, which does not exist; looked for"),
        ("no_such.package:Mix", "names the module no_such.package, which does not exist"),
        (r"C:\code\mix.py:Mix", "does not exist; looked for"),
        ("my-code:Mix", "names no Python code; write FILE.py:CLASS, such as mix.py:Mix"),
        ("mix.txt/:Mix", "mix.txt"),
        ("mix.py:", "cannot be parsed from"),
        ("mix.py", "cannot be parsed from"),
    ],
)
def test_code_that_cannot_be_found_is_an_error_that_says_what_to_do(folder, temporal, message):
    with pytest.raises(UsageError) as error:
        made(temporal)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Mix(\n", "bad.py, line 1: SyntaxError"),
        (
            "x = 1\nimport no_such_library\n",
            "line 2: ModuleNotFoundError: No module named 'no_such",
        ),
        ("\n\nraise RuntimeError('no luck')", "bad.py, line 3: RuntimeError: no luck"),
        ("import sys\nsys.exit(2)", "bad.py, line 2: SystemExit"),
        ("from .parts import Mix", "name the module by its package, such as my_package.mix:Mix"),
    ],
)
def test_an_error_while_a_file_is_imported_names_file_and_line(folder, code, message):
    (folder / "bad.py").write_text(code)
    with pytest.raises(UsageError) as error:
        made("bad.py:Mix")
    assert message in str(error.value)


def test_own_code_must_have_the_keyword_causal_to_be_causal(folder):
    (folder / "past.py").write_text(
        MIX.replace("num_frames, kernel=3", "num_frames, causal=False, kernel=3")
    )
    assert is_causal("past.py:Mix(causal=true)")
    assert not is_causal("past.py:Mix")
    made("past.py:Mix", causal=True)
    with pytest.raises(ValueError, match="mix.py:Mix has no keyword 'causal'"):
        made("mix.py:Mix", causal=True)


def test_a_class_can_replace_the_code_that_a_name_refers_to():
    joined = made("absent.py:Mix(p=0.25),tsm", own=nn.Dropout)
    assert isinstance(joined, nn.Sequential)
    assert isinstance(joined[0], nn.Dropout) and joined[0].p == 0.25
    assert torch.equal(joined[0].eval()(torch.ones(1)), torch.ones(1))


def test_the_first_folder_that_holds_a_file_is_used(folder):
    other = folder / "other"
    other.mkdir()
    (other / "mix.py").write_text(MIX)
    assert find_own("tsm,mix.py:Mix", [other, folder]) == f"tsm,{other / 'mix.py'}:Mix"
    assert find_own("mix.py:Mix", [folder / "absent", folder]) == f"{folder / 'mix.py'}:Mix"
    assert find_own("m2a ,tsm") == "m2a ,tsm"
    with pytest.raises(ValueError, match=f"{other / 'no.py'} and {folder / 'no.py'}"):
        find_own("no.py:Mix", [other, folder])


def test_recorded_paths_are_relative_and_short_names_have_no_folder(folder):
    found = find_own("mix.py:Mix(kernel=5),tsm")
    recorded = relative_own(found, folder / "runs" / "first")
    assert recorded == "../../mix.py:Mix(kernel=5),tsm"
    assert find_own(recorded, [folder / "runs" / "first"]) == found
    assert short_name(found) == "mix.py:Mix(kernel=5),tsm"
    assert short_name(r"C:\code\mix.py:Mix") == "mix.py:Mix"


def test_digests_depend_on_the_source_and_import_nothing(folder):
    (folder / "mix.py").write_text("raise RuntimeError")
    first = own_digests(find_own("mix.py:Mix,tsm"))
    (folder / "mix.py").write_text("raise ValueError")
    assert first.keys() == {"mix.py"}
    assert own_digests(find_own("mix.py:Mix")) != first
    assert own_digests("torch.nn:Identity") == {}


def test_only_names_with_a_colon_refer_to_code():
    assert not names_own_code("none")
    assert not names_own_code("motion+attention(reduction=4),tsm")
    assert names_own_code("torch.nn:Identity")

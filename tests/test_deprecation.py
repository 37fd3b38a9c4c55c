import importlib
import inspect

import pytest

import motionaware
from motionaware.deprecation import renamed_keyword


@renamed_keyword("tell", "log")
def work(amount: int, *, log: str = "") -> tuple[int, str]:
    """Return the arguments."""
    return amount, log


def test_the_old_keyword_works_and_warns():
    with pytest.warns(DeprecationWarning, match=r"work\(\): the keyword 'tell' is now 'log'"):
        assert work(1, tell="a") == (1, "a")  # type: ignore[call-arg]


def test_the_new_keyword_does_not_warn():
    assert work(1, log="a") == (1, "a")
    assert work(2) == (2, "")


def test_both_keywords_are_refused():
    with pytest.raises(TypeError, match=r"work\(\) got both 'tell' and 'log'"):
        work(1, tell="a", log="b")  # type: ignore[call-arg]


def test_the_signature_and_the_docstring_of_the_function_are_kept():
    assert list(inspect.signature(work).parameters) == ["amount", "log"]
    assert work.__doc__ == "Return the arguments."


@pytest.mark.parametrize(
    ("module", "name", "home"),
    [
        ("data.video", "open_video", "data.video.open"),
        ("data.video", "VideoError", "errors"),
        ("data.annotations", "read_split", "data.annotations.table"),
        ("engine.config", "read_recipe", "engine.config_io"),
        ("temporal", "site_maker", "temporal.names"),
    ],
)
def test_a_name_is_found_at_its_old_place_with_a_warning(module: str, name: str, home: str):
    old, new = (importlib.import_module(f"motionaware.{one}") for one in (module, home))
    with pytest.warns(DeprecationWarning, match=f"{name} has moved to motionaware.{home}"):
        assert getattr(old, name) is getattr(new, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = old.nonsense


def test_train_accepts_its_old_keyword(tmp_path):
    with (
        pytest.warns(DeprecationWarning, match=r"train\(\): the keyword 'tell' is now 'log'"),
        pytest.raises(FileNotFoundError),
    ):
        motionaware.train(motionaware.Recipe(), tmp_path, resume=True, tell=print)  # type: ignore[call-arg]

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


def test_train_accepts_its_old_keyword(tmp_path):
    with (
        pytest.warns(DeprecationWarning, match=r"train\(\): the keyword 'tell' is now 'log'"),
        pytest.raises(FileNotFoundError),
    ):
        motionaware.train(motionaware.Recipe(), tmp_path, resume=True, tell=print)  # type: ignore[call-arg]

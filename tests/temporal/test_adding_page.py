"""docs/adding-a-module.md names files and tables that exist."""

import re
from pathlib import Path

from motionaware.temporal import table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-module.md").read_text(encoding="utf-8")


def test_each_file_that_the_page_names_exists():
    names = set(re.findall(r"`((?:tests|examples|ops|temporal|models)/[\w/]+\.py)`", PAGE))
    assert "temporal/table.py" in names
    folders = (ROOT, ROOT / "src" / "motionaware")
    assert [name for name in names if not any((one / name).is_file() for one in folders)] == []


def test_the_table_is_in_the_file_that_the_page_names():
    heading = re.search(r"^## One line: the table `(\w+)` in `temporal/(\w+)\.py`$", PAGE, re.M)
    assert heading is not None
    assert isinstance(getattr(table, heading[1]), dict)
    assert Path(table.__file__ or "").stem == heading[2]


def test_the_sets_of_exceptions_are_in_the_contract_test():
    contract = (ROOT / "tests" / "temporal" / "test_table.py").read_text(encoding="utf-8")
    for name in ("SETS", "BACKWARDS_ALIKE", "ONE_LENGTH", "CHANNELS", "OPTIONS", "CAUSAL"):
        assert f"`{name}`" in PAGE
        assert re.search(rf"^{name} = ", contract, re.M)

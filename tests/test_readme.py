"""Every code block of the README runs, in order, in a folder of its own."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from motionaware.cli import main
from motionaware.temporal.table import TEMPORAL

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_every_code_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes", "recipes")
    names: dict[str, object] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)
            continue
        for line in block.splitlines():
            run(line)


def run(line: str) -> None:
    """Run a line of the shell; what installs is only looked at, and training is cut short."""
    program, *words = shlex.split(line)
    if program.startswith("scripts/"):
        assert os.access(ROOT / program, os.X_OK)
    elif program == "motionaware":
        if words[0] == "train":
            words += ["--train.epochs=1", "--clip.image_size=32"]
        if words[0] == "compare" and words[1].endswith(".yaml"):
            cut_short(Path(words[1]))
        assert main(words) == 0, line
    else:
        assert line.startswith("git clone"), line


def cut_short(grid: Path) -> None:
    """Two runs of an epoch, of small clips."""
    text = grid.read_text()
    for long, short in (
        ("[0, 1, 2]", "[0]"),
        ("temporal: [none, m2a(reduction=4), tsm,", "temporal: [tsm,"),
        ("data.root: videos", "data.root: videos, train.epochs: 1, clip.image_size: 32"),
    ):
        assert long in text
        text = text.replace(long, short)
    grid.write_text(text)


def test_every_name_of_the_table_is_in_the_table_of_the_readme():
    rows = [line for line in README.splitlines() if line.startswith('| `"')]
    named = set(re.findall(r"[\w@]+", " ".join(re.findall(r'`"(.*?)"`', " ".join(rows)))))
    plain = {name for name in TEMPORAL if not name.endswith("@official")}
    assert plain - named == set()


def test_every_file_that_the_readme_names_is_there():
    for path in re.findall(r"\]\(([^):#]+)[^):]*\)", README):
        assert (ROOT / path).exists(), path

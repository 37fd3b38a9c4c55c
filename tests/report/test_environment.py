import shutil
import subprocess
from pathlib import Path

import pytest

from motionaware.report.environment import git_commit


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_only_a_tracked_file_has_a_commit(tmp_path: Path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    tracked, untracked = tmp_path / "tracked.yaml", tmp_path / "untracked.yaml"
    tracked.write_text("1")
    untracked.write_text("1")
    assert git_commit(tracked) is None
    git("init")
    git("add", "tracked.yaml")
    git("commit", "-m", "message")
    head = git("rev-parse", "--short=12", "HEAD")
    assert git_commit(tracked) == head
    assert git_commit(untracked) is None
    tracked.write_text("2")
    assert git_commit(tracked) == f"{head}-dirty"

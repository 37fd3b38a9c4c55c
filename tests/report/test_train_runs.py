import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from motionaware.engine.config import Recipe
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import TrainingInterrupted
from motionaware.report import train_runs
from motionaware.report.runs import Run
from motionaware.report.train_runs import train_missing

CODE = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(*_): folder.with_suffix('.stopped').touch(); sys.exit(130)
signal.signal(signal.SIGTERM, stop)
folder.with_suffix('.started').touch()
time.sleep(60)
"""


def test_ctrl_c_stops_all_processes_and_names_the_way_to_continue(tmp_path: Path, monkeypatch):
    def start(run: Run, *, slot: int, jobs: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", CODE, str(run.folder.path)]
        return subprocess.Popen(command, start_new_session=True)

    monkeypatch.setattr(train_runs, "_start_training", start)
    runs = [
        Run(
            backbone="b",
            temporal="none",
            seed=seed,
            recipe=Recipe(),
            folder=RunFolder(tmp_path / f"seed{seed}"),
        )
        for seed in range(3)
    ]

    def interrupt_after_both_started() -> None:
        while len(list(tmp_path.glob("*.started"))) < 2:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_after_both_started).start()
    with pytest.raises(TrainingInterrupted, match="0 of 3 runs are done, .* same command again"):
        train_missing(runs, jobs=2)
    stopped = sorted(path.name for path in tmp_path.glob("*.stopped"))
    assert stopped == ["seed0.stopped", "seed1.stopped"]

"""Worker processes end with their parent, and ignore signals that the whole job receives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from motionaware.data.processes import run_in_processes
from motionaware.errors import UsageError

PARENT = """
import multiprocessing, sys, time
from motionaware.data.processes import end_only_with_parent, stop_signals_blocked

def work(queue):
    end_only_with_parent()
    queue.put("ready")
    while True:
        time.sleep(0.1)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with stop_signals_blocked():
        worker = context.Process(target=work, args=(queue,))
        worker.start()
    queue.get()
    print(worker.pid, flush=True)
    sys.stdin.readline()
    worker.terminate()
    worker.join(10)
    print(worker.exitcode, flush=True)
"""

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "sigtimedwait"), reason="the system does not report the sender of a signal"
)


@pytest.fixture
def parent():
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_worker_ignores_signals_of_others_and_ends_at_once_if_its_parent_terminates_it(parent):
    worker = int(parent.stdout.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        os.kill(worker, number)
    time.sleep(0.5)
    assert is_alive(worker)
    began = time.monotonic()
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "0\n"
    assert time.monotonic() - began < 2


def test_a_worker_ends_within_seconds_after_its_parent_was_killed(parent):
    worker = int(parent.stdout.readline())
    parent.kill()
    deadline = time.monotonic() + 10
    while is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(UsageError, match=r"-2 worker processes; wanted 0 or more"):
        list(run_in_processes(str, [1], num_workers=-2, on_crash=str))

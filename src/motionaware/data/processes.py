"""Run a function on many tasks in worker processes; a crash loses only the task that caused it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from motionaware.errors import UsageError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PARENT_CHECK_SECONDS = 1.0
_QUEUED_TASKS = 4  # per process: enough to keep it busy, without reading all tasks into memory


def run_in_processes(
    function: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    *,
    num_workers: int,
    on_crash: Callable[[_Task], _Result],
) -> Iterator[tuple[_Task, _Result]]:
    """Apply a function to tasks; yield each task with its result, in the order of completion.

    Ctrl-C and leaving the loop wait for the tasks that have started.

    Args:
        function: Is pickled, so it must be importable by name.
        tasks: Arguments of the function.
        num_workers: Number of worker processes; 0 runs the function in this process.
        on_crash: Returns the result of a task that ends its process, such as a crash in a decoder.

    Raises:
        UsageError: `num_workers` is negative.
    """
    if num_workers < 0:
        raise UsageError(f"{num_workers} worker processes; wanted 0 or more")
    if num_workers == 0:
        for task in tasks:
            yield task, function(task)
        return
    remaining = iter(tasks)
    while True:
        pending: dict[Future[_Result], _Task] = {}
        rejected: list[_Task] = []  # the task that was submitted when the pool broke
        pool = _pool(num_workers)
        try:
            while True:
                for task in islice(remaining, _QUEUED_TASKS * num_workers - len(pending)):
                    rejected = [task]
                    pending[pool.submit(function, task)] = task
                    rejected = []
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield pending.pop(future), result
        except BrokenProcessPool:
            pass  # one of the pending tasks ended its process; each is run alone below
        finally:
            pool.shutdown(cancel_futures=True)
        for task in [*pending.values(), *rejected]:
            yield task, _run_alone(function, task, on_crash)


def _run_alone(
    function: Callable[[_Task], _Result], task: _Task, on_crash: Callable[[_Task], _Result]
) -> _Result:
    """Run one task in its own process; return `on_crash(task)` if the process ends."""
    with _pool(1) as pool:
        try:
            return pool.submit(function, task).result()
        except BrokenProcessPool:
            return on_crash(task)


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # A forked child of a process with threads may hang; a spawned one does not.
    context = get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=end_only_with_parent)


_STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that request termination. Windows has no SIGHUP."""


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block the signals that request termination; they are delivered when the block ends.

    A process that is started inside the block inherits the blocked signals. So it cannot be ended
    before it has called `end_only_with_parent`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_only_with_parent() -> None:
    """Make this worker process end only if its parent ends or sends SIGTERM to it.

    Terminals, `timeout`, systemd and Slurm send a signal to every process of a job. The parent
    handles it: it finishes its step and then ends its workers. If the parent is killed, the worker
    ends within a second.
    """
    for number in _STOPPING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    # Only sigtimedwait tells who sent a signal, and it needs the signal to be blocked.
    has_sigtimedwait = hasattr(signal, "sigtimedwait")  # False on macOS
    if has_sigtimedwait:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_exit_with, args=(parent, has_sigtimedwait), daemon=True).start()


def _exit_with(parent: int, has_sigtimedwait: bool) -> None:
    """End this process as soon as the parent ends or sends SIGTERM."""
    while os.getppid() == parent:
        if not has_sigtimedwait:
            time.sleep(_PARENT_CHECK_SECONDS)
            continue
        received = signal.sigtimedwait({signal.SIGTERM}, _PARENT_CHECK_SECONDS)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)

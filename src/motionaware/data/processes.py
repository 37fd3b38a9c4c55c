"""Work on many files in several processes; one that dies takes only its own task along."""

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

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PARENT_CHECK_SECONDS = 1.0
_AHEAD = 4  # tasks handed out for each process: none waits, and the list is never all in memory


def run_in_processes(
    function: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    *,
    num_workers: int,
    died: Callable[[_Task], _Result],
) -> Iterator[tuple[_Task, _Result]]:
    """Apply a function to tasks; yield each with its result, in the order in which they end.

    Ctrl-C, or leaving the loop, waits for the tasks that have begun: none is left half done.

    Args:
        function: What to do; it must be importable by name.
        tasks: What to do it to.
        num_workers: Processes; 0 works in this one.
        died: The result of a task that ends its process, by a crash in a decoder for example.
    """
    if num_workers == 0:
        for task in tasks:
            yield task, function(task)
        return
    remaining = iter(tasks)
    while True:
        waiting: dict[Future[_Result], _Task] = {}
        refused: list[_Task] = []  # the task that came as the pool broke
        pool = _pool(num_workers)
        try:
            while True:
                for task in islice(remaining, _AHEAD * num_workers - len(waiting)):
                    refused = [task]
                    waiting[pool.submit(function, task)] = task
                    refused = []
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield waiting.pop(future), result
        except BrokenProcessPool:
            pass  # one of those waiting did it
        finally:
            pool.shutdown(cancel_futures=True)
        for task in [*waiting.values(), *refused]:
            yield task, _alone(function, task, died)


def _alone(
    function: Callable[[_Task], _Result], task: _Task, died: Callable[[_Task], _Result]
) -> _Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, task).result()
        except BrokenProcessPool:
            return died(task)


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # A forked child of a process with threads may hang; a new one imports what it needs.
    context = get_context("spawn")
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=end_only_with_parent)


_STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that ask a program to end. Windows has no SIGHUP."""


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Hold back the signals that ask to end; they arrive afterwards.

    A process that is forked or spawned inside inherits the block, so that it cannot be ended before
    it has called `end_only_with_parent`.
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
    """Make this worker process end when its parent ends or terminates it, and on no other signal.

    Terminals, `timeout`, systemd and Slurm send a signal to every process of a job. The parent
    handles it: it finishes its step and then ends its workers. A worker that the parent leaves
    behind (SIGKILL) ends itself within a second.
    """
    for number in _STOPPING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    # The kernel says who sent a signal only to the one who waits for it, so SIGTERM stays blocked.
    can_wait = hasattr(signal, "sigtimedwait")  # not on macOS
    if can_wait:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()
    watch = threading.Thread(target=_watch, args=(parent, can_wait), daemon=True)
    watch.start()


def _watch(parent: int, can_wait: bool) -> None:
    while os.getppid() == parent:
        if not can_wait:
            time.sleep(_PARENT_CHECK_SECONDS)
            continue
        found = signal.sigtimedwait({signal.SIGTERM}, _PARENT_CHECK_SECONDS)
        if found is not None and found.si_pid == parent:
            break
    os._exit(0)

"""Interrupt: how a run ends before its time, and the wish to stop as a flag it looks at."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TrainingInterrupted(RuntimeError):
    """The run was asked to stop; it saved its state first."""


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; the last whole epoch stays saved."""


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into an event; a second Ctrl-C acts as ever.

    Who ignores the end of a terminal (`nohup`) goes on doing so.

    Only the main thread may listen to signals; elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C meanwhile; a process that is started meanwhile ignores it from birth."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

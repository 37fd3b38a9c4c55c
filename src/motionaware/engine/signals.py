"""Stop a run on a signal: the signal sets a flag, and the training loop reads it between steps."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SAME_REQUEST_SECONDS = 1.0


class StopRequest:
    """A flag that a signal sets; `signal_number` is the first signal.

    It is not a threading.Event, which takes a lock: the code that the signal interrupts may hold
    that lock.
    """

    def __init__(self) -> None:
        self.signal_number: int = signal.SIGINT
        self._is_set = False

    def is_set(self) -> bool:
        """Return True if a signal asked to stop."""
        return self._is_set

    def set(self) -> None:
        """Set the flag."""
        self._is_set = True

    def wait(self, seconds: float) -> None:
        """Wait until the flag is set, but at most this many seconds."""
        end = time.monotonic() + seconds
        while not self._is_set and (seconds_left := end - time.monotonic()) > 0:
            time.sleep(min(seconds_left, 0.05))


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Set a flag on Ctrl-C, SIGTERM and SIGHUP (a closed terminal) instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt. Within a second of the first signal it counts as the
    same request, because `timeout` sends its signal twice: to the process and to its group. Later
    SIGTERM and SIGHUP change nothing. If SIGHUP is ignored (`nohup`), it stays ignored.

    Only the main thread can handle signals; in another thread the flag is never set.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    first_seconds = 0.0

    def handle(number: int, frame: object) -> None:
        nonlocal first_seconds
        if not stop.is_set():
            first_seconds, stop.signal_number = time.monotonic(), number
            stop.set()
        elif number == signal.SIGINT and time.monotonic() - first_seconds > _SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    handlers = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C. A process that is started in this context ignores it from its start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)

"""Stop a run on a signal: the signal sets a flag, and the training loop reads it between steps."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SAME_REQUEST_SECONDS = 1.0


class StopRequest:
    """A flag that is set once a signal has asked to stop; `signal_number` is the first one.

    Not a threading.Event: that takes a lock, which the code that the signal interrupts may hold.
    """

    def __init__(self) -> None:
        self.signal_number: int = signal.SIGINT
        self._is_set = False

    def is_set(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._is_set

    def set(self) -> None:
        """Ask to stop."""
        self._is_set = True

    def wait(self, seconds: float) -> None:
        """Wait until the flag is set, at most that long."""
        end = time.monotonic() + seconds
        while not self._is_set and (rest := end - time.monotonic()) > 0:
            time.sleep(min(rest, 0.05))


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn Ctrl-C, SIGTERM and SIGHUP (a closed terminal) into a flag.

    A second Ctrl-C raises KeyboardInterrupt at once. Within a second of the first signal it counts
    as the same request, because `timeout` sends its signal twice: to the process and to its group.
    Later SIGTERM and SIGHUP change nothing. SIGHUP stays ignored where it is (`nohup`).

    Only the main thread can handle signals; in another thread the flag is never set.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    first_seconds = 0.0

    def ask(number: int, frame: object) -> None:
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
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C for a while; a process that is started meanwhile ignores it from the start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

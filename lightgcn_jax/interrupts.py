"""Ctrl-C and SIGTERM at any moment: one line that says how to go on, and a status of their own.

Python raises KeyboardInterrupt wherever the main thread stands: in an import, in a callback of XLA,
in a checkpoint half written. Some of these swallow it, some crash, and while machine code is
compiled none is raised at all. So a process that is one command (:func:`take_over`) looks at
signals in a thread of its own. It ends the process at once, which files can bear: they are written
under other names and renamed (:mod:`lightgcn_jax.files`). Where work is under way that can be saved
(:func:`deferred`), the first signal waits for it and the second one does not.

In other processes (a notebook, a test) signals stay as they are: KeyboardInterrupt, which
:func:`deferred` puts off.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from lightgcn_jax.errors import printable

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it
_LONGEST_ENDING = 60.0
"""Seconds that the main thread waits at its end for the thread that ends the process."""

NOTHING_BEGUN = "interrupted; nothing is half written, and the same command can be given again"
"""The line where no work says how to go on."""

ALL_DONE = "interrupted when all was done"
"""The line where a command is at its end."""


class Interrupted(Exception):
    """Work was broken off by the user; the message says how to go on.

    Attributes:
        status: the exit status of a process that ends by it.
    """

    def __init__(
        self, message: str, signal_number: int = signal.SIGINT, *, status: int | None = None
    ):
        super().__init__(message)
        self.status = 128 + signal_number if status is None else status

    def saying(self, message: str) -> Interrupted:
        """The same with another message, of a larger piece of work.

        Args:
            message: how to go on.
        """
        return Interrupted(message, status=self.status)


class Request:
    """Whether an end was asked for while work was under way.

    Attributes:
        signal_number: the signal that asked for it; 0 for none.
    """

    def __init__(self) -> None:
        self.signal_number = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


class _Watch:
    """What the thread knows of the work of the main thread."""

    def __init__(self) -> None:
        self.taken_over = False
        self.is_ending = False
        self.waiting: Request | None = None
        self.how: list[str] = []
        self.output = 2
        self.says_that_it_waits = True
        self.cleanups: list[Callable[[], None]] = []


_watch = _Watch()


def take_over() -> None:
    """Let Ctrl-C and SIGTERM end this process as the module says; for the main thread of a process
    that is one command."""
    if _watch.taken_over:
        return
    _watch.taken_over = True
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # what nohup and `&` set
            signal.signal(number, lambda *_: None)
    atexit.register(_wait_for_the_end)
    threading.Thread(target=_look, args=(readable,), name="interrupts", daemon=True).start()


def note_end() -> None:
    """Tell that the command has done its work, so that no line says how to go on."""
    _watch.how[:] = [ALL_DONE]


def write_to(output: int, *, says_that_it_waits: bool) -> None:
    """Where the lines of this module go.

    Args:
        output: a file's number, for the process's standard error.
        says_that_it_waits: whether a first signal is answered by a line; of several processes that
            get it, one should.
    """
    _watch.output, _watch.says_that_it_waits = output, says_that_it_waits


def _look(readable: int) -> None:
    while numbers := os.read(readable, 16):
        for number in numbers:
            if number in _SIGNALS:
                _take(number)


def _take(number: int) -> None:
    request = _watch.waiting
    if request is not None and not request:
        request.signal_number = number
        if _watch.says_that_it_waits:
            _write("stopping after the steps under way; once more stops at once", _watch.output)
        return
    # The main thread works on, and what is removed beneath it may make it fail: neither what it
    # says of that nor its status is to be this process's.
    how, _watch.is_ending = _watch.how[0] if _watch.how else NOTHING_BEGUN, True
    output = _kept_aside(_watch.output)
    if _watch.output != 2:
        _kept_aside(2)
    for cleanup in reversed(_watch.cleanups):
        with contextlib.suppress(Exception):
            cleanup()
    _write(how, output)
    os._exit(128 + number)


def _kept_aside(stream: int) -> int:
    """Another descriptor of a stream, to which nobody else writes any more."""
    try:
        aside, nowhere = os.dup(stream), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream)
    except OSError:  # closed, or no descriptor is left
        return stream
    return aside


def _wait_for_the_end() -> None:
    if _watch.is_ending:
        time.sleep(_LONGEST_ENDING)


def _write(line: str, output: int) -> None:
    """Past Python's buffers, which the main thread may hold."""
    # A progress bar may stand on the line of a terminal.
    before = f"{_SHOW_CURSOR}\n" if os.isatty(output) else ""
    with contextlib.suppress(OSError):
        os.write(output, f"{before}{printable(line)}\n".encode(errors="replace"))


def before_exit(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Have something done before a signal ends the process, what was asked for last at first; a
    decorator.

    Args:
        cleanup: called in another thread than the main one; what it raises is passed over.
    """
    _watch.cleanups.append(cleanup)
    return cleanup


@contextlib.contextmanager
def explained(how: str) -> Iterator[None]:
    """Say how to go on after work that a signal breaks off.

    Args:
        how: the line, ``interrupted; go on with: …``. The outermost one counts.
    """
    _watch.how.append(how)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(how) from None
    finally:
        _watch.how.pop()


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Let the first signal wait for the work under way, which asks the request now and then; a
    second one breaks off at once.

    Yields:
        What is true once an end was asked for.
    """
    request = Request()
    if _watch.taken_over:
        _watch.waiting = request
        try:
            yield request
        finally:
            _watch.waiting = None
        return
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, _: object) -> None:
        request.signal_number = number
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, previous)

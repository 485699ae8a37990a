"""How a command becomes one of several processes, and how it ends with them.

JAX's runtime brings the processes together and watches over them: one that is gone is missed by its
heartbeat, and ends the others. What it writes on stdout and stderr is kept from the user, who gets
one line (:mod:`lightgcn_jax.processes.herald`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lightgcn_jax.errors import InputError, first_line, printable
from lightgcn_jax.interrupts import Interrupted, before_exit, write_to

_FLAGS = ("coordinator", "processes", "process-id")
_AUTO = "auto"
_MEETING_SECONDS = 300
"""How long a process waits for the others to start."""
_HEARTBEAT_SECONDS = 45
"""A process that is not heard of for so long is lost."""
_LEAVING_SECONDS = 60
_LOST = "error: a process of this run was lost{which}, so this one ends"
# What reaches Python where a companion is gone in the middle of an exchange.
_GONE = re.compile(
    "gloo|nccl|heartbeat|unavailable|connection (reset|closed|refused)|coordination service|"
    "broken pipe|socket closed",
    re.IGNORECASE,
)


class Wanted(NamedTuple):
    """What a command line says of the processes that it is one of.

    Attributes:
        coordinator: host and port of the first one; None where JAX is to find all of it.
        number: how many there are.
        own: the number of this one, from 0 on.
    """

    coordinator: str | None
    number: int | None
    own: int | None


class _State:
    """What is known of this process among others."""

    def __init__(self) -> None:
        self.joined = False
        self.ends_together = False
        self.pipe: int | None = None
        self.of_loss = _LOST


_state = _State()


def wanted_of(given: Mapping[str, str]) -> Wanted | None:
    """Read the flags.

    Args:
        given: their values by name; none where the command does it alone.

    Returns:
        What they ask for; None where there are none.

    Raises:
        InputError: some are missing, or they do not fit.
    """
    if not given:
        return None
    coordinator = given.get("coordinator", "")
    if coordinator == _AUTO and len(given) == 1:
        return Wanted(None, None, None)
    if len(given) < len(_FLAGS):
        missing = ", ".join(f"--{name}" for name in _FLAGS if name not in given)
        raise InputError(
            f"processes: expected --coordinator, --processes and --process-id together, or "
            f"--coordinator auto alone, {missing} is missing"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"--coordinator: expected HOST:PORT or auto, got {coordinator!r}")
    count, own = int(given["processes"]), int(given["process-id"])
    if count < 1:
        raise InputError(f"--processes: expected at least 1, got {count}")
    if not 0 <= own < count:
        raise InputError(f"--process-id: expected 0 to {count - 1}, got {own}")
    return Wanted(coordinator, count, own)


def join(wanted: Wanted, platform: str | None = None) -> None:
    """Meet the other processes; before JAX is asked for devices.

    Args:
        wanted: which they are.
        platform: the one to compute on; None for JAX's own choice.

    Raises:
        InputError: JAX finds no cluster around this process, or some have more devices than others.
    """
    import jax  # not before a command line is found to be in order

    where = "" if wanted.coordinator is None else f" at {wanted.coordinator}"
    _hold_output(
        f"error: the {wanted.number or ''} processes did not meet{where}; start each once, with a "
        f"--process-id of its own, within {_MEETING_SECONDS // 60} minutes".replace("the  ", "the ")
    )
    config: Any = jax.config
    # Signals are this program's own affair (lightgcn_jax.interrupts).
    config.update("jax_enable_preemption_service", False)
    config.update("jax_cpu_collectives_implementation", "gloo")
    if platform is not None:
        config.update("jax_platforms", platform)
    try:
        jax.distributed.initialize(
            *wanted,
            initialization_timeout=_MEETING_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_LEAVING_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        _tell_herald("fine")
        if wanted.coordinator is None:
            raise InputError(
                "--coordinator auto: found no SLURM, Open MPI or TPU pod around this process; "
                "give HOST:PORT, --processes and --process-id"
            ) from None
        raise InputError(f"--coordinator: {first_line(error)}") from None
    _state.joined = True
    _tell_herald(_state.of_loss)
    write_to(sys.stderr.fileno(), says_that_it_waits=jax.process_index() == 0)
    devices = Counter(device.process_index for device in jax.devices())
    if len({*devices.values()}) > 1:
        counts = ", ".join(str(devices[at]) for at in sorted(devices))
        raise InputError(f"processes: expected as many devices in each, got {counts}")


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Do the work of a command that may be one of several processes: an error that ends one of them
    ends all, and none ends before the first one is through with its files."""
    if not _state.joined:
        yield
        return
    from lightgcn_jax.processes.agreement import gathered, telling

    try:
        with telling():
            yield
            gathered()
    except (InputError, OSError, MemoryError, Interrupted):
        _state.ends_together = True
        raise
    _state.ends_together = True


@contextlib.contextmanager
def if_lost(how: str) -> Iterator[None]:
    """Say how to go on, while the block runs, where another process is lost.

    Args:
        how: the sentence's end, ``go on with: …``.
    """
    before = _state.of_loss
    _state.of_loss = f"{_LOST}; {printable(how)}"
    _tell_herald(_state.of_loss)
    try:
        yield
    finally:
        if sys.exc_info()[0] is None:
            _state.of_loss = before
            _tell_herald(before)


def is_silent() -> bool:
    """Whether another process talks for this one."""
    if not _state.joined:
        return False
    import jax

    return jax.process_index() > 0


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process is gone.

    Args:
        error: what reached Python.
    """
    return _state.joined and _GONE.search(str(error)) is not None


def loss() -> str:
    """What to say of another process that is gone."""
    return _state.of_loss.replace("{which}", "").removeprefix("error: ")


def leave(status: int) -> int:
    """End this process's part: with the others, or at once where they cannot know of the end.

    Args:
        status: the exit status.

    Returns:
        The exit status.
    """
    if not _state.joined:
        return status
    if not _state.ends_together:
        _end_at_once(status)
    import jax

    sys.stdout.flush()
    jax.distributed.shutdown()
    _tell_herald("fine")
    return status


def leave_by(error: BaseException) -> None:
    """End this process at once by an error that nobody expected, if it is one of several: JAX would
    wait for the others, and they for this one.

    Args:
        error: what reached the end of the program.
    """
    if _state.joined:
        traceback.print_exception(error)
        _end_at_once(1)


def _end_at_once(status: int) -> NoReturn:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    _tell_herald("fine")
    os._exit(status or 1)


def _hold_output(of_loss: str) -> None:
    """Have what C++ writes go to the herald, and what Python writes where it went before."""
    readable, writable = os.pipe()
    own = os.dup(1), os.dup(2)
    script = Path(__file__).with_name("herald.py")
    subprocess.Popen(
        [sys.executable, "-I", "-S", str(script)],
        stdin=readable, stdout=subprocess.DEVNULL, stderr=own[1], start_new_session=True,
    )  # fmt: skip
    os.close(readable)
    for name, number, copy in zip(("stdout", "stderr"), (1, 2), own, strict=True):
        stream = getattr(sys, name)
        stream.flush()
        os.dup2(writable, number)
        if isinstance(stream, io.TextIOWrapper):
            again = open(  # noqa: SIM115, it stays open to the end of the process
                copy, "w", encoding=stream.encoding, errors=stream.errors,
                buffering=1 if name == "stderr" or stream.line_buffering else -1,
            )  # fmt: skip
            setattr(sys, name, again)
    os.close(writable)
    _state.pipe, _state.of_loss = 2, of_loss
    write_to(own[1], says_that_it_waits=True)
    _tell_herald(of_loss)
    _state.of_loss = _LOST


@before_exit
def _all_is_well() -> None:
    """A signal ends the process on purpose."""
    _tell_herald("fine")


def _tell_herald(word: str) -> None:
    if _state.pipe is not None:
        with contextlib.suppress(OSError):
            os.write(_state.pipe, b"\0" + word.encode(errors="replace") + b"\n")

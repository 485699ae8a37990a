"""Which commands there are, and how they end.

Exit status: 0; 2 with one line on stderr for what a user can mend; 130 after Ctrl-C and 143 after
SIGTERM, with one line that says how to go on; 1 where
whoever read stdout closed it, without a word. Several processes that train together end together:
the first one speaks for all, SIGTERM ends them by 0 once it was saved, and where one is lost the
others end by 1 or are ended by JAX (134).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import tyro

from lightgcn_jax.allocator import keep_freed_memory
from lightgcn_jax.caches import is_of_the_cache, keep_compiled
from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.device import choose_device
from lightgcn_jax.cli.front import Program, received
from lightgcn_jax.consoles import fit_streams
from lightgcn_jax.errors import InputError, printable
from lightgcn_jax.interrupts import NOTHING_BEGUN, Interrupted, note_end
from lightgcn_jax.processes.joining import (
    is_loss,
    is_silent,
    join,
    leave,
    leave_by,
    loss,
    together,
    wanted_of,
)

_DISTRIBUTION = "lightgcn-pinsage-jax"
_NO_CACHE = "--no-compilation-cache"

LIGHTGCN = Program(
    name="lightgcn-jax",
    description="Graph recommendation: train a model, evaluate it, recommend.",
    package="lightgcn_jax.cli",
    commands={
        "train": ("training", "Train", "Train a model on a data set or on your own files."),
        "sweep": ("sweep", "Sweep", "Try settings, choose on validation, train the best."),
        "evaluate": ("runs", "Evaluate", "Rank a run's withheld interactions again."),
        "compare": ("compare", "Compare", "Put runs side by side, with tests of significance."),
        "plot": ("plot", "Plot", "Draw a run: learning curve, popularity, groups."),
        "recommend": ("recommend", "Recommend", "Recommend items to users."),
        "rank": ("rank", "Rank", "Train and judge a second stage, which ranks candidates anew."),
        "similar": ("runs", "Similar", "Find the neighbours of items or users."),
        "serve": ("serve", "Serve", "Serve a run over HTTP, with a page to look at it."),
        "export": ("runs", "Export", "Write a run for other programs."),
        "verify": ("verify", "Verify", "Tell whether a run's files are as they were written."),
        "data": ("datasets", "Data", "List, download, describe and prepare data sets."),
        "plan": ("plan", "Plan", "Say what a run would take of an accelerator."),
        "diffusion": ("diffusion", "Diffusion", "See how the diffusion is stored and compiled."),
    },
)


class Command(Protocol):
    """Arguments of a command, and what it does."""

    def run(self) -> int:
        """Do it, and return the exit status."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a ``lightgcn-jax`` command line.

    Args:
        argv: what stands behind the program's name; by default that of the process.

    Returns:
        The exit status.
    """
    return run(LIGHTGCN, argv)


def run(program: Program, argv: Sequence[str] | None = None) -> int:
    """Run one command line of a program.

    Args:
        program: the program.
        argv: what stands behind its name; by default that of the process.

    Returns:
        The exit status.
    """
    try:
        return leave(_run(program, argv))
    except BaseException as error:
        leave_by(error)
        raise


def _run(program: Program, argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    keeps_compiled = _NO_CACHE not in arguments
    arguments = [one for one in arguments if one != _NO_CACHE]
    if argv is None:  # the process is this command's own
        fit_streams()
        keep_freed_memory()
        keep_compiled(wanted=keeps_compiled)
    if arguments[:1] == ["--version"]:
        print(f"{program.name} {importlib.metadata.version(_DISTRIBUTION)}")
        return 0
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            call = received(program, arguments)
            if call is None:
                return 0
            processes = wanted_of(call.processes)
            if processes is not None:
                if (call.device or "").isdecimal():
                    raise InputError("--device: expected a platform beside --coordinator")
                join(processes, call.device)
            if call.device is not None:
                choose_device(call.device)
            from lightgcn_jax.asked import asked_for  # not for a line of help

            asked = call.asked if call.command in ("train", "sweep") else None
            with asked_for(asked), together():
                status = _parsed(program, call.arguments).run()
            sys.stdout.flush()
            if argv is None:
                note_end()
            return status
        except SystemExit as ending:  # tyro: wrong usage, said; rich: a closed pipe
            return ending.code if isinstance(ending.code, int) else 2
        except KeyboardInterrupt:
            say(NOTHING_BEGUN)
            return 130
        except Interrupted as ending:
            _say_for_all(str(ending))
            return ending.status
        except BrokenPipeError:
            # Whoever read stdout has enough (`| head`); the flush at exit must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (InputError, OSError, MemoryError) as error:
            _say_for_all(f"error: {_one_line(error)}")
            return 2
        except Exception as error:
            if is_loss(error):
                say(f"error: {loss()}")
                return 1
            if "RESOURCE_EXHAUSTED" in str(error):  # what XLA raises has no class of its own
                say(f"error: out of memory: {_one_line(error)[:200]}; {program.out_of_memory}")
                return 2
            raise


def _parsed(program: Program, arguments: list[str]) -> Command:
    """The command with its arguments, which is the only one that is imported."""
    called = arguments[0]
    for other, here in program.spellings.items():
        arguments = [
            here + one.removeprefix(other) if one.partition("=")[0] == other else one
            for one in arguments
        ]
    module, class_name, _ = program.commands[called]
    command = getattr(importlib.import_module(f"{program.package}.{module}"), class_name)
    return tyro.cli(command, prog=f"{program.name} {called}", args=arguments[1:])


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    # Line ends become blanks. All else stays as it is, for blanks may be what is complained of;
    # what a terminal would obey is shown and not sent.
    text = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return printable(text)


def _say_for_all(line: str) -> None:
    """A line of all processes, where there are several; the first one says it."""
    if not is_silent():
        say(line)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if not is_of_the_cache(str(message)) and not is_silent():
        say(f"warning: {message}")

"""Which commands there are, and how they end.

Exit status: 0; 2 with one line on stderr for what a user can mend; 130 after Ctrl-C and 143 after
SIGTERM, with one line that says how to go on; 1 where
whoever read stdout closed it, without a word.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from typing import Any, NamedTuple, Protocol

import tyro

from lightgcn_jax.allocator import keep_freed_memory
from lightgcn_jax.caches import is_of_the_cache, keep_compiled
from lightgcn_jax.cli.console import say
from lightgcn_jax.errors import InputError, printable
from lightgcn_jax.interrupts import Interrupted

_OUT_OF_MEMORY = (
    "try a smaller --dim, --batch-size, --negatives, --seeds, --singular-vectors or --neighbours"
)


_DISTRIBUTION = "lightgcn-pinsage-jax"
_NO_CACHE = "--no-compilation-cache"
_OF_ALL = f"""--version prints the version. What is compiled is kept for the next time in the
user's cache folder; {_NO_CACHE}, with any command, or
JAX_ENABLE_COMPILATION_CACHE=false in the environment turns that off."""


class Program(NamedTuple):
    """A command line and its commands.

    Attributes:
        name: as it is called.
        description: for ``--help``.
        package: whose modules hold the commands.
        commands: name -> module, class, one line for the list of commands.
        out_of_memory: what to try when the device has no memory left.
        spellings: flags that the other program spells in another way -> as they are spelt here.
    """

    name: str
    description: str
    package: str
    commands: Mapping[str, tuple[str, str, str]]
    out_of_memory: str = _OUT_OF_MEMORY
    spellings: Mapping[str, str] = {"--neighbors": "--neighbours"}


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
        "similar": ("runs", "Similar", "Find the neighbours of items or users."),
        "export": ("runs", "Export", "Write embeddings and ids to one file."),
        "data": ("datasets", "Data", "List, download and describe data sets."),
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    keeps_compiled = _NO_CACHE not in arguments
    arguments = [one for one in arguments if one != _NO_CACHE]
    if argv is None:  # the process is this command's own
        keep_freed_memory()
        keep_compiled(wanted=keeps_compiled)
    if arguments[:1] == ["--version"]:
        print(f"{program.name} {importlib.metadata.version(_DISTRIBUTION)}")
        return 0
    if (wrong := _unknown_command(program, arguments)) is not None:
        say(wrong)
        return 2
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status = _parsed(program, arguments).run()
            sys.stdout.flush()
            return status
        except SystemExit as ending:  # tyro: help or wrong usage, said; rich: a closed pipe
            return ending.code if isinstance(ending.code, int) else 2
        except KeyboardInterrupt:
            say("interrupted")
            return 130
        except Interrupted as ending:
            say(str(ending))
            return ending.status
        except BrokenPipeError:
            # Whoever read stdout has enough (`| head`); the flush at exit must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (InputError, OSError, MemoryError) as error:
            say(f"error: {_one_line(error)}")
            return 2
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error):  # what XLA raises has no class of its own
                say(f"error: out of memory: {_one_line(error)[:200]}; {program.out_of_memory}")
                return 2
            raise


def _unknown_command(program: Program, arguments: list[str]) -> str | None:
    """What is said of a command that is not there; None where it is, or where a flag stands."""
    called = arguments[0] if arguments else "-"
    if called.startswith("-") or called in program.commands:
        return None
    near = difflib.get_close_matches(called, program.commands, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"error: {called}: expected one of {', '.join(program.commands)}{meant}"


def _parsed(program: Program, arguments: list[str]) -> Command:
    """The command with its arguments.

    Only the command that is called is imported, the others are known by name: JAX takes longer to
    import than a list of commands should take to appear.
    """
    called = arguments[0] if arguments else None
    for other, here in program.spellings.items():
        arguments = [
            here + one.removeprefix(other) if one.partition("=")[0] == other else one
            for one in arguments
        ]
    commands: dict[str, Any] = {}
    for name, (module, class_name, description) in program.commands.items():
        if name == called:
            loaded = importlib.import_module(f"{program.package}.{module}")
            commands[name] = getattr(loaded, class_name)
        else:
            commands[name] = make_dataclass(class_name, (), namespace={"__doc__": description})
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=program.name,
        description=f"{program.description}\n\n{_OF_ALL}",
        args=arguments,
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    # Line ends become blanks. All else stays as it is, for blanks may be what is complained of;
    # what a terminal would obey is shown and not sent.
    text = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return printable(text)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    if not is_of_the_cache(str(message)):
        say(f"warning: {message}")

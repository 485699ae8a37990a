"""The front door: help, wrong arguments and files of flags, before a command is imported.

A command's module imports JAX, which takes seconds. What help and errors need of its flags lies in
``flags.json`` beside the commands; :mod:`lightgcn_jax.cli.listing` makes it of them, and a test
holds it against them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lightgcn_jax.errors import InputError

_OUT_OF_MEMORY = (
    "try a smaller --dim, --batch-size, --negatives, --seeds, --singular-vectors or --neighbors"
)
_OF_ALL = (
    "--version prints the version. What is compiled is kept for the next time in the user's cache "
    "folder; --no-compilation-cache, with any command, or JAX_ENABLE_COMPILATION_CACHE=false in "
    "the environment turns that off."
)
_WIDEST = 100
# Flags of the front door itself, which are no setting of a run or say where the new one lies.
_NOT_REPEATED = ("config", "out", "overwrite", "quiet", "resume")
_OF_PROCESSES = ("coordinator", "processes", "process-id")
# Of these, one on the command line takes the place of the other in a file.
_EITHER = {"data": "dataset", "dataset": "data"}


class Program(NamedTuple):
    """A command line and its commands.

    Attributes:
        name: as it is called.
        description: for ``--help``.
        package: whose modules hold the commands, and whose folder ``flags.json``.
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


class Call(NamedTuple):
    """A command line whose flags are in order.

    Attributes:
        command: the command's name, a blank before that of a command of its own.
        arguments: the command's words and flags, those of ``--config`` among them.
        asked: the flags by name, typed as in a file of flags; those that a run's repetition gives
            anew, as ``out``, are left out.
        device: what ``--device`` says; None for JAX's own choice.
        processes: what is said of the processes that this is one of, by the flags' names.
    """

    command: str
    arguments: list[str]
    asked: dict[str, Any]
    device: str | None
    processes: Mapping[str, str] = {}


class _Help(argparse.HelpFormatter):
    """A flag and its value on one line, what it means below."""

    def __init__(self, prog: str):
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        super().__init__(prog, max_help_position=6, width=width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(action.option_strings)
        return f"{names} {action.metavar or ''}".strip()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def received(program: Program, arguments: Sequence[str]) -> Call | None:
    """Look at a command line, and print help where that is asked for.

    Args:
        program: the program.
        arguments: what stands behind its name.

    Returns:
        The call; None where help was printed.

    Raises:
        InputError: a command or a flag is unknown, or a value does not fit.
    """
    flags = resources.files(program.package).joinpath("flags.json").read_text(encoding="utf-8")
    listed, command = json.loads(flags), ""
    rest = list(arguments)
    while (commands := _commands(program, listed, command)) is not None:
        called = f"{program.name} {command}".strip()
        if not rest or rest[0] in ("-h", "--help"):
            if not rest:
                raise InputError(f"expected one of {', '.join(commands)}; see {called} --help")
            _print_commands(program, listed, command, commands)
            return None
        if rest[0] not in commands:
            expected = f"expected one of {', '.join(commands)}"
            raise InputError(f"{rest[0]}: {expected}{_meant(rest[0], commands)}")
        command = f"{command} {rest.pop(0)}".strip()
    parser = _parser(program, command, listed[command])
    rest = [_with_dashes(one) for one in rest]
    if "-h" in rest or "--help" in rest:
        parser.print_help()
        return None
    given = _parsed(parser, rest)
    if "config" in given:
        given = _with_file(parser, Path(given.pop("config")), given)
    device = given.pop("device", None)
    processes = {name: given.pop(name) for name in _OF_PROCESSES if name in given}
    asked = {name: value for name, value in given.items() if name not in _NOT_REPEATED}
    asked |= {} if device is None else {"device": device}
    kinds = _flags(parser)
    return Call(
        command,
        [*command.split(), *_words(parser, given)],
        {name: _typed(kinds[name], value) for name, value in asked.items() if name in kinds},
        device,
        processes,
    )


def _commands(program: Program, listed: Mapping[str, Any], command: str) -> dict[str, str] | None:
    """The commands of a program or of a command, and what each does; None where it has none."""
    if not command:
        return {name: text for name, (_, _, text) in program.commands.items()}
    return listed[command].get("commands")


def _print_commands(
    program: Program, listed: Mapping[str, Any], command: str, commands: Mapping[str, str]
) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    name = f"{program.name} {command}".strip()
    print(f"usage: {name} COMMAND [OPTIONS]\n")
    about = [listed[command]["about"]] if command else [program.description, _OF_ALL]
    print("\n\n".join(textwrap.fill(text, width) for text in about))
    print("\ncommands:")
    for one, text in commands.items():
        print(
            textwrap.fill(text, width, initial_indent=f"  {one:<10} ", subsequent_indent=" " * 13)
        )
    print(f"\n{name} COMMAND --help says more of one.")


def _parser(program: Program, command: str, about: Mapping[str, Any]) -> argparse.ArgumentParser:
    wanted = [one for one in about["flags"] if not one["names"]]
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    examples = [f"  {program.name} {one}" for one in about.get("examples", ())]
    parser = _Parser(
        prog=f"{program.name} {command}",
        usage=" ".join(["%(prog)s [OPTIONS]", *(one["metavar"] for one in wanted)]),
        description="\n\n".join(textwrap.fill(one, width) for one in about["about"].split("\n\n")),
        epilog="\n".join(["examples:", *examples]) if examples else None,
        formatter_class=type("Help", (argparse.RawDescriptionHelpFormatter, _Help), {}),
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    flags = about["flags"]
    groups = {one["heading"]: parser.add_argument_group(one["heading"]) for one in flags}
    for one in flags:
        _add(groups[one["heading"]], one)
    last = groups[flags[-1]["heading"]] if flags else parser
    last.add_argument("-h", "--help", action="store_true", help="show this and exit.")
    return parser


def _add(group: Any, listed: Mapping[str, Any]) -> None:
    """Have a parser know a flag."""
    names, metavar, nargs = listed["names"], listed["metavar"], listed["nargs"]
    how: dict[str, Any] = {"help": listed["help"].replace("%", "%%")}
    if nargs == 0:
        switch = len(names) == 2 and names[1].startswith("--no-")
        how["action"] = argparse.BooleanOptionalAction if switch else "store_true"
        names = names[:1]
    else:
        how |= {"metavar": metavar, "nargs": nargs, "type": _kind(metavar)}
    if names:
        how |= {"dest": names[0].removeprefix("--"), "required": listed["required"]}
    group.add_argument(*(names or [metavar.split()[0].lower()]), **how)


def _kind(metavar: str) -> Any:
    """What checks a value by what stands for it in the help; values stay text."""
    names = re.fullmatch(r"\{([^{}]+)\}", metavar)
    word = re.search(r"\b(INT|K|N|FLOAT)\b", metavar)

    def checked(text: str) -> str:
        if text == "None":
            return text
        if names is not None and text not in names[1].split(","):
            choices = names[1].split(",")
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(choices)}, got {text!r}{_meant(text, choices)}"
            )
        if word is not None:
            try:
                (float if word[1] == "FLOAT" else int)(text)
            except ValueError:
                kind = "a number" if word[1] == "FLOAT" else "a whole number"
                raise argparse.ArgumentTypeError(f"expected {kind}, got {text!r}") from None
        return text

    return checked


def _meant(text: str, names: Any) -> str:
    near = difflib.get_close_matches(text, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _with_dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def _flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags by every name that a file may give them."""
    return {
        name.removeprefix("--"): action
        for action in parser._actions
        for name in action.option_strings
        if not (name in ("-h", "--help", "--config") or name == f"--no-{action.dest}")
    }


def _parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> dict[str, Any]:
    """The flags that are given, by name."""
    flags = [name for action in parser._actions for name in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name != "--" and name not in flags:
            command = parser.prog.partition(" ")[2]
            parser.error(f"{name}: {command} has no such flag{_meant(name, flags)}")
    found, others = parser.parse_known_intermixed_args(words)
    if others:
        parser.error(f"expected a flag, got {' '.join(map(repr, others))}")
    return vars(found)


def _with_file(
    parser: argparse.ArgumentParser, path: Path, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Flags of a file, under those of the command line."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--config: {path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected TOML, got {error}") from None
    flags, words = _flags(parser), []
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in flags:
            command = parser.prog.partition(" ")[2]
            raise InputError(f"{path}: {key}: {command} has no such flag{_meant(name, flags)}")
        if not {flags[name].dest, _EITHER.get(name)} & given.keys():
            words += _of_file(path, key, flags[name], value)
    try:
        return _parsed(parser, words) | dict(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _of_file(path: Path, key: str, action: argparse.Action, value: Any) -> list[str]:
    """A flag of a file as words of a command line."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{path}: {key}: expected true or false, got {value!r}")
        return _switched(action, value)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise InputError(f"{path}: {key}: expected {action.metavar}, got {value!r}")
    if len(values) == 1:
        return [f"{action.option_strings[0]}={values[0]}"]
    return [action.option_strings[0], *map(str, values)]


def _words(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> list[str]:
    """Flags as words of a command line, what has no name first."""
    words: list[str] = []
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        if action.dest not in given:
            continue
        value = given[action.dest]
        values = value if isinstance(value, list) else [value]
        if not action.option_strings:
            words += values
        elif action.nargs == 0:
            words += _switched(action, bool(value))
        elif isinstance(value, list):
            words += [action.option_strings[0], *values]
        else:
            words.append(f"{action.option_strings[0]}={value}")
    return words


def _switched(action: argparse.Action, value: bool) -> list[str]:
    """A flag without a value as words; none where it is off by itself."""
    on, *off = action.option_strings
    return [on] if value else off


def _typed(action: argparse.Action, value: Any) -> Any:
    """A flag's value as a file of flags holds it; a path is one from every folder."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_typed(action, one) for one in value]
    metavar = str(action.metavar)
    word = re.search(r"\b(INT|K|N|FLOAT)\b", metavar)
    if word is not None and value != "None":
        return float(value) if word[1] == "FLOAT" else int(value)
    if re.search(r"\b(FILE|FOLDER|RUN)\b", metavar) and os.path.exists(value):
        return os.path.abspath(value)
    return value

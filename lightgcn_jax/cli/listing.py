"""What is printed of the flags of every command, made of the commands: ``flags.json``.

``python -m lightgcn_jax.cli.listing`` writes it anew after a flag has changed, and
``python -m pinsage_jax.cli.listing`` that of the other program.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tyro

from lightgcn_jax.cli.front import Program
from lightgcn_jax.cli.program import LIGHTGCN
from lightgcn_jax.cli.source import FileFormat, Source
from lightgcn_jax.settings.registry import CHOICES, names_of
from lightgcn_jax.training.optimizer import Optimization

ORDER = (
    "arguments",
    "data",
    "split",
    "model",
    "loss",
    "negatives",
    "optimiser",
    "protocol",
    "search",
    "run",
    "options",
)
"""The headings of a command's flags, in their order."""

_SPLIT = {"split", "shares", "leave_k", "split_seed", "unseen"}
_PROTOCOL = {"protocol", "ks", "cold", "rank_train", "select_by", "evaluate_every", "patience"}
_SEARCH = {
    "set",
    "range",
    "trials",
    "sampler",
    "draw_seed",
    "together",
    "study",
    "train_best",
}
_OF_PROCESSES = (
    (
        "--coordinator",
        "HOST:PORT|auto",
        "train in several processes, each with devices of its own: where the first one is found by "
        "the others, a port that is free there; `auto` where SLURM, Open MPI or a TPU pod says all "
        "of it.",
    ),
    ("--processes", "INT", "how many processes there are."),
    ("--process-id", "INT", "which one this is, from 0 on."),
)
_RUNNING = ("train", "sweep", "ablation")
EXAMPLES = {
    "train": (
        "train --data ratings.csv --min-rating 4 --out run",
        "train --config run/run.toml --dim 128 --out wider",
    ),
    "sweep": (
        "sweep --data log.csv --set dim=32,64 l2=1e-4,1e-3 --out sweep",
        "sweep --data log.csv --range learning_rate=1e-4..1e-1 --trials 20 --out sweep",
    ),
    "evaluate": ("evaluate run", "evaluate run --k 5 10 --beyond --groups 4"),
    "compare": ("compare run other", "compare run other third --k 10 --metric ndcg --baseline run"),
    "plot": ("plot run", "plot run --out curve.svg"),
    "recommend": (
        "recommend run --user 42 7 --k 20",
        "recommend run --all-users --out recommendations.parquet",
    ),
    "rank train": ("rank train run", "rank train run --events ratings.csv --loss bpr"),
    "rank evaluate": ("rank evaluate run", "rank evaluate run --k 10 20 --json"),
    "similar": ("similar run --item 31 --k 5", "similar run --user 42 --json"),
    "export": ("export run --to embeddings.npz", "export run --form folder --to shared"),
    "serve": ("serve run", "serve run --port 8080 --seconds 2"),
    "verify": ("verify run", "verify sweep --json"),
    "plan": (
        "plan --users 1000000 --items 200000 --edges 50000000 --accelerator h200",
        "plan --users 60000000 --items 40000000 --edges 1000000000 --accelerator v6e:16x16",
    ),
    "data list": ("data list", "data list --data-dir folder"),
    "data download": ("data download movielens-100k", "data download gowalla --to folder"),
    "data describe": ("data describe gowalla", "data describe log.csv --user-column who"),
    "data prepare": (
        "data prepare events --out prepared --memory 8GB",
        "data prepare log.csv --out prepared --split temporal-per-user",
    ),
    "diffusion report": (
        "diffusion report --dataset gowalla",
        "diffusion report --data log.csv --target tpu:v6e:2x2",
    ),
    "diffusion storages": ("diffusion storages", "diffusion storages --device cpu"),
}
"""Two command lines of each command."""


def heading_of(command: str, name: str) -> str:
    """Below which heading a flag of ``lightgcn-jax`` stands.

    Args:
        command: the command's name.
        name: the flag's, as a name of Python.
    """
    if command not in ("train", "sweep", "diffusion report"):
        return "options"
    choices = {"model": "model", "score": "model", "loss": "loss", "negative_sampler": "negatives"}
    owned = {
        heading: {choice}.union(*(names_of(one) for one in CHOICES[choice].values()))
        for choice, heading in choices.items()
    }
    named = {
        "search": _SEARCH if command == "sweep" else set(),
        "split": _SPLIT,
        "data": names_of(Source) | names_of(FileFormat),
        "loss": owned["loss"],
        "negatives": owned["negatives"] | {"negative_sharing", "popularity_power"},
        "optimiser": names_of(Optimization),
        "protocol": _PROTOCOL,
        "model": {
            "model",
            "score",
            *(name for one in CHOICES["model"].values() for name in names_of(one)),
            *(name for one in CHOICES["score"].values() for name in names_of(one)),
        },
    }
    return next((heading for heading, names in named.items() if name in names), "run")


def listed(
    program: Program,
    heading: Callable[[str, str], str],
    examples: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Every command's flags as a JSON value.

    Args:
        program: the program.
        heading: from a command and a flag's name to what it stands below.
        examples: command lines, by command.
    """
    found: dict[str, Any] = {}
    for name, (module, class_name, _) in program.commands.items():
        command = getattr(importlib.import_module(f"{program.package}.{module}"), class_name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of get_parser
            parser = tyro.extras.get_parser(command)
        about = (inspect.getdoc(command) or "").partition("\n\nAttributes:")[0]
        for path, own, text in _parsers(name, parser, about):
            if isinstance(own, dict):
                found[path] = {"about": text, "commands": own}
                continue
            flags = [_listed(program, path, action, heading) for action in own._actions]
            flags = [*filter(None, flags), *_of_the_front_door(path)]
            flags.sort(key=lambda one: ORDER.index(one["heading"]))
            found[path] = {"about": text, "examples": list(examples[path]), "flags": flags}
    return found


def _parsers(name: str, parser: Any, about: str) -> list[tuple[str, Any, str]]:
    """A command's parser, or those of its commands behind their names."""
    about = "\n\n".join(" ".join(part.split()) for part in about.split("\n\n"))
    within = [one for one in parser._actions if isinstance(one.choices, dict)]
    if not within:
        return [(name, parser, about)]
    found = []
    for one, of in within[0].choices.items():
        found += _parsers(f"{name} {one}", of, of.description or "")
    # A list of commands says of each what its help begins with.
    texts = {path.split()[-1]: text.partition("\n\n")[0] for path, _, text in found}
    return [(name, texts, about), *found]


def _listed(
    program: Program, command: str, action: Any, heading: Callable[[str, str], str]
) -> dict[str, Any] | None:
    if action.dest == "help":
        return None
    names = list(action.option_strings)
    name = (names[0] if names else "").removeprefix("--").replace("-", "_")
    if other := {here: there for there, here in program.spellings.items()}.get((names or [""])[0]):
        names = sorted([other, names[0]])
    text = " ".join((action.help or "").split())
    text = re.sub(r" ?\((default: |required|default: None)\)$", "", text)
    # What tyro writes of values that may be none at all.
    metavar = re.sub(r"^\{None\}\|\{(.*)\}$", r"\1", str(action.metavar or ""))
    metavar = re.sub(r"^\[(\w+ \[.*\])\]$", r"\1", metavar) or None
    return {
        "heading": heading(command, name) if names else "arguments",
        "names": names,
        "metavar": metavar,
        "nargs": None if action.nargs == 1 else action.nargs,
        "required": bool(names) and action.required,
        "help": text,
    }


def _of_the_front_door(command: str) -> list[dict[str, Any]]:
    """The flags that are taken before a command begins."""
    runs = command in _RUNNING
    flags = []
    if runs:
        text = "take flags from this file, as `run.toml` of a run; those given here have the say."
        flags.append(("--config", "FILE", text))
    if not command.startswith("data "):
        text = "compute on `cpu`, `gpu`, `tpu`, or the device of this number. (default: JAX's own)"
        flags.append(("--device", "cpu|gpu|tpu|NUMBER", text))
    if command == "train":
        flags += _OF_PROCESSES
    return [
        {
            "heading": "run" if runs or command == "diffusion report" else "options",
            "names": [name],
            "metavar": metavar,
            "nargs": None,
            "required": False,
            "help": text,
        }
        for name, metavar, text in flags
    ]


def text_of(found: Mapping[str, Any]) -> str:
    """The text of ``flags.json``, a flag a line.

    Args:
        found: what :func:`listed` returned.
    """
    lines = []
    for command, about in found.items():
        parts = [f" {json.dumps(key)}: {json.dumps(about[key])}" for key in about if key != "flags"]
        if "flags" in about:
            flags = ",\n".join(f"  {json.dumps(one)}" for one in about["flags"])
            parts.append(f' "flags": [\n{flags}\n ]')
        lines.append(f"{json.dumps(command)}: {{\n" + ",\n".join(parts) + "\n}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def path_of(program: Program) -> Path:
    """Where ``flags.json`` lies.

    Args:
        program: the program.
    """
    return Path(str(resources.files(program.package).joinpath("flags.json")))


if __name__ == "__main__":
    path_of(LIGHTGCN).write_text(text_of(listed(LIGHTGCN, heading_of, EXAMPLES)), encoding="utf-8")

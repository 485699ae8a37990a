"""Models, scores, losses and samplers by name, and which flat setting each of them reads.

Names exist for the command line and for run directories; in Python, objects are given.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lightgcn_jax.models.closed_form import ClosedForm
from lightgcn_jax.models.filter import Filter
from lightgcn_jax.models.gcn import GCN
from lightgcn_jax.models.gfcf import GfCf
from lightgcn_jax.models.gnn import GNN
from lightgcn_jax.models.heads import MLP, Cosine, Inner
from lightgcn_jax.models.itemcf import ItemCf
from lightgcn_jax.models.lightgcn import LightGCN
from lightgcn_jax.models.mf import MF
from lightgcn_jax.models.ngcf import NGCF
from lightgcn_jax.models.sgc import SGC
from lightgcn_jax.models.spectral import Spectral
from lightgcn_jax.models.trivial import Popular, Random
from lightgcn_jax.settings.config import ClosedFormConfig, Config, Selection, TrainConfig
from lightgcn_jax.training.losses import BPR, BilateralSoftmax, Binary, MaxMargin, Softmax
from lightgcn_jax.training.optimizer import Optimization
from lightgcn_jax.training.samplers import (
    AllItems,
    FunctionSampler,
    HardNegatives,
    InBatchNegatives,
    PerUserNegatives,
    SharedNegatives,
)

Classes = Mapping[str, type]
MODELS: Classes = {
    "mf": MF,
    "gcn": GCN,
    "sgc": SGC,
    "ngcf": NGCF,
    "gnn": GNN,
    "lightgcn": LightGCN,
    "filter": Filter,
    "gfcf": GfCf,
    "spectral": Spectral,
    "itemcf": ItemCf,
    "popular": Popular,
    "random": Random,
}
CHOICES: dict[str, Classes] = {
    "model": MODELS,
    "score": {"inner": Inner, "cosine": Cosine, "mlp": MLP},
    "loss": {
        "bpr": BPR,
        "binary": Binary,
        "softmax": Softmax,
        "bilateral-softmax": BilateralSoftmax,
        "max-margin": MaxMargin,
    },
    "negative_sampler": {
        "uniform": SharedNegatives,
        "popularity": SharedNegatives,
        "in-batch": InBatchNegatives,
        "hard": HardNegatives,
        "all": AllItems,
    },
}
"""Every choice by its flat name: the classes by theirs."""

CHOSEN = {"model": "lightgcn", "score": "inner", "loss": "bpr", "negative_sampler": "uniform"}
"""What is chosen by default."""

FIELDS = {choice: choice for choice in CHOICES} | {"negative_sampler": "negatives"}
"""The field of :class:`TrainConfig` that holds each choice."""

OWN = "own"
"""The name of an object that has none: a model, score, loss or sampler of one's own."""

_NESTED = {*FIELDS.values(), "optimization", "selection"}


def name_of(choice: str, value: Any) -> str:
    """The name of an object, or :data:`OWN`.

    Args:
        choice: a name of :data:`CHOICES`.
        value: the object.
    """
    if type(value) in (SharedNegatives, PerUserNegatives):
        return "uniform" if value.popularity_power is None else "popularity"
    names = {made: name for name, made in CHOICES[choice].items()}
    return names.get(type(value), OWN)


@dataclasses.dataclass(frozen=True)
class StandIn:
    """Stands for an object of one's own that is not at hand.

    Attributes:
        description: what :func:`described` says of the object.
        field: the field of the settings that held it.
    """

    description: str
    field: str


def described(value: Any, _within: tuple[Any, ...] = ()) -> str:
    """An object of one's own in words that are the same in every process.

    They name the function or the class, and what it was made of: the fields of an object, the
    arguments of a ``functools.partial``, the variables that an inner function took along. The code
    itself is not looked at.

    Args:
        value: a function, or any other object.
    """
    if any(value is one for one in _within):
        return "itself"

    def part(one: Any) -> str:
        return described(one, (*_within, value))

    if isinstance(value, StandIn):
        return value.description
    if isinstance(value, FunctionSampler):
        return part(value.function)
    if isinstance(value, types.MethodType):
        return f"{part(value.__self__)}.{value.__name__}"
    if isinstance(value, functools.partial):
        numbered = {str(place): one for place, one in enumerate(value.args)}
        return f"{part(value.func)} with {part(numbered | value.keywords)}"
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name}={part(one)}' for name, one in value.items())})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(part, value))}]"
    if hasattr(value, "__array__") and not isinstance(value, type):
        array = np.asarray(value)
        return f"{array.dtype}{list(array.shape)} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if hasattr(value, "__qualname__"):
        made = inspect.unwrap(value)
        parts = inspect.getclosurevars(made).nonlocals if inspect.isfunction(made) else {}
    elif dataclasses.is_dataclass(value):
        made, parts = type(value), fields_of(value)
    elif type(value).__repr__ is object.__repr__:
        made, parts = type(value), vars(value)
    else:
        return repr(value)
    return f"{made.__module__}.{made.__qualname__}{part(parts) if parts else ''}"


def own_objects(config: Config) -> dict[str, str]:
    """The objects of one's own among a run's settings: the field and what :func:`described` says.

    Args:
        config: the settings.
    """
    choices = FIELDS if config.is_trained else {"model": "model"}
    return {
        field: described(getattr(config, field))
        for choice, field in choices.items()
        if name_of(choice, getattr(config, field)) == OWN
    }


def model_name(config: Config) -> str:
    """The model's name, for outputs.

    Args:
        config: a run's settings.
    """
    name = name_of("model", config.model)
    if name != OWN:
        return name
    return described(config.model).partition("(")[0].rpartition(".")[2]


def with_embeddings() -> str:
    """The names of the models that have embeddings, for messages."""
    lacking = {name for name, made in MODELS.items() if not getattr(made, "has_embeddings", True)}
    return ", ".join(name for name in MODELS if name not in lacking)


def reads(model: str, setting: str) -> bool:
    """Whether a setting means something to a model, under some score, loss and sampler.

    Args:
        model: the model's name.
        setting: a flat name.
    """
    return setting in _read_by(model)


def readers(setting: str) -> str:
    """The models, scores, losses or samplers that read a setting, in words; empty where every
    trained model does.

    Args:
        setting: a flat name.
    """
    names = [name for name in MODELS if reads(name, setting)]
    if {name for name, made in MODELS.items() if not issubclass(made, ClosedForm)} - {*names}:
        return ", ".join(names)
    model = CHOSEN["model"]
    for choice in ("score", "loss", "negative_sampler"):
        values = [name for name in CHOICES[choice] if setting in _read_by(model, choice, name)]
        if len(values) < len(CHOICES[choice]):
            return f"{choice.replace('_', ' ')} {', '.join(values)}"
    return ""


def misplaced(chosen: Mapping[str, Any], setting: str) -> str | None:
    """What is wrong with a setting beside the chosen model, score, loss and sampler; None where
    something reads it.

    Args:
        chosen: names of the choices, perhaps among other settings; those that are left out have
            their defaults.
        setting: a flat name.
    """
    chosen = {choice: str(chosen.get(choice, default)) for choice, default in CHOSEN.items()}
    model = chosen["model"]
    if not reads(model, setting):
        readers = ", ".join(name for name in MODELS if reads(name, setting))
        return f"a setting of {readers}, which {model} does not read; leave it out"
    for choice in ("score", "loss", "negative_sampler"):
        if setting in _read_by(model, choice, chosen[choice]):
            continue
        readers = [name for name in CHOICES[choice] if setting in _read_by(model, choice, name)]
        return (
            f"a setting of {choice} {' or '.join(readers)}, got {choice} {chosen[choice]}; "
            f"leave it out"
        )
    return None


@functools.cache
def _read_by(model: str, choice: str = "", name: str = "") -> set[str]:
    """The settings that are read beside a model, under one choice made and the others open."""
    made = MODELS.get(model)
    read = {"model"} | (set() if made is None else names_of(made))
    if made is not None and issubclass(made, ClosedForm):
        reads_graph = made.uses_operator
        read |= names_of(ClosedFormConfig) - (set() if made.uses_key else {"seeds"})
    else:
        reads_graph = made is None or made.normalization is not None
        read |= {*CHOICES} | names_of(TrainConfig) | names_of(Optimization) | names_of(Selection)
        for other, classes in CHOICES.items():
            for one in [name] if other == choice else classes if other != "model" else []:
                read |= _read_by_choice(other, one)
    return read if reads_graph else read - {"backend", "ordering"}


def _read_by_choice(choice: str, name: str) -> set[str]:
    if name not in CHOICES[choice]:
        return set()
    read = names_of(CHOICES[choice][name])
    if name in ("uniform", "popularity"):
        read |= {"negative_sharing"}
    return read - ({"popularity_power"} if name == "uniform" else set())


def owners() -> Iterator[type]:
    """Every class that has settings, the models' first."""
    for classes in CHOICES.values():
        yield from classes.values()
    yield from (Optimization, Selection, TrainConfig)


def names_of(owner: type) -> set[str]:
    """The flat names of a class's settings.

    Args:
        owner: a dataclass.
    """
    nested = _NESTED if owner in (TrainConfig, ClosedFormConfig) else set()
    return {field.name for field in dataclasses.fields(owner)} - nested


def fields_of(value: Any) -> dict[str, Any]:
    """A dataclass instance as a dict of its fields, which stay as they are.

    Args:
        value: the instance.
    """
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}

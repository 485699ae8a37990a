"""Settings by flat names, as the command line and run directories write them.

``flat(config)`` is a dict such as ``{"model": "lightgcn", "dim": 64, "loss": "bpr", …}`` and
``from_flat`` its inverse. A name belongs to the value that reads it; a setting that nothing reads
under the chosen model, score, loss and sampler is refused. In Python, objects are given instead.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_type_hints

from lightgcn_jax.errors import InputError
from lightgcn_jax.models.closed_form import ClosedForm
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
from lightgcn_jax.training.losses import BPR, Binary, MaxMargin, Softmax
from lightgcn_jax.training.optimizer import Optimization
from lightgcn_jax.training.samplers import (
    AllItems,
    HardNegatives,
    InBatchNegatives,
    PerUserNegatives,
    SharedNegatives,
)

MODELS: dict[str, type] = {
    "mf": MF,
    "gcn": GCN,
    "sgc": SGC,
    "ngcf": NGCF,
    "gnn": GNN,
    "lightgcn": LightGCN,
    "gfcf": GfCf,
    "spectral": Spectral,
    "itemcf": ItemCf,
    "popular": Popular,
    "random": Random,
}
SCORES: dict[str, type] = {"inner": Inner, "cosine": Cosine, "mlp": MLP}
LOSSES: dict[str, type] = {
    "bpr": BPR,
    "binary": Binary,
    "softmax": Softmax,
    "max-margin": MaxMargin,
}
SAMPLERS: dict[str, type] = {
    "uniform": SharedNegatives,
    "popularity": SharedNegatives,
    "in-batch": InBatchNegatives,
    "hard": HardNegatives,
    "all": AllItems,
}
OWN = "own"
"""The name of an object that has none: a model, score, loss or sampler of one's own."""

_POPULARITY_POWER = 0.75
_OPERATOR = ("gcn", "sgc", "ngcf", "gnn", "lightgcn", "gfcf", "spectral")
_NESTED = ("model", "score", "loss", "negatives", "optimization", "selection")
_CHOICES: dict[str, tuple[str, Mapping[str, type]]] = {
    "model": ("model", MODELS),
    "score": ("score", SCORES),
    "loss": ("loss", LOSSES),
    "negative_sampler": ("negatives", SAMPLERS),
}
"""Flat name of each choice -> the field of the settings, and the classes by name."""

Sharing = Literal["shared", "per-user"]


class NamedChoices:
    """The choices by name.

    Attributes:
        model: trained: `mf` (matrix factorisation), `gcn`, `sgc` (its linearisation), `ngcf`, `gnn`
            (aggregate and combine of your choice), `lightgcn`. Fitted in one go, without epochs:
            `gfcf` (graph filters), `spectral` (singular vectors as embeddings), `itemcf`
            (item-based cosine), `popular` (number of users) and `random`.
        score: of a user and an item, in training and in ranking: inner product, cosine, or a
            network of one hidden layer over both vectors (`mlp`).
        loss: `bpr`, `binary`, `softmax` (over the positive and the negatives) or `max-margin`.
        negative_sampler: `uniform`; `popularity`, in proportion to a power of an item's users;
            `in-batch`, the positives of the batch; `hard`, the items of a shared uniform pool that
            score highest; `all` items, for small catalogues.
        negative_sharing: `shared` draws one set for the batch, `per-user` one set for each row.
    """

    model: Literal[tuple(MODELS)]  # pyright: ignore
    score: Literal[tuple(SCORES)]  # pyright: ignore
    loss: Literal[tuple(LOSSES)]  # pyright: ignore
    negative_sampler: Literal[tuple(SAMPLERS)]  # pyright: ignore
    negative_sharing: Sharing


def name_of(kind: str, value: Any) -> str:
    """The name of an object, or :data:`OWN`.

    Args:
        kind: ``model``, ``score``, ``loss`` or ``negative_sampler``.
        value: the object.
    """
    if kind == "negative_sampler" and type(value) is PerUserNegatives:
        value = SharedNegatives(popularity_power=value.popularity_power)
    if type(value) is SharedNegatives:
        return "uniform" if value.popularity_power is None else "popularity"
    names = {made: name for name, made in _CHOICES[kind][1].items()}
    return names.get(type(value), OWN)


def described(value: Any) -> str:
    """An object of one's own in words that are the same in every process.

    Args:
        value: a function, or an object; of a dataclass the fields are told too.
    """
    if hasattr(value, "description"):  # a stand-in for an object that is not at hand
        return value.description
    function = getattr(value, "function", value)
    named = function if hasattr(function, "__qualname__") else type(function)
    fields = ""
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        each = ((one.name, getattr(function, one.name)) for one in dataclasses.fields(function))
        fields = f"({', '.join(f'{name}={value!r}' for name, value in each)})"
    return f"{named.__module__}.{named.__qualname__}{fields}"


def own_objects(config: Config) -> dict[str, str]:
    """The objects of one's own among a run's settings: the field and what :func:`described` says.

    Args:
        config: the settings.
    """
    return {
        field: described(getattr(config, field))
        for choice, (field, _) in _CHOICES.items()
        if (config.is_trained or field == "model")
        and name_of(choice, getattr(config, field)) == OWN
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


def flat(config: Config) -> dict[str, Any]:
    """Settings by flat names; :func:`from_flat` is the inverse. Objects of one's own are
    :data:`OWN` there.

    Args:
        config: the settings.
    """
    settings: dict[str, Any] = {}
    for choice, (field, _) in _CHOICES.items():
        if config.is_trained or choice == "model":
            value = getattr(config, field)
            settings[choice] = name_of(choice, value)
            if settings[choice] != OWN:
                settings |= _fields(value)
    if isinstance(config, TrainConfig):
        if settings["negative_sampler"] in ("uniform", "popularity"):
            per_user = config.strategies.sampler.per_user
            settings["negative_sharing"] = "per-user" if per_user else "shared"
        settings |= _fields(config.optimization) | _fields(config.selection)
    rest = {name: value for name, value in _fields(config).items() if name not in _NESTED}
    return {
        name: value
        for name, value in (settings | rest).items()
        if value is not None and not misplaced(settings, name)
    }


def from_flat(
    settings: Mapping[str, Any], own: Mapping[str, Any] | None = None, where: str = ""
) -> Config:
    """Settings from flat names; what is not named has its default.

    Args:
        settings: by name; tuples may be lists.
        own: objects of one's own by field, for names that are :data:`OWN`.
        where: put before the name in messages, ``--`` for instance.

    Raises:
        InputError: a name is unknown, nothing reads it beside the others, or a value does not fit.

    Example:
        >>> from_flat({"model": "mf", "dim": 8}).model
        MF(dim=8, biases=False, init_std=0.1)
    """
    settings, own = dict(settings), own or {}
    for name in settings:
        if name not in KINDS:
            raise InputError(f"{where}{name}: expected a setting of training, got another name")
    chosen = {choice: settings.get(choice, default) for choice, default in _DEFAULTS.items()}
    for choice, (field, classes) in _CHOICES.items():
        if chosen[choice] not in classes and not (chosen[choice] == OWN and field in own):
            raise InputError(
                f"{where}{choice}: expected one of {tuple(classes)}, got {chosen[choice]!r}"
            )
    for name in settings:
        problem = misplaced(chosen, name)
        if problem:
            raise InputError(f"{where}{name}: {problem}")
    read = {name: value for name, value in settings.items() if name not in _CHOICES}

    def made(owner: type, **fixed: Any) -> Any:
        names = [field.name for field in dataclasses.fields(owner) if field.name in read]
        return owner(**{name: read[name] for name in names} | fixed)

    def made_or_own(choice: str, **fixed: Any) -> Any:
        field, classes = _CHOICES[choice]
        return own[field] if chosen[choice] == OWN else made(classes[chosen[choice]], **fixed)

    model = made_or_own("model")
    if isinstance(model, ClosedForm):
        return made(ClosedFormConfig, model=model)
    fixed: dict[str, Any] = {}
    if chosen["negative_sampler"] == "popularity":
        fixed = {"popularity_power": read.get("popularity_power", _POPULARITY_POWER)}
    negatives = made_or_own("negative_sampler", **fixed)
    if read.get("negative_sharing") == "per-user":
        negatives = PerUserNegatives(**_fields(negatives))
    elif read.get("negative_sharing", "shared") != "shared":
        raise InputError(
            f"{where}negative_sharing: expected one of ('shared', 'per-user'), "
            f"got {read['negative_sharing']!r}"
        )
    return made(
        TrainConfig,
        model=model,
        score=made_or_own("score"),
        loss=made_or_own("loss"),
        negatives=negatives,
        optimization=made(Optimization),
        selection=made(Selection),
    )


def replaced(base: Config, given: Mapping[str, Any], where: str = "", source: str = "") -> Config:
    """Settings with some of them given anew, by flat names.

    What ``base`` holds and nothing reads any more is dropped where it has its default, and refused
    where it has not.

    Args:
        base: the settings.
        given: by name.
        where: put before a given name in messages, ``--`` for instance.
        source: what ``base`` is called in messages, ``--preset: fast`` for instance.

    Raises:
        InputError: settings do not fit together.
    """
    before = flat(base)
    chosen = {
        choice: given.get(choice, before.get(choice, default))
        for choice, default in _DEFAULTS.items()
    }
    kept = {}
    for name, value in before.items():
        if name in given or not misplaced(chosen, name):
            kept[name] = value
        elif value != DEFAULTS.get(name):
            raise InputError(
                f"{source or name}{' holds ' + name if source else ''}: {misplaced(chosen, name)}"
            )
    own = {field: getattr(base, field) for field in own_objects(base)}
    return from_flat(kept | dict(given), own, where)


def misplaced(chosen: Mapping[str, str], setting: str) -> str | None:
    """What is wrong with a setting beside the chosen model, score, loss and sampler; None where
    something reads it.

    Args:
        chosen: names of the choices, perhaps among other settings; those that are left out have
            their defaults.
        setting: a flat name.
    """
    chosen = {choice: chosen.get(choice, default) for choice, default in _DEFAULTS.items()}
    model = chosen["model"]
    if not reads(model, setting):
        readers = ", ".join(name for name in MODELS if reads(name, setting))
        return f"a setting of {readers}, which {model} does not read; leave it out"
    for choice in ("score", "loss", "negative_sampler"):
        values = [name for name in _CHOICES[choice][1] if setting in _read_by(choice, name)]
        if values and chosen[choice] not in values:
            if chosen[choice] == OWN:
                values = ["of ours" if len(values) > 1 else values[0]]
            return (
                f"a setting of {choice} {' or '.join(values)}, got {choice} {chosen[choice]}; "
                f"leave it out"
            )
    return None


def reads(model: str, setting: str) -> bool:
    """Whether a setting means something to a model, under some score, loss and sampler.

    Args:
        model: the model's name.
        setting: a flat name.
    """
    made = MODELS.get(model)
    if setting == "model" or (made is not None and setting in _names(made)):
        return True
    if made is not None and issubclass(made, ClosedForm):
        needs = {"seeds": made.uses_key, "backend": model in _OPERATOR}
        return setting in _names(ClosedFormConfig) and needs.get(setting, True)
    if setting in ("backend", "ordering"):
        return made is None or model in _OPERATOR
    owners = (TrainConfig, Optimization, Selection, NamedChoices)
    if any(setting in _names(owner) for owner in owners):
        return True
    others = ((choice, name) for choice, (_, made) in _CHOICES.items() for name in made)
    return any(setting in _read_by(*other) for other in others if other[0] != "model")


def _read_by(choice: str, name: str) -> set[str]:
    """The settings that a score, a loss or a sampler reads."""
    read = _names(_CHOICES[choice][1][name])
    if choice != "negative_sampler":
        return read
    sharing = {"negative_sharing"} if name in ("uniform", "popularity") else set()
    return (read | sharing) - ({"popularity_power"} if name == "uniform" else set())


def with_embeddings() -> str:
    """The names of the models that have embeddings, for messages."""
    return ", ".join(
        name
        for name, made in MODELS.items()
        if not issubclass(made, ClosedForm) or made.has_embeddings
    )


def _names(owner: type) -> set[str]:
    if not dataclasses.is_dataclass(owner):
        return set(owner.__annotations__)
    nested = _NESTED if owner in (TrainConfig, ClosedFormConfig) else ()
    return {field.name for field in dataclasses.fields(owner)}.difference(nested)


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def _owners() -> Iterator[type]:
    """Every class that has settings, the models' first."""
    yield NamedChoices
    for _, classes in _CHOICES.values():
        yield from classes.values()
    yield from (Optimization, Selection, TrainConfig)


def flag_documentation() -> str:
    """A docstring with an ``Attributes`` section of every flat name, from the owners' own."""
    found: dict[str, str] = {}
    for owner in _owners():
        section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
        section = section.partition("\n\n")[0].replace("``", "`")
        name = ""
        for line in section.splitlines():
            if line.startswith("    ") and not line.startswith("     "):
                name = line.strip().partition(":")[0]
                if name in found:
                    name = ""
            if name:
                found[name] = found.get(name, "") + line + "\n"
    return "Settings of a run.\n\nAttributes:\n" + "".join(
        found[name] for name in KINDS if name in found
    )


def _kinds() -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for owner in _owners():
        hints = get_type_hints(owner)
        kinds |= {name: hints[name] for name in hints if name in _names(owner)} | kinds
    kinds["popularity_power"] = float
    kinds["select_by"] = str
    return kinds


_DEFAULTS = {"model": "lightgcn", "score": "inner", "loss": "bpr", "negative_sampler": "uniform"}
KINDS = _kinds()
"""The type of each flat setting."""

DEFAULTS: dict[str, Any] = {
    **{
        field.name: field.default
        for owner in reversed([*_owners()])
        if dataclasses.is_dataclass(owner)
        for field in dataclasses.fields(owner)
        if field.name in _names(owner)
    },
    **_DEFAULTS,
    "negative_sharing": "shared",
    "popularity_power": _POPULARITY_POWER,
}
"""The default of each flat setting."""

"""Settings by flat names, as the command line and run directories write them.

``flat(config)`` is a dict such as ``{"model": "lightgcn", "dim": 64, "loss": "bpr", …}`` and
``from_flat`` its inverse. A setting that nothing reads under the chosen model, score, loss and
sampler is refused.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

from lightgcn_jax.errors import InputError
from lightgcn_jax.models.closed_form import ClosedForm
from lightgcn_jax.settings.config import ClosedFormConfig, Config, Selection, TrainConfig
from lightgcn_jax.settings.registry import (
    CHOICES,
    CHOSEN,
    FIELDS,
    OWN,
    fields_of,
    misplaced,
    name_of,
    names_of,
    own_objects,
    owners,
)
from lightgcn_jax.training import Optimization, PerUserNegatives

_SHARING = ("shared", "per-user")
_POPULARITY_POWER = 0.75


def flat(config: Config) -> dict[str, Any]:
    """Settings by flat names; :func:`from_flat` is the inverse. Objects of one's own are
    :data:`~lightgcn_jax.settings.registry.OWN` there, and what is None is left out.

    Args:
        config: the settings.
    """
    settings = fields_of(config)
    values = {choice: settings.pop(field) for choice, field in FIELDS.items() if field in settings}
    for choice, value in values.items():
        settings[choice] = name_of(choice, value)
        settings |= fields_of(value) if settings[choice] != OWN else {}
    if isinstance(config, TrainConfig):
        settings |= fields_of(settings.pop("optimization")) | fields_of(settings.pop("selection"))
        settings["negative_sharing"] = _SHARING[config.strategies.sampler.per_user]
    return {
        name: value
        for name, value in settings.items()
        if value is not None and not misplaced(settings, name)
    }


def from_flat(
    settings: Mapping[str, Any], own: Mapping[str, Any] | None = None, where: str = ""
) -> Config:
    """Settings from flat names; what is not named has its default.

    Args:
        settings: by name; tuples may be lists.
        own: objects of one's own by field, for names that are
            :data:`~lightgcn_jax.settings.registry.OWN`.
        where: put before the name in messages; behind ``--`` it is spelled as a flag.

    Raises:
        InputError: a name is unknown, nothing reads it beside the others, or a value does not fit.

    Example:
        >>> from_flat({"model": "mf", "dim": 8}).model
        MF(dim=8, biases=False, init_std=0.1)
    """
    own = own or {}
    chosen = {choice: settings.get(choice, default) for choice, default in CHOSEN.items()}
    _check_names(settings, chosen, own, where)
    read = {name: value for name, value in settings.items() if name not in CHOICES}

    def made(owner: type, **fixed: Any) -> Any:
        return owner(**{name: read[name] for name in names_of(owner) & read.keys()} | fixed)

    def made_or_own(choice: str, **fixed: Any) -> Any:
        name = chosen[choice]
        return own[FIELDS[choice]] if name == OWN else made(CHOICES[choice][name], **fixed)

    model = made_or_own("model")
    if isinstance(model, ClosedForm):
        return made(ClosedFormConfig, model=model)
    fixed = {}
    if chosen["negative_sampler"] == "popularity":
        fixed = {"popularity_power": read.get("popularity_power", _POPULARITY_POWER)}
    negatives = made_or_own("negative_sampler", **fixed)
    if read.get("negative_sharing") == "per-user":
        negatives = PerUserNegatives(**fields_of(negatives))
    return made(
        TrainConfig,
        model=model,
        score=made_or_own("score"),
        loss=made_or_own("loss"),
        negatives=negatives,
        optimization=made(Optimization),
        selection=made(Selection),
    )


def _check_names(
    settings: Mapping[str, Any], chosen: Mapping[str, Any], own: Mapping[str, Any], where: str
) -> None:
    def called(name: str) -> str:
        return where + (name.replace("_", "-") if where == "--" else name)

    for name in settings:
        if name not in KINDS:
            raise InputError(f"{called(name)}: expected a setting of training, got another name")
    named = {choice: (*classes,) for choice, classes in CHOICES.items()}
    for name, names in (named | {"negative_sharing": _SHARING}).items():
        value = settings.get(name, DEFAULTS[name])
        if value not in names and not (value == OWN and FIELDS.get(name) in own):
            raise InputError(f"{called(name)}: expected one of {names}, got {value!r}")
    for name in settings:
        if problem := misplaced(chosen, name):
            raise InputError(f"{called(name)}: {problem}")


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
    before, kept = flat(base), {}
    chosen = before | dict(given)
    for name, value in before.items():
        problem = misplaced(chosen, name)
        if problem and name not in given and value != DEFAULTS[name]:
            held = f"{source} holds {name}" if source else name
            raise InputError(f"{held}: {problem}")
        if not problem:
            kept[name] = value
    own = {field: getattr(base, field) for field in own_objects(base)}
    return from_flat(kept | dict(given), own, where)


class _Flags:
    """The choices by name, and what a flag means that several classes read.

    Attributes:
        model: trained: `mf` (matrix factorisation), `gcn`, `sgc` (its linearisation), `ngcf`, `gnn`
            (aggregate and combine of your choice), `lightgcn`. Fitted in one go, without epochs:
            `filter` (a polynomial of the graph), `gfcf` (two graph filters), `spectral` (singular
            vectors as embeddings), `itemcf` (item-based cosine), `popular` (number of users) and
            `random`.
        score: of a user and an item, in training and in ranking: inner product, cosine, or a
            network of one hidden layer over both vectors (`mlp`).
        loss: `bpr`, `binary`, `softmax` (over the positive and the negatives), `bilateral-softmax`
            (the negatives' side has a weight of its own) or `max-margin`.
        negative_sampler: `uniform`; `popularity`, in proportion to a power of an item's users;
            `in-batch`, the positives of the batch; `hard`, the items of a shared uniform pool that
            score highest; `all` items, for small catalogues.
        negative_sharing: `shared` draws one set for the batch, `per-user` one set for each row.
        dim: dimensions D of an embedding; of `spectral` the singular vectors.
        layers: applications K of Ã, or of the aggregation of `gnn`; 0 makes `lightgcn` matrix
            factorisation, the others take at least 1.
        negatives: items that a batch shares, or that each row has.
        popularity_power: draw items in proportion to this power of their number of users.
        popularity_offset: γ; γ·log(1 + an item's training users) is added to its scores, in
            training and in ranking. A cosine alone cannot say that everybody likes an item.
        temperature: what scores are divided by in the loss.
    """


def flag_documentation() -> str:
    """A docstring with an ``Attributes`` section of every flat name, from the owners' own."""
    found: dict[str, str] = {}
    for owner in (_Flags, *owners()):
        section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
        own: dict[str, str] = {}
        name = ""
        for line in section.partition("\n\n")[0].replace("``", "`").splitlines():
            if line.startswith("     "):
                own[name] += f" {line.strip()}"
            else:
                name, _, text = line.strip().partition(": ")
                own[name] = text
        found = own | found
    texts = (f"    {name}: {found[name]}\n" for name in KINDS if name in found)
    return "Settings of a run.\n\nAttributes:\n" + "".join(texts)


_Names: Any = Literal
KINDS: dict[str, Any] = {choice: _Names[tuple(names)] for choice, names in CHOICES.items()}
"""The type of each flat setting."""

KINDS["negative_sharing"] = _Names[_SHARING]
DEFAULTS: dict[str, Any] = {**CHOSEN, "negative_sharing": "shared"}
"""The default of each flat setting."""

for _owner in owners():
    _hints = get_type_hints(_owner)
    for _field in dataclasses.fields(_owner):
        if _field.name in names_of(_owner):
            KINDS.setdefault(_field.name, _hints[_field.name])
            DEFAULTS.setdefault(_field.name, _field.default)
KINDS |= {"popularity_power": float, "select_by": str}
DEFAULTS["popularity_power"] = _POPULARITY_POWER

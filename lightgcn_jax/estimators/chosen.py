"""The settings of an estimator: flat names, as the command line has them, and objects."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import ClosedForm, Model
from lightgcn_jax.settings import PRESETS, ClosedFormConfig, Config, flat
from lightgcn_jax.settings.names import DEFAULTS, KINDS, replaced
from lightgcn_jax.settings.registry import FIELDS, own_objects

# What other libraries call our settings.
_ELSEWHERE = {
    "alpha": "l2",
    "d": "dim",
    "embed_dim": "dim",
    "embedding_dim": "dim",
    "embedding_size": "dim",
    "factors": "dim",
    "iterations": "epochs",
    "k": "ks",
    "lambda_reg": "l2",
    "latent_dim": "dim",
    "lr": "learning_rate",
    "max_iter": "epochs",
    "n_components": "dim",
    "n_epochs": "epochs",
    "n_factors": "dim",
    "n_layers": "layers",
    "num_epochs": "epochs",
    "num_factors": "dim",
    "num_layers": "layers",
    "num_negatives": "negatives",
    "optimiser": "optimizer",
    "random_state": "seed",
    "reg": "l2",
    "regularization": "l2",
    "weight_decay": "l2",
}
# Arguments of an estimator beside its settings.
_ARGUMENTS = ("preset", "loss", "negatives", "score", "optimizer", "verbose")


SETTINGS = frozenset({*KINDS, *_ARGUMENTS} - {"model"})
"""What an estimator of this package may be given."""


def check_names(
    settings: Iterable[str],
    title: str,
    known: Collection[str] = SETTINGS,
    of_fit: Collection[str] = (),
) -> None:
    """Refuse settings that nobody knows, and say what could be meant.

    Args:
        settings: their names.
        title: what an error calls the estimator.
        known: the names of all that it has.
        of_fit: the names of what its method ``fit`` takes.

    Raises:
        InputError: a name is unknown.
    """
    for name in settings:
        if name in known:
            continue
        if name in of_fit:
            raise InputError(f"{name}: goes to fit, {title}(…).fit(…, {name}=…)")
        meant = meant_by(name, sorted(known), _ELSEWHERE)
        raise InputError(f"{name}: {title} has no such setting; {meant}")


def meant_by(name: str, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """What a name that nobody knows could mean, for an error.

    Args:
        name: as it was given.
        known: the names that there are.
        elsewhere: what other libraries call them.
    """
    near = [elsewhere[name]] if elsewhere.get(name) in known else []
    near = near or difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}=?" if near else f"it has {', '.join(known)}"


def make_config(
    model: str | Model | ClosedForm,
    preset: str | None,
    strategies: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Config:
    """The settings of a run.

    Args:
        model: the name of a model, or a model.
        preset: the name of the settings that those given are put over; None for the default.
        strategies: ``loss``, ``negatives`` and ``score``: names, objects, or None for the preset's.
            Of negatives a number is how many there are.
        settings: by flat name.

    Raises:
        InputError: names or values do not fit each other.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    flat, objects = dict(settings), {}
    for field, value in strategies.items():
        if value is None:
            continue
        if isinstance(value, str):
            flat["negative_sampler" if field == "negatives" else field] = value
        elif field == "negatives" and isinstance(value, numbers.Integral):
            flat[field] = value
        else:
            objects[field] = value
    base: Config = PRESETS[preset or "default"]
    source = f"preset={preset!r}" if preset else ""
    if isinstance(model, str):
        flat["model"] = model
    elif isinstance(model, ClosedForm):
        base, given = ClosedFormConfig(model=model), (preset, *objects)
        if any(given):
            named = "preset" if preset else next(iter(objects))
            raise InputError(f"{named}: {type(model).__name__} is fitted in one go and reads none")
    else:
        base = dataclasses.replace(base, model=model)
    if objects:
        base = dataclasses.replace(base, **objects)
    return replaced(base, flat, source=source)


def changed_settings(config: Config) -> dict[str, Any]:
    """The settings that are not the default's, as an estimator's constructor takes them.

    Args:
        config: the settings.
    """
    own = {field: getattr(config, field) for field in own_objects(config)}
    held = {choice for choice, field in FIELDS.items() if field in own}
    changed = {
        name: value
        for name, value in flat(config).items()
        if name not in held and value != DEFAULTS.get(name)
    }
    return {name: value for name, value in (changed | own).items() if name != "model"}

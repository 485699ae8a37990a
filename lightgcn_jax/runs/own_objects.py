"""Objects of one's own in a run that is opened from disk: known by their description alone.

A run directory keeps names, no code. What was made from an object without a name holds one of these
in its place: its figures and vectors can be read, and using it says what is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lightgcn_jax.errors import InputError
from lightgcn_jax.models.closed_form import ClosedForm
from lightgcn_jax.models.heads import Score
from lightgcn_jax.models.model import Model
from lightgcn_jax.settings.registry import described
from lightgcn_jax.training.samplers import NegativeSampler


@dataclasses.dataclass(frozen=True)
class _Missing:
    description: str
    field: str

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.field}: the run was made with one of your own, {self.description}; give the "
            f"same object from Python: resume(path, {self.field}=…)"
        )


@dataclasses.dataclass(frozen=True)
class MissingModel(_Missing, Model):
    """Stands for a model."""

    @property
    def width(self) -> int:
        self._refuse()

    def init(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def apply(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()


@dataclasses.dataclass(frozen=True)
class MissingClosedForm(_Missing, ClosedForm):
    """Stands for a closed form."""

    def fit(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()


@dataclasses.dataclass(frozen=True)
class MissingScore(_Missing, Score):
    """Stands for a score."""

    def init(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()


@dataclasses.dataclass(frozen=True)
class MissingLoss(_Missing):
    """Stands for a loss."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()


@dataclasses.dataclass(frozen=True)
class MissingSampler(_Missing, NegativeSampler):
    """Stands for a sampler of negatives."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def num_items(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()


def in_place_of(
    descriptions: Mapping[str, str], given: Mapping[str, Any], path: Path, *, is_trained: bool
) -> dict[str, Any]:
    """The objects that were given for those of a run, and stand-ins for the others.

    Args:
        descriptions: of the run's objects, by field.
        given: objects by field; None where none was given.
        path: the run, for messages.
        is_trained: whether the run's model is trained epoch by epoch.

    Raises:
        InputError: an object was given where the run has a named one, or another object.
    """
    objects: dict[str, Any] = {}
    for field, value in given.items():
        if value is None:
            continue
        if field not in descriptions:
            raise InputError(
                f"{field}: expected none, as the run {path} names its own, got {value!r}"
            )
        if described(value) != descriptions[field]:
            raise InputError(
                f"{field}: expected {descriptions[field]}, with which {path} was started, "
                f"got {described(value)}"
            )
        objects[field] = value
    stand_ins: dict[str, Any] = {
        "model": MissingModel if is_trained else MissingClosedForm,
        "score": MissingScore,
        "loss": MissingLoss,
        "negatives": MissingSampler,
    }
    for field in descriptions.keys() - objects.keys():
        objects[field] = stand_ins[field](descriptions[field], field)
    return objects

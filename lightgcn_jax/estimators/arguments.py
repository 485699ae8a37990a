"""A misspelt argument of a method ends in one sentence that says what could be meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.chosen import SETTINGS, meant_by

P = ParamSpec("P")
R = TypeVar("R")

# What other libraries call our arguments.
_ELSEWHERE = {
    "N": "k",
    "callback": "on_epoch",
    "callbacks": "on_epoch",
    "exclude_items": "exclude",
    "filter_already_liked_items": "exclude_seen",
    "filter_items": "exclude",
    "filter_seen": "exclude_seen",
    "include": "among",
    "item_col": "item",
    "item_id": "item",
    "n": "k",
    "n_items": "k",
    "num_items": "k",
    "rating_col": "rating",
    "remove_seen": "exclude_seen",
    "session": "context",
    "time": "timestamp",
    "time_col": "timestamp",
    "top_k": "k",
    "top_n": "k",
    "topk": "k",
    "user_col": "user",
    "user_id": "user",
    "whitelist": "among",
    "blacklist": "exclude",
}


def suggests(method: Callable[P, R]) -> Callable[P, R]:
    """The method, which names the argument that a misspelt one could mean.

    Args:
        method: of a class; its other errors stay what they are.
    """
    parameters = inspect.signature(method).parameters
    known = [name for name in parameters if name not in ("self", "cls")]
    by_place = [one for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]

    @functools.wraps(method)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise InputError(f"{name}: {method.__name__} has no such argument; {_meant(name)}")
        if len(args) > len(by_place):
            taken = ", ".join(name for name in known if parameters[name] in by_place)
            named = [name for name in known if parameters[name] not in by_place]
            more = f"; name the others, {named[0]}=… for instance" if named else ""
            raise InputError(f"{method.__name__}: takes by place no more than {taken}{more}")
        return method(*args, **kwargs)

    def _meant(name: str) -> str:
        if name in SETTINGS:
            return f"it is a setting, which the constructor takes: {name}=…"
        return meant_by(name.removesuffix("_column"), known, _ELSEWHERE)

    return checked

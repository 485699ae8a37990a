"""Items written out: a sentence for a model that reads, from the columns that are known of an item.

Toy Story. From 1995. Genres: Adventure, Animation. Tags: pixar, fun
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightgcn_jax.errors import InputError

Template = Mapping[str, str]
"""By a column's name what is written of its value, which stands for ``{}``."""

TEMPLATE: Template = {
    "title": "{}",
    "name": "{}",
    "year": "From {}",
    "genres": "Genres: {}",
    "tags": "Tags: {}",
}
"""What is written of films and artists."""


def written_out(columns: Mapping[str, Sequence[Any]], template: Template = TEMPLATE) -> list[str]:
    """A text for each item.

    Args:
        columns: n values by the name of the column: strings, numbers, several of them, or None.
        template: what is written, in its order; columns that are not there are passed over, and so
            is an item's value that is None, empty or NaN.

    Returns:
        n texts; "" of an item of which nothing is known.

    Raises:
        InputError: no column is in the template, or columns have different lengths.
    """
    used = [name for name in template if name in columns]
    if not used:
        raise InputError(
            f"columns: expected one of {', '.join(template)}, got {', '.join(columns) or 'none'}"
        )
    lengths = {name: len(columns[name]) for name in used}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns: expected as many values in each, got {lengths}")
    texts = []
    for values in zip(*(columns[name] for name in used), strict=True):
        phrases = [
            template[name].replace("{}", told)
            for name, value in zip(used, values, strict=True)
            if (told := _told(value))
        ]
        texts.append(". ".join(phrases))
    return texts


def _told(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Iterable):
        return ", ".join(filter(None, map(_told, value)))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

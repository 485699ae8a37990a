"""Answers as columns: who asked, what was found, its place, its score and its title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightgcn_jax.data.titles import Titles
from lightgcn_jax.serving.answers import Ranked


def answer_columns(
    asked: Sequence[Any],
    answers: Sequence[Ranked | None],
    columns: tuple[str | None, str],
    titles: Titles | None = None,
    place: str = "rank",
) -> dict[str, Any]:
    """A row for each recommendation or neighbour.

    Args:
        asked: ids, one for each answer.
        answers: what each was answered; None gives no row.
        columns: names of the first two columns; None leaves the first out.
        titles: of what was found; None gives no column of titles.
        place: name of the column of places, which count from 1 on.

    Returns:
        By name: who asked, what was found, its ``title``, its place and its ``score``.
    """
    rows = [pair for pair in zip(asked, answers, strict=True) if pair[1] is not None]
    ranked = [one for _, one in rows if one is not None]
    found = [identifier for one in ranked for identifier in one.ids]
    made: dict[str, Any] = {}
    if columns[0] is not None:
        lengths = [len(one.ids) for one in ranked]
        made[columns[0]] = [
            one for (one, _), count in zip(rows, lengths, strict=True) for _ in range(count)
        ]
    made[columns[1]] = found
    if titles is not None:
        made["title"] = titles.of(found).to_list()
    made[place] = [at for one in ranked for at in range(1, len(one.ids) + 1)]
    made["score"] = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in ranked)])
    return made

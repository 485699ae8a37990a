"""Items on a plane: the two directions in which their vectors differ most, and kinds of items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightgcn_jax.service.ranker import ExternalId
from lightgcn_jax.service.served import Served

# Points that a browser draws at once, and the colours that are told apart.
_MOST_POINTS, _MOST_GROUPS, _STEPS = 2_000, 8, 25


class Plane(NamedTuple):
    """Places of items.

    Attributes:
        ids: n external ids, the best-known items first.
        titles: n titles.
        places: ``float[n, 2]`` within −1 … 1.
        groups: ``int[n]``, the kind of each.
        names: what the kinds are called.
        how: what is seen, a sentence.
    """

    ids: list[ExternalId]
    titles: list[str]
    places: np.ndarray
    groups: np.ndarray
    names: list[str]
    how: str


def plane_of(served: Served) -> Plane | None:
    """The map of a run's items; None where there are no vectors.

    Args:
        served: the run.
    """
    vectors, ranker = served.ranker.coordinates(), served.ranker
    if vectors is None or min(vectors.shape) < 2:
        return None
    rows = np.argsort(-ranker.popularity[: len(vectors)], kind="stable")[:_MOST_POINTS]
    chosen = vectors[rows].astype(np.float64)
    lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
    unit = chosen / np.where(lengths > 0, lengths, 1)
    places, share = principal(unit)
    ids = ranker.items.external(rows)
    titles = served.catalogue.titles_of(ids)
    how = (
        f"The {len(rows):,} best-known items by the two principal components of their vectors at "
        f"length 1, which hold {share:.0%} of what differs"
    )
    if ranker.groups is not None:
        kinds = [ranker.groups[row] or "–" for row in rows.tolist()]
        counts: dict[str, int] = {}
        for one in kinds:
            counts[one] = counts.get(one, 0) + 1
        names = sorted(counts, key=lambda one: -counts[one])[: _MOST_GROUPS - 1]
        groups = np.array([names.index(one) if one in names else len(names) for one in kinds])
        names = [*names, "others"] if groups.max() == len(names) else names
        return Plane(ids, titles, places, groups, names, f"{how}.")
    groups, centres = clusters(unit, _MOST_GROUPS)
    nearest = (unit @ centres.T).argmax(axis=0)
    names = [f"like {titles[at]}" for at in nearest.tolist()]
    how = f"{how}. Colours are clusters of directions, called by the item nearest to the middle."
    return Plane(ids, titles, places, groups, names, how)


def principal(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Vectors on the two directions in which they differ most.

    Args:
        vectors: ``float[n, D]``, n and D of at least 2.

    Returns:
        ``float[n, 2]`` within −1 … 1, and the share of the variance that they keep.
    """
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    values = values.clip(0)
    places = centred @ directions[:, [-1, -2]]
    share = float(values[-2:].sum() / values.sum()) if values.sum() > 0 else 1.0
    largest = np.abs(places).max()
    return places / (largest if largest > 0 else 1), share


def clusters(unit: np.ndarray, most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spherical k-means (Dhillon and Modha 2001): vectors by the centre of highest cosine.

    Args:
        unit: ``float[n, D]`` of length 1.
        most: how many clusters at most.
        seed: of the first centres.

    Returns:
        ``int[n]``, and the centres ``float[c, D]`` of length 1; every one has a vector.
    """
    random = np.random.default_rng(seed)
    centres = unit[random.choice(len(unit), min(most, len(unit)), replace=False)]
    groups = np.zeros(len(unit), int)
    for _ in range(_STEPS):
        groups = (unit @ centres.T).argmax(axis=1)
        _, groups = np.unique(groups, return_inverse=True)
        sums = np.zeros((groups.max() + 1, unit.shape[1]))
        np.add.at(sums, groups, unit)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = sums / np.where(lengths > 0, lengths, 1)
    return groups, centres

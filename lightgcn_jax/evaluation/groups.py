"""An evaluation taken apart: by how active the users are, and by how popular the items are.

Groups are quantiles of the training degree, from cold to hot. Equal degrees share a group, so that
groups differ in size, or are fewer, where many degrees are equal; degree 0 is a group of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import Evaluation
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows

NEW = "new"
"""Label of the group that no training interaction names."""


class DegreeGroups(NamedTuple):
    """Which group each of n nodes belongs to.

    Attributes:
        members: ``int[n]``, groups from cold to hot.
        labels: a range of degrees each: ``new``, ``1–3``, ``4``.
    """

    members: np.ndarray
    labels: list[str]


class UserGroup(NamedTuple):
    """Evaluated users of similar activity.

    Attributes:
        label: range of their training items.
        users: their number.
        test_pairs: relevant items of all of them.
        metrics: means over them of every per-user metric, ``{"recall@20": …}``.
    """

    label: str
    users: int
    test_pairs: int
    metrics: dict[str, float]


class ItemGroup(NamedTuple):
    """Items of similar popularity.

    Attributes:
        label: range of their training users.
        items: their number.
        test_pairs: pairs of an evaluated user and a relevant item of the group.
        test_share: of all such pairs.
        recall: ``{"recall@20": …}``, the share of the group's test pairs found in the first K;
            empty for a group without test pairs.
        recommended: ``{"recommended@20": …}``, the share of all recommendations in the first K
            that go to the group; beside ``test_share`` it shows whom a model favours.
    """

    label: str
    items: int
    test_pairs: int
    test_share: float
    recall: dict[str, float]
    recommended: dict[str, float]


class PopularityTenths(NamedTuple):
    """The catalogue in ten parts of about as many items, from the least popular on.

    Attributes:
        labels: the range of training users of the items of each.
        interactions: ``float64[10]``, the share of all training interactions that it has.
        recommended: ``float64[10]``, the share of all recommendations that go to it.
    """

    labels: list[str]
    interactions: np.ndarray
    recommended: np.ndarray


def popularity_tenths(ranked: np.ndarray, degrees: np.ndarray) -> PopularityTenths:
    """Whether recommendations go to popular items more than people do.

    Items of equal degree stand in the order of rows, so that every part has as many items, or one
    more than another.

    Args:
        ranked: ``int[Q, K]``, the recommended items, −1 where a place is not filled.
        degrees: ``int[I]``, the items' training users.

    Raises:
        InputError: nothing is recommended, or there is no training interaction.
    """
    if not (ranked >= 0).any() or not degrees.any():
        raise InputError("ranked: expected recommendations and training interactions, got none")
    order = np.argsort(degrees, kind="stable")
    tenth = np.empty(len(order), np.int64)
    tenth[order] = 10 * np.arange(len(order)) // len(order)
    labels = []
    for part in range(10):
        inside = degrees[tenth == part]
        low, high = (int(inside.min()), int(inside.max())) if len(inside) else (0, -1)
        labels.append("–" if low > high else f"{low:,}" if low == high else f"{low:,}–{high:,}")
    own = np.bincount(tenth, degrees, minlength=10)
    given = np.bincount(tenth[ranked[ranked >= 0]], minlength=10)
    return PopularityTenths(labels, own / own.sum(), given / given.sum())


def degree_groups(degrees: np.ndarray, count: int = 4) -> DegreeGroups:
    """Cut nodes into groups of about equal size by their degree.

    A degree goes to the group ⌊count · m / n⌋ with m the mean place, from 0, of the nodes that
    have it among the n nodes of degree 1 or more in ascending order; groups left empty go.

    Args:
        degrees: ``int[n]``, 0 or more.
        count: groups, beside that of degree 0.

    Raises:
        InputError: fewer than one group is asked for.
    """
    if count < 1:
        raise InputError(f"groups: expected at least 1, got {count}")
    values, inverse, sizes = np.unique(degrees, return_inverse=True, return_counts=True)
    sizes = np.where(values > 0, sizes, 0)
    mean_places = np.cumsum(sizes) - (sizes + 1) / 2
    cuts = np.floor(count * mean_places / max(1, sizes.sum()))
    cuts = np.where(values > 0, cuts, -1)
    _, group_of_value = np.unique(cuts, return_inverse=True)
    labels = []
    for group in range(group_of_value.max(initial=-1) + 1):
        inside = values[group_of_value == group]
        low, high = int(inside[0]), int(inside[-1])
        labels.append(NEW if not low else f"{low:,}" if low == high else f"{low:,}–{high:,}")
    return DegreeGroups(group_of_value[inverse], labels)


def user_groups(
    evaluation: Evaluation, train: BipartiteGraph, relevant: CsrRows, count: int = 4
) -> list[UserGroup]:
    """The evaluated users in groups of activity.

    The mean of a metric over groups, weighted by their users, is that of the evaluation.

    Args:
        evaluation: of all users that have relevant items.
        train: the training interactions, whose degrees make the groups.
        relevant: what the evaluation was given.
        count: groups, beside that of users without training items.

    Returns:
        Groups from the least active users on.
    """
    users = evaluation.users
    groups = degree_groups(np.asarray(train.items_of_user.lengths())[users], count)
    test_pairs = np.asarray(relevant.lengths())[users]
    found = []
    for group, label in enumerate(groups.labels):
        inside = groups.members == group
        metrics = {
            name: float(evaluation.per_user[name][inside].mean(dtype=np.float64))
            for name in evaluation.metrics
            if name in evaluation.per_user
        }
        found.append(UserGroup(label, int(inside.sum()), int(test_pairs[inside].sum()), metrics))
    return found


def item_groups(
    evaluation: Evaluation, train: BipartiteGraph, relevant: CsrRows, count: int = 4
) -> list[ItemGroup]:
    """The whole catalogue in groups of popularity.

    The recall of groups, weighted by their test pairs, adds up to the share of all test pairs that
    is found, which is not the mean recall of users.

    Args:
        evaluation: of all users that have relevant items.
        train: the training interactions, whose degrees make the groups.
        relevant: what the evaluation was given.
        count: groups, beside that of items without training users.

    Returns:
        Groups from the least popular items on.
    """
    groups = degree_groups(np.asarray(train.users_of_item.lengths()), count)
    size = len(groups.labels)

    def tally(items: np.ndarray) -> np.ndarray:
        return np.bincount(groups.members[items], minlength=size)

    sizes = np.bincount(groups.members, minlength=size)
    pairs = tally(np.asarray(relevant.columns))
    recalls: list[dict[str, float]] = [{} for _ in range(size)]
    shares: list[dict[str, float]] = [{} for _ in range(size)]
    for k in sorted({int(name.partition("@")[2]) for name in evaluation.metrics}):
        ranked, hits = evaluation.ranked[:, :k], evaluation.hits[:, :k]
        found, recommended = tally(ranked[hits]), tally(ranked[ranked >= 0])
        for group in range(size):
            shares[group][f"recommended@{k}"] = float(recommended[group] / recommended.sum())
            if pairs[group]:
                recalls[group][f"recall@{k}"] = float(found[group] / pairs[group])
    columns = zip(groups.labels, sizes, pairs, recalls, shares, strict=True)
    return [
        ItemGroup(label, int(items), int(tested), float(tested / pairs.sum()), recall, share)
        for label, items, tested, recall, share in columns
    ]

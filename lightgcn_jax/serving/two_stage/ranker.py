"""The second stage: a small network that puts a user's candidates into a better order.

It reads what the sources say of a candidate (scores and places), what is known of user and item,
the vectors of both and their product. What it returns is the model's own score, standardised among
the user's candidates, plus a linear map and a network whose last layers begin at zero: the first
order is that of the model alone, and an early stop may keep it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Float
from lightgcn_jax.fields import POSITIVE, SHARE, Checked, at_least, one_of, setting, several, whole
from lightgcn_jax.serving.two_stage.candidates import Candidates
from lightgcn_jax.serving.two_stage.stage_one import StageOne

RankerLoss = Literal["softmax", "bpr"]


@dataclasses.dataclass(frozen=True)
class RankerConfig(Checked):
    """Settings of the second stage.

    Attributes:
        hidden: widths of the hidden layers.
        loss: ``softmax`` of a positive over all of a user's candidates, or ``bpr``, the positive
            against drawn candidates that are none.
        negatives: candidates that ``bpr`` draws for a user.
        dropout: share of hidden entries that are dropped in training.
        learning_rate: of Adam.
        weight_decay: of Adam.
        batch_users: users of a step.
        epochs: at most so many.
        patience: epochs without a better validation NDCG@10, after which training ends.
        seed: of the initial values, batches and draws.
    """

    hidden: tuple[int, ...] = setting((32,), several(whole(1), "whole numbers of at least 1"))
    loss: RankerLoss = setting("softmax", one_of(RankerLoss))
    negatives: int = setting(64, whole(1))
    dropout: float = setting(0.2, SHARE)
    learning_rate: float = setting(1e-3, POSITIVE)
    weight_decay: float = setting(0.1, at_least(0))
    batch_users: int = setting(32, whole(1))
    epochs: int = setting(30, whole(1))
    patience: int = setting(5, whole(1))
    seed: int = setting(0, whole(0))


class Inputs(NamedTuple):
    """What the network reads of Q users' candidates.

    Attributes:
        told: ``float32[Q, C, 2 S]``, what sources say.
        items: ``int32[Q, C]``, rows of the tables; −1 where there is no candidate.
        rows: ``int32[Q]``, users.
        places: ``int32[Q, C, S]``, as sources have them.
    """

    told: np.ndarray
    items: np.ndarray
    rows: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, stage: StageOne, rows: np.ndarray) -> Inputs:
        """What stage one returns for users.

        Args:
            stage: stage one.
            rows: ``int[Q]``.
        """
        found: Candidates = stage.candidates(rows)
        told = stage.told(rows, found)
        return cls(told, found.items, np.asarray(rows, np.int32), found.places)


class Tables(NamedTuple):
    """What is known of all users and items; see :class:`StageOne`.

    Attributes:
        users: ``float32[U, D]``.
        items: ``float32[I, D]``.
        of_users: ``float32[U, G]``.
        of_items: ``float32[I, F]``.
    """

    users: Array
    items: Array
    of_users: Array
    of_items: Array

    @classmethod
    def of(cls, stage: StageOne) -> Tables:
        """The tables of a stage one, on the device.

        Args:
            stage: stage one.
        """
        return cls(*(jax.device_put(getattr(stage, name)) for name in cls._fields))


class Ranker(nn.Module):
    """The network; see the module.

    Attributes:
        hidden: widths of the hidden layers.
        dropout: share of hidden entries that are dropped in training.
    """

    hidden: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(
        self, tables: Tables, told: Array, items: Array, rows: Array, train: bool
    ) -> Array:
        """Scores of candidates.

        Args:
            tables: what is known of users and items.
            told: ``float[B, C, 2 S]``.
            items: ``int32[B, C]``.
            rows: ``int32[B]``.
            train: whether entries are dropped.

        Returns:
            ``float[B, C]``; those of places without a candidate mean nothing.
        """
        items = items.clip(0)
        known_items, known_users = tables.of_items[items], tables.of_users[rows]
        user, item = tables.users[rows][:, None], tables.items[items]
        plain = jnp.concatenate([told, known_items], axis=-1)
        of_pair = jnp.concatenate([plain, user * item, item], axis=-1)
        of_user = jnp.concatenate([user[:, 0], known_users], axis=-1)
        first, *rest = self.hidden
        # A linear map of two things side by side is a sum, of which one is made once a user.
        layer = nn.Dense(first)(of_pair) + nn.Dense(first, use_bias=False)(of_user)[:, None]
        layer = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(layer))
        for width in rest:
            layer = nn.relu(nn.Dense(width)(layer))
            layer = nn.Dropout(self.dropout, deterministic=not train)(layer)
        zeros = nn.initializers.zeros_init()
        learnt = nn.Dense(1, kernel_init=zeros, use_bias=False)(layer)
        linear = nn.Dense(1, kernel_init=zeros, use_bias=False)(plain)
        return told[..., 0] + (learnt + linear)[..., 0]


def softmax_loss(
    scores: Float[Array, "users candidates"],
    is_positive: Bool[Array, "users candidates"],
    inside: Bool[Array, "users candidates"],
) -> Float[Array, " users"]:
    """The mean over a user's positives of −log of their share in the softmax over candidates.

    Args:
        scores: ``float[B, C]``.
        is_positive: ``bool[B, C]``.
        inside: ``bool[B, C]``, where there is a candidate.

    Returns:
        ``float[B]``, 0 for a user without a positive.
    """
    logits = jnp.where(inside, scores, -jnp.inf)
    normalizer = jax.nn.logsumexp(logits, axis=1, keepdims=True)
    losses = jnp.where(is_positive, normalizer - scores, 0)
    return losses.sum(axis=1) / jnp.maximum(is_positive.sum(axis=1), 1)


def bpr_loss(
    scores: Float[Array, "users candidates"],
    is_positive: Bool[Array, "users candidates"],
    inside: Bool[Array, "users candidates"],
    drawn: Array,
) -> Float[Array, " users"]:
    """The mean over a user's positives p and the drawn n that are none of −log σ(s_p − s_n).

    Args:
        scores: ``float[B, C]``.
        is_positive: ``bool[B, C]``.
        inside: ``bool[B, C]``, where there is a candidate.
        drawn: ``int32[B, N]``, places of candidates.

    Returns:
        ``float[B]``, 0 for a user without a positive or without a negative.
    """
    others = jnp.take_along_axis(scores, drawn, axis=1)
    counts = jnp.take_along_axis(inside & ~is_positive, drawn, axis=1)
    pairs = is_positive[:, :, None] & counts[:, None, :]
    losses = jnp.where(pairs, jax.nn.softplus(others[:, None] - scores[:, :, None]), 0)
    return losses.sum(axis=(1, 2)) / jnp.maximum(pairs.sum(axis=(1, 2)), 1)

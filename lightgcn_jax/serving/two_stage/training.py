"""The second stage trained on the candidates that stage one returns, and judged behind it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, PRNGKey, power_of_two
from lightgcn_jax.data.pairs import Pairs, pair_keys
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import Evaluation, evaluate_ranked
from lightgcn_jax.evaluation.ranking import rank
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.serving.two_stage.ranker import (
    Inputs,
    Ranker,
    RankerConfig,
    Tables,
    bpr_loss,
    softmax_loss,
)
from lightgcn_jax.serving.two_stage.stage_one import StageOne

SELECT_BY = "ndcg@10"
"""What the epoch is chosen by, on validation."""

# Users scored at once.
_SCORED_AT_ONCE = 64


class Examples(NamedTuple):
    """Stage one at a moment, and what came after it.

    Attributes:
        stage: stage one.
        positives: what users took later, none of which it may know.
    """

    stage: StageOne
    positives: Pairs


class Trained(NamedTuple):
    """A trained second stage.

    Attributes:
        config: its settings.
        params: the network's flax variables.
        best_epoch: of the highest NDCG@10 on validation; 0, where no epoch was better than the
            order of stage one.
        history: ``{"epoch", "loss", "ndcg@10"}`` of each epoch, the first before any step.
    """

    config: RankerConfig
    params: Any
    best_epoch: int
    history: list[dict[str, float]]

    def scores(self, stage: StageOne, inputs: Inputs) -> np.ndarray:
        """Scores of candidates, ``float32[Q, C]``, −inf where there is none.

        Args:
            stage: stage one.
            inputs: what it returned.
        """
        return _all_scores(_network(self.config), self.params, Tables.of(stage), inputs)

    def ranked(self, stage: StageOne, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best of stage one's candidates.

        Args:
            stage: stage one.
            rows: ``int[Q]``, users.
            k: at most as many as there are candidates.

        Returns:
            ``int32[Q, k]``, −1 where there are fewer, and their scores ``float32[Q, k]``.
        """
        inputs = Inputs.of(stage, rows)
        return best_of(inputs.items, self.scores(stage, inputs), k)


class Judged(NamedTuple):
    """The pipeline on one part.

    Attributes:
        candidates: share of a user's items that are among the candidates, by user, ``float32[n]``.
        before: stage one's model alone, all items ranked.
        after: its candidates in the second stage's order.
    """

    candidates: np.ndarray
    before: Evaluation
    after: Evaluation


def train_ranker(train: Examples, valid: Examples, config: RankerConfig | None = None) -> Trained:
    """Train a second stage.

    Args:
        train: what it is trained on: users without a positive among their candidates say nothing.
        valid: what chooses the epoch.
        config: the settings.

    Raises:
        InputError: no candidate of any user is a positive, or there is nothing to validate by.
    """
    config = config or RankerConfig()
    inputs, is_positive = _examples(train)
    if not is_positive.any():
        raise InputError(
            "positives: expected at least one among the candidates of stage one, got none"
        )
    useful = np.flatnonzero(is_positive.any(axis=1))
    inputs = Inputs(*(one[useful] for one in inputs))
    is_positive = is_positive[useful]
    judge = _Judge.of(valid)
    network, tables = _network(config), Tables.of(train.stage)
    key = jax.random.key(config.seed)
    params = _initial(config, train.stage, tables)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    state = optimizer.init(params)
    best, best_epoch, best_value = params, 0, judge.value(network, params)
    history = [{"epoch": 0, SELECT_BY: best_value}]
    random = np.random.default_rng(config.seed)
    for epoch in range(1, config.epochs + 1):
        losses = []
        for step, batch in enumerate(_batches(random, len(useful), config.batch_users)):
            own = jax.random.fold_in(jax.random.fold_in(key, epoch), step)
            given = inputs.told[batch], inputs.items[batch], inputs.rows[batch]
            params, state, loss = _step(
                config, params, state, tables, *given, is_positive[batch], own
            )
            losses.append(loss)
        value = judge.value(network, params)
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), SELECT_BY: value})
        if value > best_value:
            best, best_epoch, best_value = params, epoch, value
        if epoch - best_epoch >= config.patience:
            break
    return Trained(config, jax.device_get(best), best_epoch, history)


def shapes_of(config: RankerConfig, stage: StageOne) -> Any:
    """Shapes and types of the network's variables.

    Args:
        config: its settings.
        stage: what it reads.
    """
    return jax.eval_shape(lambda: _initial(config, stage, Tables.of(stage)))


def _initial(config: RankerConfig, stage: StageOne, tables: Tables) -> Any:
    told = jnp.zeros((1, 1, 2 * len(stage.sources)), jnp.float32)
    nobody = jnp.zeros((1, 1), jnp.int32)
    network, key = _network(config), jax.random.key(config.seed)
    return network.init(key, tables, told, nobody, nobody[0], False)


def judged(trained: Trained, examples: Examples, ks: tuple[int, ...] = (10,)) -> Judged:
    """The pipeline beside stage one's model alone.

    Args:
        trained: the second stage.
        examples: stage one, and what users took later.
        ks: cut-offs.

    Raises:
        InputError: nobody took anything.
    """
    judge, stage = _Judge.of(examples), examples.stage
    found = judge.is_positive.sum(axis=1) / np.diff(np.asarray(judge.relevant.offsets))[judge.rows]
    alone = rank(stage.sources[0].scorer, judge.rows, max(ks), seen=stage.seen)
    after = judge.ranked(_network(trained.config), trained.params, max(ks))
    before, after = (
        evaluate_ranked(np.asarray(one), judge.rows, judge.relevant, ks, len(stage.items))
        for one in (alone.items, after)
    )
    return Judged(found.astype(np.float32), before, after)


class _Judge(NamedTuple):
    """A part's candidates, made once."""

    tables: Tables
    inputs: Inputs
    is_positive: np.ndarray
    relevant: Any
    rows: np.ndarray

    @classmethod
    def of(cls, examples: Examples) -> _Judge:
        inputs, is_positive = _examples(examples)
        pairs, stage = examples.positives, examples.stage
        relevant = csr_rows(pairs.users, pairs.items, len(stage.users))
        return cls(Tables.of(stage), inputs, is_positive, relevant, inputs.rows)

    def ranked(self, network: Ranker, params: Any, k: int) -> np.ndarray:
        scores = _all_scores(network, params, self.tables, self.inputs)
        return best_of(self.inputs.items, scores, k)[0]

    def value(self, network: Ranker, params: Any) -> float:
        k = int(SELECT_BY.partition("@")[2])
        ranked = self.ranked(network, params, k)
        items = len(self.tables.items)
        return evaluate_ranked(ranked, self.rows, self.relevant, (k,), items).metrics[SELECT_BY]


def best_of(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k candidates of highest score, equals in their first order.

    Args:
        items: ``int32[Q, C]``.
        scores: ``float32[Q, C]``.
        k: at most C.

    Returns:
        ``int32[Q, k]`` and ``float32[Q, k]``.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)


def _examples(examples: Examples) -> tuple[Inputs, np.ndarray]:
    """The candidates of all users with a positive, and which of them are positives."""
    positives = examples.positives
    if not len(positives):
        raise InputError("positives: expected at least one, got none")
    inputs = Inputs.of(examples.stage, np.unique(positives.users))
    users = np.broadcast_to(inputs.rows[:, None], inputs.items.shape)
    keys = pair_keys(users.ravel(), inputs.items.clip(0).ravel())
    found = np.isin(keys, positives.keys).reshape(users.shape)
    return inputs, found & (inputs.items >= 0)


def _network(config: RankerConfig) -> Ranker:
    return Ranker(config.hidden, config.dropout)


def _batches(random: np.random.Generator, count: int, size: int) -> list[np.ndarray]:
    """All of them in a random order, the last filled up from the first, so that all are of one
    size."""
    size = min(size, count)
    order = random.permutation(count)
    order = np.concatenate([order, order[: -count % size]])
    return list(order.reshape(-1, size))


@functools.partial(jax.jit, static_argnums=0)
def _step(
    config: RankerConfig,
    params: Any,
    state: Any,
    tables: Tables,
    told: Array,
    items: Array,
    rows: Array,
    is_positive: Array,
    key: PRNGKey,
) -> tuple[Any, Any, Array]:
    dropped, drawn = jax.random.split(key)
    inside = items >= 0

    def loss(params: Any) -> Array:
        network = _network(config)
        made = network.apply(params, tables, told, items, rows, True, rngs={"dropout": dropped})
        scores = cast(Array, made)
        if config.loss == "softmax":
            return softmax_loss(scores, is_positive, inside).mean()
        shape = (items.shape[0], config.negatives)
        places = jax.random.randint(drawn, shape, 0, items.shape[1], jnp.int32)
        return bpr_loss(scores, is_positive, inside, places).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


@functools.partial(jax.jit, static_argnums=0)
def _scores(
    network: Ranker, params: Any, tables: Tables, told: Array, items: Array, rows: Array
) -> Array:
    with jax.default_matmul_precision("highest"):
        return cast(Array, network.apply(params, tables, told, items, rows, False))


def _all_scores(network: Ranker, params: Any, tables: Tables, inputs: Inputs) -> np.ndarray:
    """Blocks of users of one size, so that batches of many sizes share few programs."""
    count = len(inputs.rows)
    size = min(_SCORED_AT_ONCE, power_of_two(count))
    blocks = []
    for start in range(0, count, size):
        block = [one[start : start + size] for one in (inputs.told, inputs.items, inputs.rows)]
        spare = size - len(block[2])
        padded = (np.pad(one, ((0, spare), *[(0, 0)] * (one.ndim - 1)), "edge") for one in block)
        blocks.append(np.asarray(_scores(network, params, tables, *padded))[: size - spare])
    scores = np.concatenate(blocks)
    return np.where(inputs.items >= 0, scores, -np.inf)

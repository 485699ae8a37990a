"""Going on with new data: ids grow, old rows stay, new rows and their optimizer state are added."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lightgcn_jax.data.also_seen import SeenIds, joined
from lightgcn_jax.data.pairs import PARTS, Pairs, merge_pairs
from lightgcn_jax.data.spellings import UnknownIds, check_fit
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF, LightGCN
from lightgcn_jax.models.model import map_tables
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.fit import fit
from lightgcn_jax.runs.node_order import in_training_order
from lightgcn_jax.runs.progress import TrainArrays
from lightgcn_jax.runs.reporter import Reporter, SilentReporter
from lightgcn_jax.runs.result import FitResult
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import TrainConfig, flat, model_name
from lightgcn_jax.sharding import mesh_of
from lightgcn_jax.training.step import TrainState, initial_params

# Settings that the parameters' shapes or the parts of the split rest on.
_KEPT = ("model", "dim", "seeds", "protocol", "score", "hidden", "biases", "learn_alphas")
_WEIGHTS_KEPT = ("layers", "aggregate", "combine")


def continue_from(
    path: Path | str,
    split: Split,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    reporter: Reporter | None = None,
    data: Mapping[str, Any] | None = None,
    unknown_ids: UnknownIds = "refuse",
    also_seen: SeenIds | None = None,
    mesh: Mesh | str | None = None,
) -> FitResult:
    """Train on from a run's best epoch, with its data and new data together.

    The best embeddings and Adam's latest moments of known users and items go on; the learning-rate
    schedule and the count of epochs begin anew. A known pair stays in the part it was in, so
    nothing that was held out is ever trained on; new pairs join the parts that ``split`` gives
    them.

    Args:
        path: the run to go on from; it is only read.
        split: the new data.
        config: the settings; by default the run's own. What decides the parameters' shapes
            (``model``, ``dim``, ``seeds`` and the like) and ``protocol`` must be the run's: another
            protocol would rank pairs that were trained on, or train on pairs that were held
            out.
        out: a new directory for the new run.
        reporter: receives progress, and what is worth telling of the new data.
        data: JSON value stored with the new run.
        unknown_ids: whether to go on where most users or items of the new data are unknown to the
            run, as they are where ids are written in another way.
        also_seen: pairs that users know beyond the new data, as :func:`fit` takes them; those of
            the run go on.
        mesh: as :func:`fit` takes it; it need not be that of the run.

    Returns:
        The new run.

    Raises:
        InputError: no run of a trained model with a checkpoint, settings that its embeddings do
            not fit, or new data whose ids are not the run's.
    """
    old = open_trained(path)
    old_config = old.config
    assert isinstance(old_config, TrainConfig)
    config = config or old_config
    before, after = flat(old_config), flat(config)
    weights = () if isinstance(config.model, (MF, LightGCN)) else _WEIGHTS_KEPT
    for field in (*_KEPT, *weights):
        if before.get(field) != after.get(field):
            raise InputError(
                f"{field}: expected {before.get(field)} as in {path}, got {after.get(field)}"
            )
    merged = merge_splits(old.split, split, unknown_ids)
    for note in merged.notes[len(split.notes) :]:
        (reporter or SilentReporter()).noted(note)
    trainer = Trainer(old.split, old_config, None, old, SilentReporter())
    checkpoint = load_checkpoint(old.checkpoints, trainer.array_template())
    if checkpoint is None:
        raise InputError(f"{path}: expected a checkpoint to go on from, there is none yet")
    # Rows are put in training order before the states are extended, and fit leaves them there.
    merged = merged.in_canonical_order()
    mesh = mesh_of(mesh)
    merged = in_training_order(merged, config, mesh)
    arrays: TrainArrays = checkpoint.arrays
    states = dataclasses.replace(arrays.states, params=arrays.best)
    states = extend_states(states, old.split, merged, config)
    known = joined(SeenIds.of_rows(old.split, old.also_seen), also_seen)
    about: dict[str, Any] = {"out": out, "reporter": reporter, "data": data, "mesh": mesh}
    return fit(merged, config, initial=states, also_seen=known, **about)


def open_trained(path: Path | str) -> RunDirectory:
    """Open a run that can be gone on from.

    Args:
        path: the run's directory.

    Raises:
        InputError: no run, one of a model that is fitted in closed form, or one that was made with
            objects of one's own.
    """
    run = RunDirectory.open(Path(path))
    run.refuse_own_objects("gone on from", "fit with the same objects on all the data")
    if not run.config.is_trained:
        raise InputError(
            f"{path}: expected the run of a trained model to go on from, got "
            f"{model_name(run.config)}, which is fitted in one go: fit it anew on all the data"
        )
    return run


def merge_splits(old: Split, new: Split, unknown_ids: UnknownIds = "refuse") -> Split:
    """Both splits' pairs over grown id maps; a pair that ``old`` knows stays in its part.

    Weights of a pair that stands in the same part of both add up.

    Args:
        old: the run's split.
        new: the new data; its notes come first in what is returned.
        unknown_ids: whether to go on where most users or items of ``new`` are unknown.

    Raises:
        InputError: most are, and that is to be refused, or one of both has weights.
    """
    if (old.train.weights is None) != (new.train.weights is None):
        lacking = "the new data" if new.train.weights is None else "the run"
        raise InputError(
            f"weights: expected in the run and in the new data, or in neither; only {lacking} came "
            "without them (--weight-column)"
        )
    names = "the run", "the new data"
    notes = (
        *check_fit("users", old.users.ids, new.users.ids, *names, unknown_ids),
        *check_fit("items", old.items.ids, new.items.ids, *names, unknown_ids),
    )
    users, items = old.users.grow(new.users.ids), old.items.grow(new.items.ids)
    user_rows, item_rows = users.rows(new.users.ids), items.rows(new.items.ids)
    for kind, before, after in (("users", old.users, users), ("items", old.items, items)):
        if before.ids.dtype != after.ids.dtype:
            notes += (f"the new data make strings of the {kind}' ids, which were integers",)
    known = merge_pairs(*(getattr(old, part) for part in PARTS))
    parts, added = {}, {}
    for part in PARTS:
        pairs: Pairs = getattr(new, part)
        moved = pairs.moved(user_rows, item_rows)
        kept: Pairs = getattr(old, part)
        fresh, again = ~np.isin(moved.keys, known.keys), np.isin(moved.keys, kept.keys)
        # A pair that comes again changes nothing but its weight.
        parts[part] = merge_pairs(kept, moved.at(fresh | again))
        added[part] = int(fresh.sum())
    counts = ", ".join(f"{count:,} to {part}" for part, count in added.items())
    return Split(
        users=users,
        items=items,
        description=f"{old.description}; then {new.description}",
        report=(*old.report, *new.report),
        titles=new.titles if old.titles is None else old.titles.joined(new.titles),
        notes=(
            *new.notes,
            *notes,
            f"new data: {len(users) - len(old.users):,} new users, "
            f"{len(items) - len(old.items):,} new items, new pairs {counts}",
        ),
        **parts,
    )


def extend_states(states: TrainState, old: Split, new: Split, config: TrainConfig) -> TrainState:
    """States of a run, with rows for the nodes that ``new`` has beyond ``old``.

    New rows of the layer-0 embeddings are drawn as at the start of a run; new rows of the
    optimizer's state are zero; weights go on. The schedule's count starts anew.

    Args:
        states: the states of all replicas.
        old: the run's split.
        new: the grown split, its rows in any order.
        config: the settings.
    """
    new_nodes = len(new.users) + len(new.items)
    # Where the old rows stand now.
    moved = np.concatenate(
        [new.users.rows(old.users.ids), len(new.users) + new.items.rows(old.items.ids)]
    ).astype(np.int32)
    # A stream apart from those of the first start, so that new rows are not copies of old ones.
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), new_nodes))(
        jnp.arange(config.seed, config.seed + config.seeds)
    )
    drawn = jax.vmap(lambda key: initial_params(key, new_nodes, config.strategies))(keys)

    def extended(old_rows: jax.Array, all_rows: jax.Array) -> jax.Array:
        return all_rows.at[:, moved].set(old_rows)

    def with_zero_rows(leaf: jax.Array) -> jax.Array:
        return extended(leaf, jnp.zeros((leaf.shape[0], new_nodes, *leaf.shape[2:]), leaf.dtype))

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def restarted(node: Any) -> Any:
        return node._replace(count=jnp.zeros_like(node.count)) if is_schedule(node) else node

    opt_state = jax.tree.map(restarted, states.opt_state, is_leaf=is_schedule)
    return dataclasses.replace(
        states,
        params=map_tables(extended, states.params, drawn),
        opt_state=map_tables(with_zero_rows, opt_state),
        step=jnp.zeros_like(states.step),
    )

"""Tasks of several kinds: what is held out of the data, and how it is asked for.

Every task keeps held-out edges out of the graph that is walked, out of the statistics and degrees
that features are scaled by, and out of the pairs that are trained on.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lightgcn_jax.data import (
    TEST,
    TRAIN,
    VALID,
    Interactions,
    Pairs,
    Split,
    carve_validation,
    given_split,
    temporal_split,
)
from lightgcn_jax.data.pairs import merge_pairs, pair_keys
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from pinsage_jax.data.items import ItemData, kept_edges
from pinsage_jax.tasks.edge_choice import (
    ASKED,
    GIVEN_BACK,
    asked_pairs,
    halved,
    held_out_edges,
    ordinary_items,
    shared_edges,
)
from pinsage_jax.tasks.pairs import CooccurrencePairs, ExplicitPairs, UserHistories
from pinsage_jax.tasks.task import HeldOut, Task


def cooccurrence_task(
    data: ItemData,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    held_out_items: float = 0.1,
    seed: int = 0,
    max_queries: int | None = 10_000,
) -> Task:
    """Hold out edges between items and contexts: from one item of a context another is to be found.

    First a share of the items leaves with all its edges, as if it did not exist yet. The smaller
    half of each one's edges makes the pairs of ``fresh``, the larger is given back when it is
    added. Of the remaining edges a share is held out for valid and for test. A held-out edge (p, c)
    becomes the pair q → p, with q uniform among the items that c has in train. Two items may share
    several contexts: then train can still hold the two in another one, as a model may use.

    Args:
        data: the items and contexts; repeated edges are held out together.
        valid: the share that is held out for validation, above 0, of the remaining edges whose
            context holds several items. Every item and every context keeps an edge, so where edges
            are few both parts get less, in proportion.
        test: the share that is held out for test, above 0.
        held_out_items: the share of the items in two contexts or more that is held out; 0 for none.
        seed: the seed of everything that is drawn. The same edges in another order give the same
            task.
        max_queries: how many queries a part has at most, drawn at random; None for all.

    Raises:
        InputError: a share is out of range, or nothing is left to train on or for a part.
    """
    _check_shares(valid=valid, test=test)
    if not 0 <= held_out_items < 1:
        raise InputError(f"held_out_items: expected a share in [0, 1), got {held_out_items}")
    rng = _generator(seed)
    keys, copies = np.unique(data.interactions.pair_keys, return_inverse=True)
    # Rows are int32, and as many edges as memory holds are counted by it too.
    copies = copies.astype(np.int32)
    contexts, items = (
        rows.astype(np.int32) for rows in np.divmod(keys, data.interactions.num_items)
    )
    if len(keys) and not shared_edges(contexts).any():
        raise InputError(
            f"contexts: expected one that holds two different items, got "
            f"{len(np.unique(contexts)):,} contexts and each of them holds one"
        )
    train_items = ordinary_items(rng, items, data.interactions.num_items, held_out_items)
    ordinary = train_items[items]
    codes = np.empty(len(keys), np.uint8)
    codes[~ordinary] = halved(rng, items[~ordinary])
    codes[ordinary] = held_out_edges(rng, items[ordinary], contexts[ordinary], valid, test)
    train = kept_edges(data.interactions, codes[copies] == TRAIN)
    trained = items[codes == TRAIN], contexts[codes == TRAIN]
    if not shared_edges(trained[1]).any() and shared_edges(contexts).any():
        raise InputError(_all_taken(contexts, codes))
    pairs = CooccurrencePairs(train.item_rows, train.user_rows, train.num_users)
    base = int(shared_edges(contexts[ordinary]).sum())
    notes = [
        _counts(train, codes),
        f"shares of valid and test are of the {base:,} edges whose context holds several items; "
        "every item and every context keeps one edge",
        f"{pairs.skipped_contexts:,} contexts of one item give no pair",
    ]

    def held(name: str, code: int) -> HeldOut:
        chosen = codes == code
        queries, positives, lost = asked_pairs(rng, items[chosen], contexts[chosen], trained)
        if lost:
            notes.append(f"{name}: {lost:,} pairs left out, their context has no training item")
        return _single_pairs(rng, name, queries, positives, max_queries, notes)

    parts = held("valid", VALID), held("test", TEST)
    fresh = fresh_edges = None
    if held_out_items:
        fresh = held("fresh", ASKED)
        back = codes == GIVEN_BACK
        fresh_edges = items[back].astype(np.int32), contexts[back].astype(np.int32)
        notes.append(
            f"{int((~train_items).sum()):,} items held out, {back.sum():,} edges given back"
        )
    return Task(data, train, pairs, *parts, train_items, fresh, fresh_edges, tuple(notes))


def explicit_task(
    data: ItemData,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    max_queries: int | None = 10_000,
) -> Task:
    """Hold out some of the query–positive pairs that came with the data, as the paper has them.

    All edges are walked. Where the contexts already tell which items make a pair, the held-out
    pairs are no secret, and only the caller can know whether they do.

    Args:
        data: the items, with explicit pairs.
        valid: the share of the distinct pairs that is held out for validation, above 0.
        test: the share that is held out for test, above 0.
        seed: the seed of everything that is drawn.
        max_queries: how many queries a part has at most, drawn at random; None for all.

    Raises:
        InputError: there are no pairs, a share is out of range, or a part stays empty.
    """
    _check_shares(valid=valid, test=test)
    if data.pairs is None:
        raise InputError(f"pairs: expected explicit query–positive pairs, {data.name} has none")
    rng, num_items = _generator(seed), data.interactions.num_items
    keys = np.unique(data.pairs[0].astype(np.int64) * num_items + data.pairs[1])
    queries, positives = (
        part.astype(np.int32) for part in np.divmod(rng.permutation(keys), num_items)
    )
    ends = np.cumsum([round(test * len(keys)), round(valid * len(keys))])
    notes: list[str] = []

    def held(name: str, part: slice) -> HeldOut:
        return _single_pairs(rng, name, queries[part], positives[part], max_queries, notes)

    return Task(
        data,
        kept_edges(data.interactions, np.ones(len(data.interactions), bool)),
        ExplicitPairs(queries[ends[1] :], positives[ends[1] :]),
        held("valid", slice(ends[0], ends[1])),
        held("test", slice(0, ends[0])),
        np.ones(num_items, bool),
        notes=tuple(notes),
    )


def time_task(
    data: ItemData,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    last: int = 10,
    per_user: bool = True,
    seed: int = 0,
    max_queries: int | None = 10_000,
) -> Task:
    """Hold out each user's later items: from a user's last items what follows is to be found.

    A query holds the user's last items before the part: of train for valid, of train and valid for
    test, as is usual where validation has done its work before test begins. What is relevant are
    the user's items of the part, and what was met before is not ranked. All items are ranked and
    count as training items, those first met later too.

    Args:
        data: items with timestamps; here the contexts are the users.
        valid: the share of the interactions that is held out for validation, above 0.
        test: the share that is held out for test, above 0.
        last: how many items a query has at most.
        per_user: cut each user's own history, so that every user with enough of it is asked; False
            cuts all histories at one moment. Only that keeps the future of other users out of
            training, but it leaves only users from before and after the moment.
        seed: the seed of the choice of queries where there are more than ``max_queries``.
        max_queries: how many queries a part has at most, drawn at random; None for all.

    Raises:
        InputError: no timestamps, a share out of range, or nobody is left to ask.
    """
    _check_shares(valid=valid, test=test)
    split = temporal_split(data.interactions, 1 - valid - test, valid, test, per_user=per_user)
    return _user_task(data, split, last, seed, max_queries)


def given_task(
    data: ItemData,
    *,
    last: int = 10,
    valid: float = 0.1,
    seed: int = 0,
    max_queries: int | None = 10_000,
) -> Task:
    """Ask users as ``time_task`` does, under the split that came with the files.

    Without timestamps a query of training holds some of those items at random, and one of valid or
    test holds all of them, at most 1,000.

    Args:
        data: items whose interactions have parts.
        last: how many items a query has at most; without timestamps, one of training.
        valid: the share of each user's training interactions that goes to validation where the
            files give none.
        seed: the seed of the validation, of the queries, and of the choice of users.
        max_queries: how many queries a part has at most, drawn at random; None for all.

    Raises:
        InputError: the files gave no split, or nobody is left to ask.
    """
    split = given_split(data.interactions)
    if not len(split.valid):
        split = carve_validation(split, valid, seed)
    return _user_task(data, split, last, seed, max_queries)


def permuted(task: Task, seed: int = 0) -> Task:
    """Replace the answers of a task by wrong ones, which any model ranks as chance does.

    Each query's positives become as many distinct items, uniform among those that it could be
    asked for: training items, for ``fresh`` all items, without what it has seen. They are drawn
    anew for each query, because one permutation of all items would let a popular positive pull all
    of its queries up or down together.

    Args:
        task: the task.
        seed: the seed of the wrong answers.
    """
    rng = _generator(seed)
    pool, everything = np.flatnonzero(task.train_items), np.arange(len(task.train_items))
    return dataclasses.replace(
        task,
        valid=_wrong_answers(rng, "valid", task.valid, pool),
        test=_wrong_answers(rng, "test", task.test, pool),
        fresh=task.fresh and _wrong_answers(rng, "fresh", task.fresh, everything),
    )


def _single_pairs(
    rng: np.random.Generator,
    name: str,
    queries: np.ndarray,
    positives: np.ndarray,
    max_queries: int | None,
    notes: list[str],
) -> HeldOut:
    """A query for each pair; what is seen is the query itself."""
    if not len(queries):
        raise InputError(
            f"{name}: nothing is left to ask for: its share (--{name}) is no pair; more contexts "
            "of several items or a larger share are needed"
        )
    chosen = _capped(rng, len(queries), max_queries)
    if len(chosen) < len(queries):
        notes.append(f"{name}: {len(chosen):,} of {len(queries):,} pairs asked")
    queries, positives, rows = queries[chosen], positives[chosen], np.arange(len(chosen))
    return HeldOut(
        queries[:, None], csr_rows(rows, positives, len(rows)), csr_rows(rows, queries, len(rows))
    )


def _user_task(data: ItemData, split: Split, last: int, seed: int, max_queries: int | None) -> Task:
    """Queries from what came before a part, answers from the part, for a split of one id map."""
    rng, notes = _generator(seed), [split.description, *split.notes]
    once = data.interactions.deduplicated()
    keys = pair_keys(once.user_rows, once.item_rows)

    def edges_of(known: Pairs) -> Interactions:
        return kept_edges(once, np.isin(keys, known.keys))

    def held(name: str, part: Pairs, known: Pairs, histories: UserHistories) -> HeldOut:
        users = np.unique(part.users)
        asked = users[np.isin(users, known.users)]
        if not len(asked):
            raise InputError(f"{name}: none of its {len(users):,} users has an interaction before")
        if len(asked) < len(users):
            notes.append(f"{name}: {len(users) - len(asked):,} users have no interaction before")
        chosen = asked[_capped(rng, len(asked), max_queries)]
        if len(chosen) < len(asked):
            notes.append(f"{name}: {len(chosen):,} of {len(asked):,} users asked")
        queries = histories.queries(rng, chosen)
        return HeldOut(queries, _rows_of(chosen, part), _rows_of(chosen, known))

    train, known = edges_of(split.train), merge_pairs(split.train, split.valid)
    several = int((np.bincount(once.user_rows) > 1).sum())
    if several and not (np.bincount(train.user_rows) > 1).any():
        raise InputError(
            "interactions: expected a user with two different items in training; of "
            f"{several:,} users with several none keeps two: valid and test took the others"
        )
    histories, longer = (UserHistories(one, last=last) for one in (train, edges_of(known)))
    return Task(
        data,
        train,
        histories,
        held("valid", split.valid, split.train, histories),
        held("test", split.test, known, longer),
        np.ones(train.num_items, bool),
        notes=tuple(notes),
    )


def _rows_of(users: np.ndarray, pairs: Pairs) -> CsrRows:
    """The items of each of ``users``, which ascend."""
    places = np.minimum(np.searchsorted(users, pairs.users), len(users) - 1)
    mine = users[places] == pairs.users
    return csr_rows(places[mine], pairs.items[mine], len(users))


def _wrong_answers(rng: np.random.Generator, name: str, held: HeldOut, pool: np.ndarray) -> HeldOut:
    """Distinct items of the pool, unseen by their query, in place of the relevant ones."""
    lengths, num_rows = np.asarray(held.relevant.lengths()), held.relevant.num_rows
    rows = np.repeat(np.arange(num_rows, dtype=np.int64), lengths)
    width = 1 + int(max(pool.max(), np.asarray(held.seen.columns).max(initial=0)))
    seen_rows = np.repeat(np.arange(num_rows, dtype=np.int64), np.asarray(held.seen.lengths()))
    seen = seen_rows * width + np.asarray(held.seen.columns)
    hidden = np.bincount(seen_rows[np.isin(seen % width, pool)], minlength=num_rows)
    if (lengths + hidden > len(pool)).any():
        raise InputError(f"{name}: a query has more positives than items that it has not seen")
    keys = np.empty(len(rows), np.int64)
    wrong = np.ones(len(rows), bool)
    while wrong.any():
        keys[wrong] = rows[wrong] * width + pool[rng.integers(0, len(pool), wrong.sum())]
        # Of equal ones the one that stood before stays: the others are drawn anew.
        order = np.lexsort((wrong, keys))
        again = np.append(False, keys[order[1:]] == keys[order[:-1]])
        wrong = np.isin(keys, seen)
        wrong[order[again]] = True
    return held._replace(relevant=csr_rows(rows, keys % width, num_rows))


def _capped(rng: np.random.Generator, count: int, most: int | None) -> np.ndarray:
    """``most`` of ``count`` places at random, ascending; all where there are no more."""
    if most is not None and most < 1:
        raise InputError(f"max_queries: expected an integer of 1 or more, or None, got {most}")
    if most is None or count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))


def _counts(train: Interactions, codes: np.ndarray) -> str:
    held = np.bincount(codes, minlength=TEST + 1)
    alone = train.num_items - len(np.unique(train.item_rows))
    return (
        f"{len(train):,} edges trained on, {held[VALID]:,} held out for valid and {held[TEST]:,} "
        f"for test; {alone:,} items have no training edge"
    )


def _all_taken(contexts: np.ndarray, codes: np.ndarray) -> str:
    """Why no pair is left, though the data hold some."""
    counts = np.bincount(contexts)
    held = np.bincount(codes, minlength=ASKED + 1)
    return (
        f"contexts: expected one that holds two different items in training; of "
        f"{int((counts > 0).sum()):,} contexts {int((counts > 1).sum()):,} hold several, and none "
        f"of these keeps two: {int(held[VALID] + held[TEST]):,} edges are held out for valid and "
        f"test (--valid, --test), {int(held[GIVEN_BACK] + held[ASKED]):,} with held-out items "
        "(--fresh); smaller shares are needed, or more such contexts"
    )


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise InputError(f"{name}: expected a share above 0 and below 1, got {share}")
    if sum(shares.values()) >= 1:
        raise InputError(
            f"{' and '.join(shares)}: expected a sum below 1, so that something is left to train "
            f"on, got {sum(shares.values()):g}"
        )


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise InputError(f"seed: expected an integer of 0 or more, got {seed}")
    return np.random.default_rng(seed)

"""Training pairs: which item is to be found from which query.

Ying et al. 2018, section 3.3, train on pairs (q, i) of a query item and one that was engaged with
directly after it. Here the pairs may also come from contexts that hold both, or from the history of
a user. A source draws on the host, uniformly and with replacement: an epoch is as many draws as
there are pairs, and two epochs see different ones.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from pinsage_jax.data.items import checked_pairs
from pinsage_jax.graph.hashing import hashed


class Draws(NamedTuple):
    """Drawn pairs.

    Attributes:
        queries: ``int32[count, n]`` item rows, −1 pads; n is 1 where queries are single items.
        positives: ``int32[count]`` item rows, none of which is in its query.
    """

    queries: np.ndarray
    positives: np.ndarray


class PairSource(Protocol):
    """A source of training pairs."""

    @property
    def num_pairs(self) -> int:
        """How many pairs an epoch has."""
        ...

    @property
    def query_items(self) -> int:
        """n, how many items a query has at most."""
        ...

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """Draw pairs, each uniform over the source's pairs.

        Args:
            rng: the generator that is drawn from.
            count: how many.
        """
        ...

    def apart(self, asked: np.ndarray) -> PairSource:
        """Make a source whose positives are asked edges and whose queries are of all others.

        Args:
            asked: ``bool[E]``, for each of the edges that this source was made of, in their order.

        Raises:
            InputError: no asked edge has a query.
        """
        ...


class ExplicitPairs:
    """Pairs as they are given; one that stands twice is drawn twice as often.

    Attributes:
        queries: ``int32[P]``.
        positives: ``int32[P]``.

    Raises:
        InputError: there is no pair, lengths differ, or an item is paired with itself.
    """

    query_items = 1

    def __init__(self, queries: np.ndarray, positives: np.ndarray):
        self.queries, self.positives = checked_pairs(queries, positives)
        if not len(self.queries):
            raise InputError("pairs: expected at least one query–positive pair, got none")

    @property
    def num_pairs(self) -> int:
        """How many pairs an epoch has."""
        return len(self.queries)

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """Draw pairs, as :class:`PairSource` describes it.

        Args:
            rng: the generator that is drawn from.
            count: how many.
        """
        drawn = rng.integers(0, self.num_pairs, count)
        return Draws(self.queries[drawn][:, None], self.positives[drawn])

    def apart(self, asked: np.ndarray) -> PairSource:
        """Keep all pairs: they were given, and no edge says which items make one.

        Args:
            asked: is not read.
        """
        del asked
        return self

    def positive_rows(self, num_items: int) -> CsrRows:
        """List the known positives of each item, each once: rows are queries, columns positives.

        Args:
            num_items: I, the rows.
        """
        keys = np.unique(self.queries.astype(np.int64) * num_items + self.positives)
        return csr_rows(keys // num_items, keys % num_items, num_items)


class CooccurrencePairs:
    """Two items of one context.

    An edge (q, c) is uniform among the edges of contexts with at least two distinct items, and the
    positive is uniform among the other entries of c that are another item. Multi-edges count each.
    A large context gives as many queries as it has edges, not as it has pairs.

    Attributes:
        skipped_contexts: contexts of one distinct item, which give no pair.

    Raises:
        InputError: no context has two distinct items.
    """

    query_items = 1

    def __init__(self, item_rows: np.ndarray, context_rows: np.ndarray, num_contexts: int):
        """Sort the edges by context, then item: ``int[E]`` each."""
        self._edges = np.asarray(item_rows, np.int32), np.asarray(context_rows, np.int32)
        items, contexts = self._edges
        width = int(items.max(initial=0)) + 1
        # One sort of a combined key is several times faster than a two-key lexsort.
        keys = np.sort(contexts.astype(np.int64) * width + items)
        self._contexts, self._items = (one.astype(np.int32) for one in np.divmod(keys, width))
        del keys
        # Entries of one item in one context stand together: a run.
        begins = np.ones(len(items), bool)
        begins[1:] = np.diff(self._contexts).astype(bool) | np.diff(self._items).astype(bool)
        self._runs = np.cumsum(begins, dtype=np.int32) - 1
        self._run_starts = np.append(np.flatnonzero(begins), len(items)).astype(np.int32)
        lengths = np.bincount(self._contexts, minlength=num_contexts)
        self._starts = np.append(0, np.cumsum(lengths))
        distinct = np.bincount(self._contexts[begins], minlength=num_contexts)
        self._usable = np.flatnonzero((distinct > 1)[self._contexts]).astype(np.int32)
        self.skipped_contexts = int((distinct == 1).sum())
        if not len(self._usable):
            raise InputError(
                f"contexts: expected one that holds two different items, got {num_contexts:,} "
                f"contexts with {len(items):,} entries and no such one"
            )

    @property
    def num_pairs(self) -> int:
        """How many pairs an epoch has."""
        return len(self._usable)

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """Draw pairs, as :class:`PairSource` describes it.

        Args:
            rng: the generator that is drawn from.
            count: how many.
        """
        edges = self._usable[rng.integers(0, self.num_pairs, count)]
        contexts, runs = self._contexts[edges], self._runs[edges]
        start, own = self._starts[contexts], self._run_starts[runs]
        own_length = self._run_starts[runs + 1] - own
        others = self._starts[contexts + 1] - start - own_length
        places = start + rng.integers(0, others)
        # The query's own entries are stepped over.
        places += np.where(places >= own, own_length, 0)
        return Draws(self._items[edges][:, None], self._items[places])

    def apart(self, asked: np.ndarray) -> AskedEdges:
        """Make pairs of the item of an asked edge and another item of its context.

        Args:
            asked: ``bool[E]``, in the order in which the edges were given. All copies of a repeated
                edge have to agree.
        """
        return AskedEdges(*self._edges, asked)


class AskedEdges:
    """Pairs of asked edges: those of a context are to be found from the items that it keeps.

    An asked edge (p, c) is uniform among those whose context keeps an edge, and the query uniform
    among the kept entries of c.

    Raises:
        InputError: no context has both an asked and a kept edge.
    """

    query_items = 1

    def __init__(self, items: np.ndarray, contexts: np.ndarray, asked: np.ndarray):
        """Sort the kept edges by context: ``int[E]`` items and contexts, ``bool[E]`` asked."""
        kept = np.flatnonzero(~asked)
        kept = kept[np.lexsort((items[kept], contexts[kept]))]
        self._items = items[kept]
        starts, ends = (
            np.searchsorted(contexts[kept], contexts[asked], side=side)
            for side in ("left", "right")
        )
        usable = ends > starts
        self._positives = items[asked][usable]
        self._starts, self._counts = starts[usable], (ends - starts)[usable]
        if not len(self._positives):
            raise InputError(
                f"folds: expected a context with an asked and a kept edge, got none of "
                f"{int(asked.sum()):,} asked and {len(kept):,} kept edges"
            )

    @property
    def num_pairs(self) -> int:
        """How many pairs an epoch has."""
        return len(self._positives)

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """Draw pairs, as :class:`PairSource` describes it.

        Args:
            rng: the generator that is drawn from.
            count: how many.
        """
        drawn = rng.integers(0, self.num_pairs, count)
        places = self._starts[drawn] + rng.integers(0, self._counts[drawn])
        return Draws(self._items[places][:, None], self._positives[drawn])

    def apart(self, asked: np.ndarray) -> PairSource:
        """Refuse: these are parts already.

        Args:
            asked: is not read.
        """
        del asked
        raise InputError("folds: the edges are parted already")


_MOST_ASKED = 1000  # items of a held-out query without times: a wider table is mostly padding


class UserHistories:
    """An item of a user, to be found from the user's items before it.

    With timestamps the query is the last n items before the positive, the latest first. Without, it
    is n others of the user at random, and a model learns to complete a set, not to foretell.
    A pair of user and item counts once, at its latest moment. Events of one moment are ordered by a
    hash of user and item, which favours no row. With n = 1 and timestamps the pairs are those of
    the paper: an item and the next one that its user engaged with.

    Attributes:
        last: n.

    Raises:
        InputError: ``last`` is below 1, or no user has two items.
    """

    def __init__(
        self, interactions: Interactions, *, last: int = 10, asked: np.ndarray | None = None
    ):
        """Order each user's events.

        Args:
            interactions: the events.
            last: n.
            asked: ``bool[E]``, for each distinct interaction in its order, whether it is a
                positive and stands in no query; None makes every one both.
        """
        if last < 1:
            raise InputError(f"last: expected an integer of 1 or more, got {last}")
        data = interactions.deduplicated() if interactions.has_duplicates else interactions
        self._events, self.last, self._timed = data, last, data.timestamps is not None
        by = [data.item_rows]
        if data.timestamps is not None:
            users, items = (rows.astype(np.uint32) for rows in (data.user_rows, data.item_rows))
            by = [hashed(hashed(users) ^ items), data.timestamps]
        order = np.lexsort((*by, data.user_rows))
        users, items = data.user_rows[order], data.item_rows[order]
        positive = np.ones(len(order), bool) if asked is None else asked[order]
        # Histories hold what stands in queries.
        kept = np.ones(len(order), bool) if asked is None else ~positive
        self._items = items[kept]
        self._lengths = np.bincount(users[kept], minlength=data.num_users)
        self._starts = np.cumsum(self._lengths) - self._lengths
        before = np.cumsum(kept) - kept
        others = before - self._starts[users] if self._timed else self._lengths[users] - kept
        usable = np.flatnonzero(positive & (others > 0))
        self._users, self._positives = users[usable], items[usable]
        # Where an event stands in the histories, or would stand, and whether it does.
        self._places, self._own = before[usable], kept[usable]
        if not len(usable):
            raise InputError("interactions: expected a user with two different items, got none")

    @property
    def num_pairs(self) -> int:
        """How many pairs an epoch has."""
        return len(self._positives)

    @property
    def query_items(self) -> int:
        """n, how many items a query has at most."""
        return self.last

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """Draw pairs, as :class:`PairSource` describes it.

        Args:
            rng: the generator that is drawn from.
            count: how many.
        """
        drawn = rng.integers(0, self.num_pairs, count)
        users, place, own = self._users[drawn], self._places[drawn], self._own[drawn]
        if self._timed:
            places = self._before(place, self._starts[users])
        else:
            ranks = _distinct_ranks(rng, self._lengths[users] - own, self.last)
            places = self._starts[users][:, None] + ranks
            places += own[:, None] & (places >= place[:, None])  # the positive is stepped over
            places[ranks < 0] = -1
        return Draws(self._at(places), self._positives[drawn])

    def apart(self, asked: np.ndarray) -> UserHistories:
        """Make pairs of asked events, with queries of all others.

        Args:
            asked: ``bool[E]``, in the order of the distinct interactions.

        Raises:
            InputError: there are more or fewer of these, or no asked event has a query.
        """
        distinct = len(self._events.user_rows)
        if len(asked) != distinct:
            raise InputError(
                f"asked: expected bool[{distinct}], an entry for each distinct interaction, "
                f"got bool[{len(asked)}]"
            )
        return UserHistories(self._events, last=self.last, asked=asked)

    def queries(self, rng: np.random.Generator, users: np.ndarray) -> np.ndarray:
        """Make queries that come after the last items of users: ``int32[Q, m]``, −1 pads.

        With timestamps they hold the last n items, the latest first. Without, they hold all items
        of a user, or 1,000 of them at random: no item says more than another of what comes.

        Args:
            rng: the generator that is drawn from.
            users: ``int[Q]``.
        """
        starts, lengths = self._starts[users], self._lengths[users]
        if self._timed:
            return self._at(self._before(starts + lengths, starts))
        width = int(min(lengths.max(initial=1), _MOST_ASKED))
        ranks = np.tile(np.arange(width), (len(users), 1))
        ranks[ranks >= lengths[:, None]] = -1
        longer = lengths > width
        ranks[longer] = _distinct_ranks(rng, lengths[longer], width)
        return self._at(np.where(ranks < 0, -1, starts[:, None] + ranks))

    def _before(self, places: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The n places before each, −1 where the user's history has not begun."""
        before = places[:, None] - 1 - np.arange(self.last)[None, :]
        return np.where(before >= starts[:, None], before, -1)

    def _at(self, places: np.ndarray) -> np.ndarray:
        return np.where(places >= 0, self._items[places], np.int32(-1))


def _distinct_ranks(rng: np.random.Generator, sizes: np.ndarray, count: int) -> np.ndarray:
    """Draw min(count, size) distinct ranks of 0 … size − 1 for each row, every set equally likely.

    Robert Floyd's algorithm on all rows at once (Bentley and Floyd 1987): time rows · count²,
    whatever the sizes.

    Args:
        sizes: ``int[B]``.

    Returns:
        ``int64[B, count]``, −1 pads at the end.
    """
    chosen = np.full((len(sizes), count), -1, np.int64)
    wanted = np.minimum(sizes, count)
    for step in range(count):
        newest = sizes - wanted + step
        drawn = rng.integers(0, newest + 1)
        taken = (chosen[:, :step] == drawn[:, None]).any(axis=1)
        chosen[:, step] = np.where(step < wanted, np.where(taken, newest, drawn), -1)
    return chosen

"""A language model as a recommender: items as they are written, users as what they took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.language import HashedTfIdf, MeanOfItems, TextEncoder
from lightgcn_jax.serving.recommender import Recommender


def reading_recommender(
    split: Split,
    texts: Sequence[str],
    encoder: TextEncoder | None = None,
    *,
    offer_test: bool = False,
) -> Recommender:
    """Embed the items' texts, and recommend by cosines to the mean of what a user took.

    Nothing is trained: an item is known by its text alone, so that items of which no training
    interaction knows are recommended too, and anybody is by a list of items.

    Args:
        split: who took what: training items make the means, and what any part holds is not
            recommended.
        texts: a text for each of ``split.items``, in that order
            (:func:`lightgcn_jax.language.written_out`); "" where there is none.
        encoder: makes ``float[n, D]`` of n texts, none of them empty; by default
            :class:`~lightgcn_jax.language.HashedTfIdf`.
        offer_test: leave test items open to recommendation.

    Raises:
        InputError: there is not one text for each item, or the encoder gives something else than a
            finite row for each.
    """
    histories = csr_rows(split.train.users, split.train.items, len(split.users))
    vectors = text_vectors(texts, encoder or HashedTfIdf(), len(split.items))
    parts = [split.train, split.valid, *([] if offer_test else [split.test])]
    seen = merge_pairs(*parts)
    return Recommender(
        split.users,
        split.items,
        MeanOfItems.of(vectors, histories),
        csr_rows(seen.users, seen.items, len(split.users)),
        model="a language model",
        train=histories,
        titles=split.titles,
    )


def text_vectors(texts: Sequence[str], encoder: TextEncoder, count: int) -> np.ndarray:
    """The encoder's rows, zeros for empty texts, which it is not asked for.

    Args:
        texts: n of them.
        encoder: what reads.
        count: how many there should be.

    Raises:
        InputError: there are others than ``count``, none has a word, or the encoder gives something
            else.
    """
    if len(texts) != count:
        raise InputError(f"texts: expected {count}, one for each item, got {len(texts)}")
    told = [at for at, text in enumerate(texts) if text.strip()]
    if not told:
        raise InputError("texts: expected at least one that is not empty")
    found = np.asarray(encoder([texts[at] for at in told]), np.float32)
    if found.ndim != 2 or len(found) != len(told) or not np.isfinite(found).all():
        raise InputError(
            f"encoder: expected finite numbers of shape [{len(told)}, D], got {list(found.shape)}"
        )
    vectors = np.zeros((count, found.shape[1]), np.float32)
    vectors[told] = found
    return vectors

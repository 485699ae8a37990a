"""What ratings and events say of a pair: the order of merging repeated pairs and of a threshold.

A pair that was *rated* several times has one rating, the last: repeated pairs are merged, then the
threshold decides. A pair that was *shown* several times has one positive event or none: the rows
that are no positive leave, then repeated pairs are merged, so that a later impression erases no
click.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.weights import told
from lightgcn_jax.errors import InputError

Feedback = Literal["events", "ratings"]
"""What the rows of a log are."""

_MOST_SHOWN = 10  # types of events in a message
_MOST_LEVELS = 21  # of a scale: half stars, or whole numbers up to 20


def positives(
    interactions: Interactions, min_rating: float | None = None, feedback: Feedback | None = None
) -> Interactions:
    """One interaction for each pair that counts as positive.

    Args:
        interactions: Rows as they were read.
        min_rating: The least rating of a positive; None takes every row as one.
        feedback: `ratings` takes a pair's last row and then the threshold, `events` the threshold
            and then one row of a pair; None takes `events` where all ratings are 0 or 1.

    Returns:
        Distinct pairs, each of the weight of its rows that are left; what was guessed, how many low
        ratings became positives, and what weights there are, is in their notes.

    Raises:
        InputError: A threshold without ratings, one that nothing reaches, or an unknown feedback.
    """
    if feedback not in (None, *get_args(Feedback)):
        raise InputError(f"feedback: expected events or ratings, got {feedback!r}")
    are_events = feedback == "events" or (feedback is None and _are_labels(interactions))
    if min_rating is None:
        kept = interactions.deduplicated()
        unused = _no_click(interactions) if are_events else _low_ratings(kept)
        return _with_notes(kept, (*unused, *_weights(kept)))
    guess = () if feedback or interactions.ratings is None else _said(interactions)
    if are_events:
        kept = interactions.with_min_rating(min_rating).deduplicated()
    else:
        kept = interactions.deduplicated().with_min_rating(min_rating)
    return _with_notes(kept, (*guess, *_weights(kept)))


def of_events(interactions: Interactions, events: Any, wanted: Sequence[str]) -> Interactions:
    """The rows of some types of events.

    Args:
        interactions: Rows as they were read.
        events: The type of each row, strings [E].
        wanted: The types to keep.

    Raises:
        InputError: No row has one of the types.
    """
    types = pl.Series("type", events, dtype=pl.String)
    counts = types.value_counts(sort=True).sort("count", "type", descending=[True, False]).rows()
    held = ", ".join(f"{type_} ({count:,})" for type_, count in counts[:_MOST_SHOWN])
    held += f" and {len(counts) - _MOST_SHOWN} more" if len(counts) > _MOST_SHOWN else ""
    known = {type_ for type_, _ in counts}
    if unknown := [name for name in wanted if name not in known]:
        raise InputError(f"event {unknown[0]!r}: no row has this type; the types are {held}")
    mask = types.is_in(list(wanted)).to_numpy()
    kept = interactions.filtered(f"event {', '.join(wanted)}", mask)
    return _with_notes(kept, [f"events: {held}; {', '.join(wanted)} count"])


def _with_notes(interactions: Interactions, notes: Iterable[str]) -> Interactions:
    return replace(interactions, notes=(*interactions.notes, *notes))


def _weights(interactions: Interactions) -> Iterator[str]:
    """What weights there are."""
    if interactions.weights is not None and len(interactions):
        yield told(interactions.weights)


def _are_labels(interactions: Interactions) -> bool:
    ratings = interactions.ratings
    return ratings is not None and bool(np.isin(ratings, (0, 1)).all())


def _said(interactions: Interactions) -> Iterator[str]:
    """The guess, where it makes a difference."""
    if not interactions.has_duplicates:
        return
    if _are_labels(interactions):
        yield (
            "all ratings are 0 or 1, so rows are read as events: a pair counts where one of its "
            "rows does (--feedback ratings lets its last row decide)"
        )
    else:
        yield (
            "rows are read as ratings: of a repeated pair the last row decides (--feedback events "
            "lets one row suffice)"
        )


def _no_click(interactions: Interactions) -> Iterator[str]:
    """How many pairs have no positive row, though all count as positives."""
    if interactions.ratings is None:
        return
    keys = interactions.pair_keys
    pairs, clicked = len(np.unique(keys)), len(np.unique(keys[interactions.ratings > 0]))
    if clicked < pairs:
        yield (
            f"{pairs - clicked:,} of {pairs:,} pairs have no row rated above 0, and count as "
            "positives all the same; --min-rating leaves them out"
        )


def _low_ratings(interactions: Interactions) -> Iterator[str]:
    """How many ratings would hardly be called positive, though all count as positives."""
    ratings = interactions.ratings
    if ratings is None or not len(ratings):
        return
    lowest, highest = float(ratings.min()), float(ratings.max())
    middle = (lowest + highest) / 2
    is_scale = lowest < highest and len(np.unique(ratings)) <= _MOST_LEVELS
    # Counts of plays have no middle that anybody would name.
    if is_scale and lowest > 0:
        low, called = ratings < middle, f"below {middle:g}, the middle of {lowest:g} … {highest:g}"
    else:
        low, called = ratings <= 0, "0" if lowest == 0 else "0 or below"
    if low.any():
        yield (
            f"{int(low.sum()):,} of {len(ratings):,} ratings are {called}, and their pairs count "
            "as positives all the same; --min-rating leaves them out"
        )
    elif lowest < highest and interactions.weights is None:
        yield (
            "ratings are not used: --min-rating leaves low ones out, --weight-column weighs "
            "interactions by a column"
        )

"""Texts as words and their hashes.

A word is a run of letters, digits, marks and underscores (``\\w`` of Unicode, which starts with
a letter, a digit or an underscore) after compatibility composition (NFKC) and case folding. Emoji
and punctuation are no words. Scripts that write without blanks are not segmented: a run of Chinese
is one word. The hash is BLAKE2b, the same in every process and on every machine; the hash of a pair
is mixed from those of its words.

References:
    Weinberger et al. 2009, "Feature hashing for large scale multitask learning".
    Steele et al. 2014, "Fast splittable pseudorandom number generators" (the mixing).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError

TextEncoder = Callable[[list[str]], Any]
"""n texts, none of them empty, to ``float[n, w]``, as sentence-embedding models do it."""

# Marks and joiners are \w too, and stand alone between emoji: a word does not start with them.
_WORD = r"[\p{L}\p{N}_]\w*"


class Words(NamedTuple):
    """The words of n texts, one text after the other.

    Attributes:
        counts: ``int64[n]``, words of each text.
        words: String ``[counts.sum()]``.
    """

    counts: np.ndarray
    words: pl.Series


def normalized(text: str) -> str:
    """Compose a text and fold its case, so that what looks alike is alike.

    Args:
        text: any string.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Folding may take composed letters apart. Half a surrogate pair is no character.
    return unicodedata.normalize("NFKC", folded).encode("utf-8", "replace").decode()


def split_words(texts: Sequence[str | None], max_words: int) -> Words:
    """Take the first words of each text; None has none.

    Args:
        texts: n strings or None.
        max_words: words of a text that are taken at most.
    """
    series = pl.Series([normalized(text) if text else "" for text in texts], dtype=pl.String)
    lists = series.str.extract_all(_WORD).list.head(max_words)
    counts = lists.list.len().cast(pl.Int64).to_numpy()
    return Words(counts, lists.filter(pl.Series(counts > 0, dtype=pl.Boolean)).explode())


def longest_text(texts: Sequence[str | None], max_words: int) -> int:
    """Count the words of the longest text.

    Args:
        texts: n strings or None.
        max_words: words of a text that count at most.
    """
    return int(split_words(texts, max_words).counts.max(initial=0))


def hashed_bags(texts: Sequence[str | None], *, buckets: int, max_words: int) -> np.ndarray:
    """Turn the words and the pairs of neighbouring words of each text into ids.

    Args:
        texts: n strings or None.
        buckets: how many ids there are: they lie in [0, buckets).
        max_words: words of a text that count; later ones are left out.

    Returns:
        ``int32[n, 2 · max_words − 1]``: the words, then the pairs, then −1. An empty text has none.
    """
    if buckets < 1 or max_words < 1:
        raise InputError(f"buckets, max_words: expected at least 1, got {buckets} and {max_words}")
    counts, words = split_words(texts, max_words)
    hashes = _hashes(words)
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    bags = np.full((len(counts), 2 * max_words - 1), -1, np.int32)
    bags[rows, places] = hashes % np.uint64(buckets)
    first = np.flatnonzero(rows[1:] == rows[:-1])
    pairs = _mixed(hashes[first], hashes[first + 1])
    bags[rows[first], counts[rows[first]] + places[first]] = pairs % np.uint64(buckets)
    return bags


def _hashes(words: pl.Series) -> np.ndarray:
    """The first 8 bytes of each word's BLAKE2b, ``uint64``; each distinct word is hashed once."""
    distinct = words.unique()
    digests = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in distinct)
    values = pl.Series(np.frombuffer(digests, "<u8").astype(np.uint64))
    return words.replace_strict(distinct, values, return_dtype=pl.UInt64).to_numpy()


def _mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One hash of two, which depends on their order; splitmix64's finalizer, modulo 2⁶⁴."""
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))

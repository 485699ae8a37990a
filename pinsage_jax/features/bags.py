"""Columns of strings as bags of ids: texts by hashed words, categories by a vocabulary.

Words and their hashes are those of :mod:`lightgcn_jax.language.words`.

The paper takes the most frequent words and pairs of its annotations as vocabulary; hashing needs no
vocabulary and gives words of later items a place, at the price of some collisions.

Categories do have a vocabulary: the values of training items, the most frequent first, from place
1. Place 0 stands for every other value. Training meets it only where the vocabulary is full: else
the learnt vector of place 0 stays as it was drawn.

References:
    Ying et al. 2018, section 4.1 (features: textual annotations of a pin).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.language.words import TextEncoder, hashed_bags, longest_text
from pinsage_jax.features.columns import Column, Kind
from pinsage_jax.features.inputs import Input, Statistics, require

MAX_VOCABULARY = 10_000
MAX_BUCKETS = 2**31 - 1
MAX_WORDS = 4_096
# The widest bag of categories; further values of an item are left out.
MAX_CATEGORIES = 64

TextEncoders = Mapping[str, TextEncoder]


@dataclass(frozen=True)
class TextSchema:
    """Texts as a bag of hashed words and pairs, and as an encoder's vectors where it has one.

    Attributes:
        name: what the column is called.
        buckets: how many ids words and pairs are hashed to.
        words: how many words of a text count; the longest text in training has no more.
        sentence: statistics of the encoder's vectors; None without an encoder.
        kind: ``text``.
    """

    name: str
    buckets: int
    words: int
    sentence: Statistics | None = None
    kind: Kind = "text"

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and self.name, "name", "a string", self.name)
        for name, most in (("buckets", MAX_BUCKETS), ("words", MAX_WORDS)):
            value = getattr(self, name)
            fine = type(value) is int and 1 <= value <= most
            require(fine, name, f"an integer from 1 to {most}", value)
        known = self.sentence is None or isinstance(self.sentence, Statistics)
        require(known, "sentence", "statistics or null", self.sentence)

    @classmethod
    def fit(
        cls, name: str, column: Column, rows: np.ndarray, buckets: int, most: int,
        encoder: TextEncoder | None,
    ) -> TextSchema:  # fmt: skip
        """Find out how long the training texts are, and how their vectors are distributed.

        Args:
            name: what the column is called.
            column: the texts of all items.
            rows: ``int[n]``, the training items.
            buckets: how many ids words and pairs are hashed to.
            most: words of a text that count at most.
            encoder: what makes sentence vectors of the texts, if anything does.
        """
        texts, sentence = column.take(rows).values, None
        if encoder is not None:
            values, missing = _sentences(name, texts, encoder, None)
            sentence = Statistics.fit(values, np.flatnonzero(~missing))
        return cls(name, buckets, max(1, longest_text(texts, most)), sentence)

    def inputs(self) -> tuple[Input, ...]:
        """The arrays that ``encode`` makes."""
        bag = Input(self.name, "bag", self.buckets, 2 * self.words - 1)
        if self.sentence is None:
            return (bag,)
        return bag, Input.dense(self._sentence_name, len(self.sentence.mean))

    def encode(self, column: Column, encoders: TextEncoders) -> dict[str, np.ndarray]:
        """Make the arrays of ``inputs``, by name.

        Args:
            column: the texts of the items.
            encoders: what makes sentence vectors, by column.

        Raises:
            InputError: the encoder that the schema was fitted with is missing.
        """
        bags = hashed_bags(column.values, buckets=self.buckets, max_words=self.words)
        if self.sentence is None:
            return {self.name: bags}
        if self.name not in encoders:
            raise InputError(
                f"text_encoders: expected the encoder of column {self.name!r}, with which the "
                f"schema was fitted, got {', '.join(map(repr, encoders)) or 'none'}"
            )
        width = len(self.sentence.mean)
        values, missing = _sentences(self.name, column.values, encoders[self.name], width)
        return {self.name: bags, self._sentence_name: self.sentence.standardised(values, missing)}

    @property
    def _sentence_name(self) -> str:
        return f"{self.name}_sentence"


@dataclass(frozen=True)
class CategorySchema:
    """One value, or a list of values, as a bag of their places in the vocabulary.

    Attributes:
        name: what the column is called.
        kind: ``category`` or ``categories``.
        vocabulary: ``vocabulary[p − 1]`` has place p.
        width: values of an item that the bag has room for; further ones are left out.
    """

    name: str
    kind: Kind
    vocabulary: tuple[str, ...]
    width: int

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and self.name, "name", "a string", self.name)
        values = self.vocabulary
        fine = type(values) is tuple and all(isinstance(one, str) and one for one in values)
        fine = fine and len(set(values)) == len(values) <= MAX_VOCABULARY
        require(fine, "vocabulary", f"at most {MAX_VOCABULARY} strings, each once", values)
        fine = type(self.width) is int and 1 <= self.width <= MAX_CATEGORIES
        require(fine, "width", f"an integer from 1 to {MAX_CATEGORIES}", self.width)

    @classmethod
    def fit(cls, name: str, column: Column, rows: np.ndarray) -> CategorySchema:
        """Take the values of the training items as vocabulary, the most frequent first.

        Args:
            name: what the column is called.
            column: the values of all items.
            rows: ``int[n]``, the training items.
        """
        lists = _lists(column.take(rows))
        counts = Counter(value for one in lists for value in one)
        # Ties by name: the schema does not depend on the order of the items.
        frequent = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_VOCABULARY]
        longest = min(MAX_CATEGORIES, max(map(len, lists), default=0))
        return cls(name, column.kind, tuple(frequent), max(1, longest))

    def inputs(self) -> tuple[Input, ...]:
        """The array that ``encode`` makes."""
        return (Input(self.name, "bag", 1 + len(self.vocabulary), self.width),)

    def encode(self, column: Column, _: TextEncoders) -> dict[str, np.ndarray]:
        """Make the array of ``inputs``.

        Args:
            column: the values of the items.
        """
        place = {value: at for at, value in enumerate(self.vocabulary, start=1)}
        bags = np.full((len(column.values), self.width), -1, np.int32)
        for row, values in enumerate(_lists(column)):
            # All unknown values become one: nothing is known of how they differ.
            places = list(dict.fromkeys(place.get(value, 0) for value in values))[: self.width]
            bags[row, : len(places)] = places
        return {self.name: bags}


def _sentences(
    name: str, texts: Sequence[str | None], encoder: TextEncoder, width: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Encode texts, ``float[n, w]``, and tell which are empty, ``bool[n]``; a width of None is not
    known yet."""
    empty = np.array([not (text and text.strip()) for text in texts], bool)
    given = [text for text in texts if text and text.strip()]
    if not given:
        if width is None:
            raise InputError(f"text_encoders: column {name!r} has no text among the training items")
        return np.zeros((len(texts), width), np.float32), empty
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
        vectors = np.asarray(encoder(given))
        vectors = vectors.astype(np.float32) if vectors.dtype.kind in "fiu" else vectors
    # A width that is not known yet is any but 0.
    wanted = len(given), width or max((1, *vectors.shape[1:]))
    if vectors.shape != wanted or vectors.dtype != np.float32:
        raise InputError(
            f"text_encoders: expected that of {name!r} to give numbers of shape "
            f"[{len(given)}, {width or 'w'}], got {vectors.dtype} of shape {vectors.shape}"
        )
    if (broken := ~np.isfinite(vectors).all(axis=1)).any():
        raise InputError(
            f"text_encoders: expected that of {name!r} to give finite numbers, "
            f"it does not for {given[broken.argmax()][:60]!r}"
        )
    values = np.zeros((len(texts), vectors.shape[1]), np.float32)
    values[~empty] = vectors
    return values, empty


def _lists(column: Column) -> list[list[str]]:
    """The values of each item, as lists."""
    if column.kind == "categories":
        return column.values
    return [[value] if value else [] for value in column.values]

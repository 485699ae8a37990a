"""Texts as hashed TF-IDF: no vocabulary, nothing to download."""

from __future__ import annotations

import dataclasses

import numpy as np

from lightgcn_jax.fields import Checked, setting, whole
from lightgcn_jax.language.words import hashed_bags

# Texts whose bags are made at once.
_AT_ONCE = 4_096


@dataclasses.dataclass(frozen=True)
class HashedTfIdf(Checked):
    """Words and pairs of neighbouring words, hashed into B places and weighed by TF-IDF.

    Place b of a text holds (1 + log n_b) log((1 + T) / (1 + d_b)) if n_b > 0, where n_b counts the
    text's words and pairs of that place, d_b the texts that have any, and T all texts of the call;
    rows have length 1, and a text without words is a row of zeros.

    Attributes:
        buckets: B.
        max_words: words of a text that count; later ones are left out.

    References:
        Manning, Raghavan and Schütze 2008, section 6.4 (sublinear scaling).
    """

    buckets: int = setting(2048, whole(1))
    max_words: int = setting(128, whole(1, 4_096))

    def __call__(self, texts: list[str]) -> np.ndarray:
        """A row for each text.

        Args:
            texts: T of them.

        Returns:
            ``float32[T, B]``.
        """
        rows = np.zeros((len(texts), self.buckets), np.float32)
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            bags = hashed_bags(part, buckets=self.buckets, max_words=self.max_words)
            places = np.nonzero(bags >= 0)
            np.add.at(rows, (start + places[0], bags[places]), 1)
        having = (rows > 0).sum(axis=0)
        weights = np.log((1 + len(texts)) / (1 + having)).astype(np.float32)
        there = rows > 0
        rows[there] = 1 + np.log(rows[there])
        rows *= weights
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths > 0, lengths, 1)

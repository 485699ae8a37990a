import hashlib
import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.errors import InputError
from lightgcn_jax.language.words import hashed_bags, longest_text, normalized, split_words


def words_of(text, max_words=32):
    return split_words([text], max_words).words.to_list()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red  SHOES, size_9!", ["red", "shoes", "size_9"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("ΣΊΣΥΦΟΣ Straße", ["σίσυφοσ", "strasse"]),
        # No segmentation: a run is a word.
        ("深度学习，推荐", ["深度学习", "推荐"]),
        # Signs of Devanagari and points of Hebrew are marks, parts of their words.
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("שָׁלוֹם", [unicodedata.normalize("NFKC", "שָׁלוֹם")]),
        ("cafe\u0301 caf\u00e9", ["café", "café"]),
        ("\ufb01ne ＡＢＣ ①", ["fine", "abc", "1"]),
        # Emoji are no words, and neither are the joiners, selectors and tones within them.
        ("👍🏽 ❤️ 👩\u200d🚀 ok", ["ok"]),
        ("…!?", []),
        ("", []),
        (None, []),
        ("half \ud800 pair", ["half", "pair"]),
    ],
)
def test_words_of_any_script(text, words):
    assert words_of(text) == words


def test_words_of_several_texts_are_one_after_the_other():
    counts, words = split_words(["a b c d", None, "E", ""], 3)
    assert counts.tolist() == [3, 0, 1, 0]
    assert words.to_list() == ["a", "b", "c", "e"]
    assert longest_text(["a b c d", None], 3) == 3
    assert longest_text([None, "…"], 3) == 0
    assert longest_text([], 3) == 0


def blake(word):
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def mixed(first, second):
    """splitmix64 in Python's integers."""
    mask = 2**64 - 1
    value = (first * 0x9E3779B97F4A7C15 + second) & mask
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)


def bag_by_hand(text, buckets, max_words):
    words = words_of(text, max_words)
    pairs = [mixed(blake(a), blake(b)) % buckets for a, b in itertools.pairwise(words)]
    ids = [blake(word) % buckets for word in words] + pairs
    return ids + [-1] * (2 * max_words - 1 - len(ids))


def test_a_bag_holds_the_first_words_and_their_pairs():
    texts = ["new york pizza place", "pizza", None, "york new", "…"]
    bags = hashed_bags(texts, buckets=1_000, max_words=3)
    assert bags.dtype == np.int32
    assert bags.tolist() == [bag_by_hand(text, 1_000, 3) for text in texts]
    # The same words, but another pair.
    assert set(bags[0, :2]) == set(bags[3, :2])
    assert bags[0, 3] != bags[3, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=30) | st.text("ab Ж深\u0301", max_size=20), max_size=6),
    st.integers(1, 2**31 - 1),
    st.integers(1, 5),
)
def test_ids_are_buckets_and_depend_on_the_text_alone(texts, buckets, max_words):
    bags = hashed_bags(texts, buckets=buckets, max_words=max_words)
    assert bags.shape == (len(texts), 2 * max_words - 1)
    assert ((bags >= -1) & (bags < buckets)).all()
    # Padding comes last.
    assert (np.diff((bags < 0).astype(int), axis=1) >= 0).all()
    for text, bag in zip(texts, bags, strict=True):
        alone = hashed_bags([text], buckets=buckets, max_words=max_words)
        assert bag.tolist() == alone[0].tolist() == bag_by_hand(text, buckets, max_words)


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_for_words(text):
    assert words_of(normalized(text)) == words_of(text)


def test_buckets_are_filled_evenly():
    texts = [f"word{n}" for n in range(8_000)]
    bags = hashed_bags(texts, buckets=16, max_words=1)
    pairs = hashed_bags([f"{text} next" for text in texts], buckets=16, max_words=2)[:, 2]
    for ids in (bags[:, 0], pairs):
        counts = np.bincount(ids, minlength=16)
        # The 0.9999 quantile of chi-square with 15 degrees of freedom is 44.3.
        assert np.square(counts - 500).sum() / 500 < 44.3


def test_ids_stay_what_they_were():
    """A trained run reads its features with these ids, in any later process."""
    bags = hashed_bags(["Red shoes", "Ж"], buckets=2**14, max_words=2)
    assert bags.tolist() == [[10509, 10373, 3966], [14514, -1, -1]]


@pytest.mark.parametrize(("buckets", "max_words"), [(0, 3), (3, 0)])
def test_sizes_are_checked(buckets, max_words):
    with pytest.raises(InputError, match="buckets, max_words: expected at least 1"):
        hashed_bags(["a"], buckets=buckets, max_words=max_words)

"""A generated world of pins and boards, in which looks deceive.

A bed rail and a garden fence look alike and are of different use (Ying et al. 2018, figure 1 and
section 4.2). Every pin has three planted factors that are drawn independently:

=========  =======================================================================================
look       only the visual vector tells it
use        only the words tell it, and half of the words that do are ambiguous
style      only the boards tell it: neither looks nor words show it
=========  =======================================================================================

The *topic* is the pair of look and use, so no single source decides it; a *cell* is a topic and a
style. A board belongs to one cell and draws most of its pins from there, some from pins that share
its use and style and may look like anything, and the others from all pins. Every draw is in
proportion to popularity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data import IdMap, Interactions
from lightgcn_jax.errors import InputError
from pinsage_jax.data.items import ItemData
from pinsage_jax.features.columns import Column
from pinsage_jax.features.table import FeatureTable

_PINS_A_CELL = 50
_SIZE_SPREAD = 0.6  # standard deviation of a board's log size
_OWN_WORDS, _SHARED_WORDS, _NOISE_WORDS = 12, 6, 500
_FEWEST_WORDS, _MOST_WORDS = 3, 8
_TYPOS = 0.03
_START, _SPAN = 1_577_836_800.0, 2 * 365 * 86_400.0  # two years from 2020 on, in seconds


@dataclass(frozen=True)
class PinWorld:
    """The settings of a generated world.

    The defaults were settled before any model was trained on them. They must not be tuned so that
    some model wins.

    Attributes:
        items: I, the number of pins.
        boards: the number of boards; None for a fifth of the items.
        mean_board_size: how many pins are drawn for a board on average; sizes are log-normal and at
            least 2. A pin that is drawn twice stands on the board once, so boards come out somewhat
            smaller.
        looks: the number of looks; None for as many looks and uses as make about 50 pins a cell.
        uses: the number of uses, like ``looks``.
        styles: the number of styles of each topic.
        visual_width: the number of entries of a visual vector.
        visual_signal: a, from 0 to 1. A pin's vector is a · look + √(1 − a²) · noise, where the
            entries of both are standard normal.
        text_signal: the share of a pin's words that come from its use, from 0 to 1; the other words
            are noise.
        graph_signal: from 0 to 1. The shares of own and related pins on a board are multiplied by
            it, and the remaining pins are drawn from all pins.
        board_purity: the share of a board's pins that come from its own cell.
        related_share: the share of a board's pins that have its use and style and any look.
        popularity_exponent: popularity is rank ** −exponent; with 0 all pins are equally popular.
    """

    items: int = 20_000
    boards: int | None = None
    mean_board_size: float = 40.0
    looks: int | None = None
    uses: int | None = None
    styles: int = 4
    visual_width: int = 32
    visual_signal: float = 0.5
    text_signal: float = 0.5
    graph_signal: float = 0.9
    board_purity: float = 0.7
    related_share: float = 0.15
    popularity_exponent: float = 0.6

    def __post_init__(self) -> None:
        _check("items", self.items, 2, 2**31 - 1)
        _check("boards", self.num_boards, 1, 2**31 - 1)
        _check("mean_board_size", self.mean_board_size, 2.0, 10_000.0)
        _check("styles", self.styles, 1, self.items)
        _check("looks", self.num_looks, 1, self.items)
        _check("uses", self.num_uses, 1, min(self.items, 50_000))
        _check("visual_width", self.visual_width, 1, 4096)
        signals = ("visual_signal", "text_signal", "graph_signal")
        for name in (*signals, "board_purity", "related_share"):
            _check(name, getattr(self, name), 0.0, 1.0)
        both = round(self.board_purity + self.related_share, 9)
        _check("board_purity + related_share", both, 0.0, 1.0)
        _check("popularity_exponent", self.popularity_exponent, 0.0, 4.0)

    @property
    def num_boards(self) -> int:
        """C, the number of boards."""
        return max(1, self.items // 5) if self.boards is None else self.boards

    @property
    def num_looks(self) -> int:
        """The number of looks."""
        return self._factor() if self.looks is None else self.looks

    @property
    def num_uses(self) -> int:
        """The number of uses."""
        return self._factor() if self.uses is None else self.uses

    def _factor(self) -> int:
        return max(2, round(math.sqrt(self.items / _PINS_A_CELL / max(1, self.styles))))


@dataclass(frozen=True, eq=False)
class Pins:
    """A generated world: what a model sees, and the truth behind it.

    Attributes:
        data: the items. Their columns are ``visual`` (vector) and ``words`` (text); the labels
            ``topic``, ``look``, ``use`` and ``style`` are the planted factors of the pins, and
            topic is look · uses + use.
        config: the settings that the world was made with.
        board_topics: ``int32[C]``, the topic of each board.
        board_styles: ``int32[C]``, the style of each board.
        look_vectors: ``float32[looks, width]``, around which the visual vectors lie before scaling.
        popularity: ``float64[I]``, in proportion to which pins are drawn.
    """

    data: ItemData
    config: PinWorld
    board_topics: np.ndarray
    board_styles: np.ndarray
    look_vectors: np.ndarray
    popularity: np.ndarray


def generate_pins(config: PinWorld | None = None, seed: int = 0) -> Pins:
    """Generate the world of a seed, which is the same each time.

    Memory is O(memberships + I · width). Factors, boards, visual vectors and words are drawn from
    streams of their own: another ``visual_signal``, for one, leaves boards and words as they were.
    Pins that no board drew stay, as items in no context.

    Args:
        config: what the world is like; None for the defaults.
        seed: the seed of everything that is drawn.

    Raises:
        InputError: the seed is negative.
    """
    config = config or PinWorld()
    _check("seed", seed, 0, 2**63 - 1)
    factors, boards, visuals, words = (np.random.default_rng([seed, stream]) for stream in range(4))
    looks, uses, styles = (
        factors.integers(0, many, config.items, np.int32)
        for many in (config.num_looks, config.num_uses, config.styles)
    )
    topics = looks * np.int32(config.num_uses) + uses
    popularity = (factors.permutation(config.items) + 1.0) ** -config.popularity_exponent
    # A board's cell is that of a random pin: no cell without pins, and large ones have more boards.
    founders = boards.integers(0, config.items, config.num_boards)
    interactions = _draw_boards(
        boards,
        config,
        popularity,
        cells=topics.astype(np.int64) * config.styles + styles,
        relatives=uses.astype(np.int64) * config.styles + styles,
        founders=founders,
    )
    vectors, visual = _draw_visuals(visuals, config, looks)
    columns = {
        "visual": Column("vector", visual),
        "words": Column("text", _texts(words, config, uses)),
    }
    data = ItemData(
        "pins",
        interactions,
        FeatureTable(columns, config.items),
        {"topic": topics, "look": looks, "use": uses, "style": styles},
    )
    return Pins(data, config, topics[founders], styles[founders], vectors, popularity)


class _Groups:
    """Pins by group, drawn within one in proportion to popularity."""

    def __init__(self, groups: np.ndarray, popularity: np.ndarray):
        self._order = np.argsort(groups, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(popularity[self._order])])
        self._ends = np.cumsum(np.bincount(groups))
        self._starts = self._ends - np.bincount(groups)

    def draw(self, rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """A pin of each group of ``int[n]``, none of them empty."""
        starts, ends = self._starts[groups], self._ends[groups]
        low, high = self._cumulative[starts], self._cumulative[ends]
        marks = low + rng.random(len(groups)) * (high - low)
        places = np.searchsorted(self._cumulative, marks, side="right") - 1
        # A mark may round up to the end of its group.
        return self._order[np.clip(places, starts, ends - 1)]


def _draw_boards(
    rng: np.random.Generator,
    config: PinWorld,
    popularity: np.ndarray,
    *,
    cells: np.ndarray,
    relatives: np.ndarray,
    founders: np.ndarray,
) -> Interactions:
    """Memberships sorted by board, then pin, each pair once."""
    spread = _SIZE_SPREAD * rng.standard_normal(config.num_boards) - _SIZE_SPREAD**2 / 2
    sizes = np.rint(config.mean_board_size * np.exp(spread)).astype(np.int64)
    sizes = np.clip(sizes, min(2, config.items), config.items)
    boards = np.repeat(np.arange(config.num_boards), sizes)
    roll = rng.random(len(boards))
    own = config.graph_signal * config.board_purity
    related = own + config.graph_signal * config.related_share
    kinds = (
        (cells, roll < own),
        (relatives, (roll >= own) & (roll < related)),
        (np.zeros(config.items, np.int64), roll >= related),
    )
    pins = np.empty(len(boards), np.int64)
    for groups, chosen in kinds:
        wanted = groups[founders[boards[chosen]]]
        pins[chosen] = _Groups(groups, popularity).draw(rng, wanted)
    keys = np.unique(boards * config.items + pins)
    return Interactions(
        users=IdMap(_ids("board", config.num_boards)),
        items=IdMap(_ids("pin", config.items)),
        user_rows=(keys // config.items).astype(np.int32),
        item_rows=(keys % config.items).astype(np.int32),
        timestamps=np.floor(_START + _SPAN * rng.random(len(keys))),
    )


def _ids(kind: str, count: int) -> pl.Series:
    rows = pl.int_range(0, count, eager=True)
    return pl.select(pl.format(kind + "-{}", rows).alias("id"))["id"]


def _draw_visuals(
    rng: np.random.Generator, config: PinWorld, looks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The looks' own vectors ``float32[looks, w]``, and the pins' ``float32[I, w]``."""
    width, signal = config.visual_width, config.visual_signal
    vectors = rng.standard_normal((config.num_looks, width), np.float32)
    visual = rng.standard_normal((config.items, width), np.float32)
    visual *= np.float32(math.sqrt(1 - signal**2))
    visual += (np.float32(signal) * vectors)[looks]
    return vectors, visual


def _texts(rng: np.random.Generator, config: PinWorld, uses: np.ndarray) -> list[str]:
    """A few words for each pin."""
    shape = (config.items, _MOST_WORDS)
    table = topical_words(config.num_uses)
    ids = table[uses[:, None], rng.integers(0, table.shape[1], shape, np.int32)]
    law = 1 / np.arange(1.0, _NOISE_WORDS + 1)
    marks = np.searchsorted(np.cumsum(law / law.sum()), rng.random(shape, np.float32))
    noise = np.minimum(marks, _NOISE_WORDS - 1) + _topical_count(config.num_uses)
    ids = np.where(rng.random(shape, np.float32) < config.text_signal, ids, noise)
    words = written_words(config.num_uses)
    # Behind each word of the list stands the same word with a letter left out.
    misspelt = words.str.slice(0, 2) + words.str.slice(3)
    ids = ids + np.where(rng.random(shape, np.float32) < _TYPOS, len(words), 0)
    written = pl.concat([words, misspelt])
    counts = pl.Series("count", rng.integers(_FEWEST_WORDS, _MOST_WORDS + 1, config.items))
    slots = pl.DataFrame(
        [counts, *(written.gather(ids[:, at]).alias(f"word_{at}") for at in range(_MOST_WORDS))]
    )
    said = [pl.when(pl.col("count") > at).then(pl.col(f"word_{at}")) for at in range(_MOST_WORDS)]
    text = pl.concat_str(said, separator=" ", ignore_nulls=True)
    return slots.select(text.alias("text"))["text"].to_list()


def topical_words(uses: int) -> np.ndarray:
    """List the words that tell each use, ``int32[uses, 24]``, all of them equally likely.

    Half of them are the use's own; half are ambiguous: six are shared with the next use, six with
    the one before.

    Args:
        uses: the number of uses.
    """
    use = np.arange(uses, dtype=np.int32)[:, None]
    own = use * _OWN_WORDS + np.arange(_OWN_WORDS, dtype=np.int32)[None, :]
    shared = np.arange(_SHARED_WORDS, dtype=np.int32)[None, :] + uses * _OWN_WORDS
    after, before = use * _SHARED_WORDS, (use - 1) % uses * _SHARED_WORDS
    return np.concatenate([own, shared + after, shared + before], axis=1)


def written_words(uses: int) -> pl.Series:
    """Spell all words by id: those that tell uses, then the noise.

    Args:
        uses: the number of uses.
    """
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]
    count = len(syllables)
    # A step without a common factor with their number leads through all words of three syllables.
    places = np.arange(_topical_count(uses) + _NOISE_WORDS) * 617_041 % count**3
    texts = pl.Series("word", syllables)
    first, second, third = (texts.gather(places // count**at % count) for at in range(3))
    return first + second + third


def _topical_count(uses: int) -> int:
    return uses * (_OWN_WORDS + _SHARED_WORDS)


def _check(name: str, value: Any, low: float, high: float) -> None:
    """Whole numbers between whole bounds, real ones between others; NaN fails."""
    whole = isinstance(low, int)
    if not (low <= value <= high and (not whole or value == int(value))):
        kind = "an integer of " if whole else ""
        raise InputError(f"{name}: expected {kind}{low:,} to {high:,}, got {value}")

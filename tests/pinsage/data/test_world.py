import dataclasses

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.data.world import PinWorld, generate_pins, topical_words, written_words

CONFIG = PinWorld(items=1500, looks=4, uses=5, styles=2, mean_board_size=20)
PINS = generate_pins(CONFIG, seed=1)
LABELS = PINS.data.labels


def columns(pins):
    return pins.data.features.columns


def nearest(values, centres):
    return np.square(values[:, None, :] - centres[None]).sum(axis=-1).argmin(axis=1)


def guessed_looks(pins):
    scaled = pins.config.visual_signal * pins.look_vectors
    return nearest(columns(pins)["visual"].values, scaled)


def guessed_uses(pins):
    """The use under which most of the words are likely; −1 where none tells anything."""
    words = written_words(pins.config.num_uses).to_list()
    tells = np.zeros((len(words), pins.config.num_uses))
    for use, own in enumerate(topical_words(pins.config.num_uses)):
        tells[own, use] += 1
    place = {word: at for at, word in enumerate(words)}
    said = [
        [place[w] for w in text.split() if w in place] for text in columns(pins)["words"].values
    ]
    votes = np.array([tells[ids].sum(axis=0) for ids in said])
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def share_of_boards(pins, label, of_boards):
    edges = pins.data.interactions
    return (pins.data.labels[label][edges.item_rows] == of_boards[edges.user_rows]).mean()


def test_a_world_is_complete_and_the_same_again():
    data = PINS.data
    assert data.interactions.num_items == data.features.num_rows == 1500
    assert data.interactions.num_users == 300
    assert not data.interactions.has_duplicates
    assert data.interactions.timestamps is not None
    assert set(LABELS) == {"topic", "look", "use", "style"}
    assert (LABELS["topic"] == LABELS["look"] * 5 + LABELS["use"]).all()
    again, other = generate_pins(CONFIG, seed=1), generate_pins(CONFIG, seed=2)
    assert (again.data.interactions.pair_keys == data.interactions.pair_keys).all()
    assert (columns(again)["visual"].values == columns(PINS)["visual"].values).all()
    assert columns(again)["words"].values == columns(PINS)["words"].values
    assert columns(other)["words"].values != columns(PINS)["words"].values
    assert data.interactions.users.external([7]) == ["board-7"]
    assert data.interactions.items.external([7]) == ["pin-7"]


def test_looks_are_seen_and_uses_are_read_but_neither_tells_the_other():
    looks, uses = guessed_looks(PINS), guessed_uses(PINS)
    assert (looks == LABELS["look"]).mean() > 0.85
    assert (uses == LABELS["use"]).mean() > 0.75
    bound = 4 * np.sqrt(0.25 * 0.75 / 1500)
    for guess, label, classes in ((looks, "use", 4), (uses, "look", 5), (looks, "style", 4)):
        table = np.zeros((classes, LABELS[label].max() + 1))
        np.add.at(table, (np.maximum(guess, 0), LABELS[label]), 1)
        # The best guess that one source allows is hardly better than the largest class.
        best = table.max(axis=1).sum() / 1500
        assert best < np.bincount(LABELS[label]).max() / 1500 + 2 * bound


def test_boards_gather_their_cell_and_relatives():
    """A board's slot is of its topic with share g·p from the cell, else by chance.

    Repeated pins are dropped, most of them of the cell, so the share found is somewhat lower.
    """
    expected = 0.9 * 0.7
    found = share_of_boards(PINS, "topic", PINS.board_topics)
    assert expected - 0.15 < found < expected + 0.1
    assert share_of_boards(PINS, "style", PINS.board_styles) > 0.75
    uses = PINS.board_topics % 5
    assert share_of_boards(PINS, "use", uses) > found + 0.9 * 0.15 * 0.5
    sizes = np.bincount(PINS.data.interactions.user_rows, minlength=300)
    assert 12 < sizes.mean() < 20
    degrees = np.sort(np.bincount(PINS.data.interactions.item_rows, minlength=1500))
    # A tenth of the ranks of exponent 0.6 carries about 0.1 ** 0.4 of the draws.
    assert 0.25 < degrees[-150:].sum() / degrees.sum() < 0.5


def test_popularity_is_that_of_the_draws():
    ranks = np.arange(1, 1501.0)
    np.testing.assert_allclose(np.sort(PINS.popularity), np.sort(ranks**-0.6))
    degrees = np.bincount(PINS.data.interactions.item_rows, minlength=1500)
    order = np.argsort(-PINS.popularity)
    tenths = degrees[order].reshape(10, 150).mean(axis=1)
    assert (np.diff(tenths[:5]) < 0).all()
    assert tenths[0] > 3 * tenths[-1]


@pytest.mark.parametrize("source", ["visual_signal", "text_signal", "graph_signal"])
def test_without_signal_a_source_is_noise_and_the_others_stay(source):
    pins = generate_pins(dataclasses.replace(CONFIG, **{source: 0.0}), seed=1)
    kept = {
        "visual_signal": (columns(pins)["visual"].values == columns(PINS)["visual"].values).all(),
        "text_signal": columns(pins)["words"].values == columns(PINS)["words"].values,
        "graph_signal": np.array_equal(
            pins.data.interactions.pair_keys, PINS.data.interactions.pair_keys
        ),
    }
    assert kept == {name: name != source for name in kept}
    bound = 4 * np.sqrt(0.25 / 1500)
    if source == "visual_signal":
        centres = nearest(columns(pins)["visual"].values, pins.look_vectors)
        assert abs((centres == LABELS["look"]).mean() - 1 / 4) < bound
    elif source == "text_signal":
        topical = set(written_words(5)[: 5 * 18].to_list())
        assert not any(topical & set(text.split()) for text in columns(pins)["words"].values)
    else:
        by_chance = (LABELS["topic"][:, None] == pins.board_topics[None]).mean()
        assert abs(share_of_boards(pins, "topic", pins.board_topics) - by_chance) < 0.03


def test_full_signal_is_without_noise():
    pins = generate_pins(dataclasses.replace(CONFIG, visual_signal=1.0, text_signal=1.0), seed=1)
    np.testing.assert_array_equal(columns(pins)["visual"].values, pins.look_vectors[LABELS["look"]])
    assert (guessed_looks(pins) == LABELS["look"]).all()


def test_words_are_shared_by_neighbouring_uses_alone():
    table = topical_words(4)
    assert table.shape == (4, 24)
    shared = [[len(set(one) & set(other)) for other in table] for one in table.tolist()]
    assert shared == [[24, 6, 0, 6], [6, 24, 6, 0], [0, 6, 24, 6], [6, 0, 6, 24]]
    words = written_words(4)
    assert words.n_unique() == len(words)


def test_the_number_of_topics_grows_with_the_world():
    small, large = PinWorld(items=2_000), PinWorld(items=1_000_000)
    for config in (small, PinWorld(), large):
        cells = config.num_looks * config.num_uses * config.styles
        assert 25 < config.items / cells < 100
    assert (PinWorld().num_boards, small.num_looks, large.num_looks) == (4000, 3, 71)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("items", 1, "items: expected an integer of 2 to"),
        ("items", 10.5, "items: expected an integer"),
        ("boards", 0, "boards: expected an integer of 1 to"),
        ("styles", 0, "styles: expected an integer of 1 to"),
        ("visual_signal", 1.5, "visual_signal: expected 0.0 to 1.0, got 1.5"),
        ("graph_signal", float("nan"), "graph_signal: expected 0.0 to 1.0, got nan"),
        ("related_share", 0.4, r"related_share: expected 0.0 to 1.0, got 1.1"),
    ],
)
def test_a_world_outside_its_range_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        PinWorld(**{field: value})


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed: expected an integer of 0"):
        generate_pins(CONFIG, seed=-1)


def test_the_smallest_world():
    pins = generate_pins(PinWorld(items=2, boards=1, looks=1, uses=1, styles=1))
    assert len(pins.data.interactions) >= 1

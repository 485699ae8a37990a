import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.negatives.curriculum import active_hard


def schedule(name, cap, epochs, upto=None):
    return [active_hard(name, epoch, cap, epochs) for epoch in range(1, (upto or epochs) + 1)]


def test_the_paper_adds_one_an_epoch():
    assert schedule("paper", cap=3, epochs=6) == [0, 1, 2, 3, 3, 3]


def test_none_and_all_do_not_move():
    assert schedule("none", cap=3, epochs=4) == [0, 0, 0, 0]
    assert schedule("all", cap=3, epochs=4) == [3, 3, 3, 3]


def test_linear_reaches_the_cap_in_the_last_epoch_and_keeps_it():
    # 6 · (epoch − 1) / 4 = 0, 1.5, 3, 4.5, 6, halves rounded up.
    assert schedule("linear", cap=6, epochs=5, upto=7) == [0, 2, 3, 5, 6, 6, 6]
    # 2 · (epoch − 1) / 5 = 0, 0.4, 0.8, 1.2, 1.6, 2.
    assert schedule("linear", cap=2, epochs=6) == [0, 0, 1, 1, 2, 2]
    assert schedule("linear", cap=4, epochs=1) == [4]


@pytest.mark.parametrize("name", ["paper", "none", "all", "linear"])
def test_no_cap_no_hard_negatives(name):
    assert schedule(name, cap=0, epochs=3) == [0, 0, 0]


def test_errors_name_the_field():
    with pytest.raises(InputError, match=r"curriculum: expected one of .*paper.*got 'steep'"):
        active_hard("steep", 1, 2, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="epoch: expected 1 or more, got 0"):
        active_hard("paper", 0, 2, 3)
    with pytest.raises(InputError, match="cap: expected 0 or more, got -1"):
        active_hard("paper", 1, -1, 3)
    with pytest.raises(InputError, match="epochs: expected 1 or more, got 0"):
        active_hard("linear", 1, 2, 0)

"""Cut-offs that nobody gave fit a small catalogue; those that were given are never changed."""

import pytest

from lightgcn_jax.data import Interactions, leave_k_out_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import SilentReporter, fit
from lightgcn_jax.settings import ClosedFormConfig, Selection, TrainConfig, from_flat
from lightgcn_jax.settings.config import check_ks, with_fitting_ks


@pytest.mark.parametrize(
    ("items", "kept"),
    [(50, (10, 20, 50)), (49, (10, 20)), (10, (10,)), (9, (4,)), (5, (2,)), (1, (1,))],
)
def test_cutoffs_beyond_the_catalogue_are_left_out(items, kept):
    for config in (TrainConfig(), ClosedFormConfig()):
        fitting, note = with_fitting_ks(config, items)
        assert fitting.ks == kept
        assert (note is None) == (kept == config.ks)
        check_ks(fitting, items)
    if items < 10:
        assert note == (
            f"ks: the catalogue has {items} items, so of the default cut-offs 10, 20, 50 are left "
            f"out; {kept[0]} takes their place"
        )


def test_the_epoch_is_chosen_by_a_cutoff_that_is_left():
    config = TrainConfig(selection=Selection("ndcg@50"))
    assert with_fitting_ks(config, 30)[0].metric == "ndcg@20"
    assert with_fitting_ks(TrainConfig(), 12)[0].metric == "recall@10"


def test_a_fit_leaves_them_out_with_a_note_unless_they_were_given():
    class Listening(SilentReporter):
        def __init__(self):
            self.heard = []

        def noted(self, message):
            self.heard.append(message)

    data = Interactions.from_arrays([user for user in range(9) for _ in range(4)], [*range(12)] * 3)
    split, listening = leave_k_out_split(data), Listening()
    result = fit(split, from_flat({"model": "popular"}), reporter=listening)
    assert result.config.ks == (10,)
    assert set(result.summary["test"]) >= {"recall@10"}
    assert "the catalogue has 12 items, so of the default cut-offs 20, 50" in listening.heard[0]
    with pytest.raises(InputError, match=r"ks: expected cut-offs of at most 12 .* got 13"):
        fit(split, from_flat({"model": "popular", "ks": (5, 13)}))

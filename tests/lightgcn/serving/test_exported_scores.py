"""What is exported gives the recommendations by inner products alone, or export refuses."""

import dataclasses
from types import SimpleNamespace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.evaluation.scorer import Embedded
from lightgcn_jax.models import ClosedForm
from lightgcn_jax.runs.scorers import make_scorer
from lightgcn_jax.serving import Recommender, export
from lightgcn_jax.serving.export import is_exportable
from lightgcn_jax.settings.registry import CHOICES, MODELS
from tests.lightgcn.trained import PAIRS, random_params
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

SMALL = {"dim": 4, "layers": 1, "singular_vectors": 3, "low_pass_rank": 3}
SCORES = {"offset": CHOICES["score"]["cosine"](popularity_offset=0.7)} | {
    name: made() for name, made in CHOICES["score"].items()
}
IDS = IdMap(pl.int_range(NUM_USERS, eager=True)), IdMap(pl.int_range(NUM_ITEMS, eager=True) * 10)


def small(made):
    names = {field.name for field in dataclasses.fields(made)}
    changes = {"biases": True} | SMALL
    return made(**{name: value for name, value in changes.items() if name in names})


def recommender_of(name, score=None) -> Recommender:
    """A model with parameters of any size, as it ranks after training."""
    model, graph = small(MODELS[name]), graph_of(*PAIRS)
    if isinstance(model, ClosedForm):
        scorer = model.fit(graph, jax.random.key(0))
    else:
        params = jax.tree.map(jnp.float32, random_params(model))
        inputs = SimpleNamespace(
            layout=None,
            operator=model.operator_of(graph),
            graph=graph,
            offsets=jnp.log1p(graph.users_of_item.lengths()) if score.offset_columns else None,
        )
        head = score.init(jax.random.key(1), model.width)
        strategies = SimpleNamespace(model=model, score=score)
        scorer = make_scorer(SimpleNamespace(model=params, head=head), inputs, strategies)
    return Recommender(*IDS, scorer, graph.items_of_user, name)


CASES = [
    (name, score)
    for name, made in MODELS.items()
    for score in ([None] if issubclass(made, ClosedForm) else SCORES)
]
REFUSED = {"filter", "gfcf", "itemcf", "popular", "random", "mlp"}


@pytest.mark.parametrize(("name", "score"), CASES)
def test_an_export_says_all_or_is_refused(name, score, tmp_path):
    recommender = recommender_of(name, SCORES.get(score))
    target = tmp_path / "vectors.npz"
    if {name, score} & REFUSED:
        assert not is_exportable(recommender.scorer)
        with pytest.raises(InputError, match="export: expected a model whose scores are inner"):
            export(recommender, target)
        assert not list(tmp_path.iterdir())
        return
    with np.load(export(recommender, target)) as stored:
        users, items = stored["users"], stored["items"]
        scores = dict(zip(stored["user_ids"].tolist(), users @ items.T, strict=True))
        rows = {identifier: row for row, identifier in enumerate(stored["item_ids"].tolist())}
    # Whoever is in training; of others there is nothing to say.
    everybody = [user for user in scores if user in PAIRS[0]]
    assert len(everybody) > 3
    for user, ranked in zip(everybody, recommender.recommend(everybody, 5, False), strict=True):
        own = scores[user]
        np.testing.assert_allclose(ranked.scores, np.sort(own)[::-1][:5], rtol=1e-5, atol=1e-6)
        found = own[[rows[identifier] for identifier in ranked.ids]]
        np.testing.assert_allclose(found, ranked.scores, rtol=1e-5, atol=1e-6)


def test_a_refusal_says_what_can_be_done_instead(tmp_path):
    for name in ("gfcf", "filter", "itemcf", "popular"):
        recommender = recommender_of(name)
        with pytest.raises(InputError) as caught:
            export(recommender, tmp_path / "e.npz")
        assert f"got {name}, whose scores are no such products" in str(caught.value)
        assert "recommend answers from the run itself" in str(caught.value)
        assert ("item_embeddings" in str(caught.value)) == isinstance(recommender.scorer, Embedded)


def test_a_scorer_of_one_s_own_is_not_taken_for_inner_products(tmp_path):
    @flax.struct.dataclass
    class Squared(InnerProduct):
        def scores(self, rows):
            return super().scores(rows) ** 2

    vectors = np.ones((NUM_USERS, 2), np.float32), np.ones((NUM_ITEMS, 2), np.float32)
    own = Recommender(*IDS, Squared(*vectors), graph_of(*PAIRS).items_of_user)
    with pytest.raises(InputError, match="got a model of your own, whose scores are no such"):
        export(own, tmp_path / "e.npz")

"""The first lines that people type: each works, or ends in one sentence that says what to type."""

import warnings

import numpy as np
import optax
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

import lightgcn_jax
from lightgcn_jax import Interactions, ratio_split
from lightgcn_jax.errors import InputError

USERS = [f"C{n % 8}" for n in range(64)]
ITEMS = [f"SKU-{(n % 8 % 2) * 5 + n // 8 % 5}" for n in range(64)]
# One program for all lines that train.
SMALL = "dim=4, layers=1, epochs=1, batch_size=32, negatives=4, ks=(2,), verbose=False"


def hinge(positive, negatives, valid):
    """A loss of somebody's own."""
    return (valid * (1 + negatives - positive)).sum()


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What stands at a person's prompt."""
    folder = tmp_path_factory.mktemp("prompt")
    df = pd.DataFrame({"customer_id": USERS, "product_id": ITEMS, "stars": [4, 5, 1, 3] * 16})
    df.to_csv(folder / "log.csv", index=False)
    interactions = Interactions.from_arrays(USERS, ITEMS)
    model = lightgcn_jax.ItemCosine(verbose=False).fit(df)
    model.save(str(folder / "saved"))
    return vars(lightgcn_jax.estimators) | {
        "lightgcn_jax": lightgcn_jax,
        "df": df,
        "folder": str(folder),
        "hinge": hinge,
        "interactions": interactions,
        "matrix": scipy.sparse.coo_array(np.eye(6, dtype=bool)),
        "model": model,
        "np": np,
        "odd": df.rename(columns={"customer_id": "who", "product_id": "what"}),
        "optax": optax,
        "pairs": np.array([[n % 8, n % 5] for n in range(40)]),
        "pl": pl,
        "polars_df": pl.DataFrame(df.to_dict("list")),
        "split": ratio_split(interactions),
        "ITEMS": ITEMS,
        "USERS": USERS,
    }


WORK = [
    'Popular(verbose=False).fit(df, user="customer_id", item="product_id")',
    "Popular(verbose=False).fit(df)",
    "Popular(verbose=False).fit(polars_df)",
    "Popular(verbose=False).fit(polars_df.lazy())",
    "Popular(verbose=False).fit(polars_df.to_dict(as_series=False))",
    "Popular(verbose=False).fit(matrix)",
    "Popular(verbose=False).fit(matrix.tocsr())",
    "Popular(verbose=False).fit(USERS, ITEMS)",
    "Popular(verbose=False).fit(list(zip(USERS, ITEMS)))",
    "Popular(verbose=False).fit(pairs)",
    "Popular(verbose=False).fit(folder + '/log.csv')",
    "Popular(verbose=False).fit(interactions)",
    "Popular(verbose=False).fit(split).evaluate(k=2)",
    "Popular(verbose=False).fit(odd[['who', 'what']])",
    "Popular(verbose=False).fit(df, min_rating=4, rating='stars')",
    "Popular(verbose=False).fit(df.set_index('customer_id')).recommend('C1', 2)",
    f"LightGCN({SMALL}).fit(df).recommend('C1', k=2)",
    f"LightGCN({SMALL}).fit(split, on_epoch=dict)",
    f"LightGCN({SMALL}, loss=hinge, optimizer=optax.adam(0.1)).fit(split)",
    f"LightGCN({SMALL}, loss='softmax', temperature=0.2).config.loss",
    "lightgcn_jax.TrainConfig(model=MF(dim=8)).model.dim",
    "Filter(low_pass_rank=2, verbose=False)",
    "model.recommend('C1', k=2)",
    "model.recommend(['C1', 'C2'], k=2, as_frame=True)",
    "model.recommend(k=2, as_frame='polars')",
    "model.recommend('C1', k=2, exclude=['SKU-1'], among=['SKU-1', 'SKU-2', 'SKU-3'])",
    "model.recommend('C1', k=2, exclude='SKU-1', exclude_seen=False)",
    "model.recommend_for(items=['SKU-1', 'SKU-9'], k=2)",
    "model.similar_items('SKU-1', k=2)",
    "model.score('C1', 'SKU-1')",
    "model.score('C1', ['SKU-1', 'SKU-2'])",
    "model.recommend('C1', k=2, among=model.item_set(np.array(ITEMS)))",
    "model.recommend('C1', k=2, exclude=df.product_id.head(2))",
    "ItemCosine.load(folder + '/saved').recommend('C1', k=2)",
    "Estimator.load(folder + '/saved')",
    "model.result.summary",
]
SENTENCES = {
    "LightGCN(64)": r"settings are given by name, LightGCN\(dim=64\)",
    "LightGCN(factors=64)": r"factors: LightGCN has no such setting; did you mean dim=\?",
    "LightGCN(learning_rat=1e-3)": r"did you mean learning_rate=\?",
    "LightGCN(user='customer_id')": r"user: goes to fit, LightGCN\(…\)\.fit\(…, user=…\)",
    "LightGCN(preset='quick')": "preset: expected one of default, paper, fast",
    "LightGCN(loss='bprr')": "loss: expected one of",
    "Popular(dim=8)": "dim: ",
    "Popular(optimizer=optax.sgd(1.0))": "optimizer: Popular is fitted in one go",
    "LightGCN().recommend('C1')": r"LightGCN is not fitted yet: call fit\(data\)",
    "LightGCN().fit(odd)": r"user: which column holds the users\? name it",
    "LightGCN().fit(df, user='customer')": "user='customer': no such column; the columns are",
    "LightGCN().fit('nowhere.csv')": "nowhere.csv: no such file or folder, and no data set",
    "LightGCN().fit('ml-100')": "did you mean the data set 'ml-100k'",
    "LightGCN().fit(np.eye(9))": r"as fit\(scipy.sparse.coo_array\(it\)\)",
    "LightGCN().fit(None)": "expected a frame",
    "LightGCN().fit(split, user='u')": "user: names a column of a table, but a Split came",
    "LightGCN(protocol='legacy').fit(df)": r"it takes a Split: fit\(ratio_split",
    "LightGCN.load(folder)": "expected a run directory",
    "LightGCN.load(folder + '/saved')": r"holds a run of itemcf, not of lightgcn; Estimator.load",
    "model.save(folder)": "already exists|holds|not empty|taken",
    "model.recommend('C99', fallback=None)": "user: nothing is known of 'C99'",
    "model.recommend('C1', n=5)": r"n: recommend has no such argument; did you mean k=\?",
    "model.recommend('C1', exclud=['SKU-1'])": r"did you mean exclude=\?",
    "model.recommend_for(['SKU-1'], why=1)": "why: recommend_for has no such argument; it has",
    "Popular().fit(df, user_column='customer_id')": r"did you mean user=\?",
    "Popular().fit(df, callbacks=print)": r"did you mean on_epoch=\?",
    "Popular().fit(df, 'customer_id', 'product_id')": "fit: takes by place no more than data",
    "Popular().fit(df, 'customer_id')": r"named, fit\(df, user=…, item='customer_id'\)",
    "model.score('C1', 'SKU-1', 20)": "score: takes by place no more than users, items$",
    "Popular().fit(df, epochs=3)": "epochs: fit has no such argument; it is a setting, which the",
    "model.recommend('C1', exclude=['SKU-99'])": "exclude: unknown item ids: 'SKU-99'",
    "model.similar_items('SKU-99')": "unknown id 'SKU-99'",
    "model.score('C1', 'SKU-99')": "item: unknown id 'SKU-99'; known ids look like 'SKU-",
    "model.evaluate()": r"fitted on everything, so nothing was held out; pass test data",
    "model.evaluate(df)": "training does not hold, got none",
    "model.item_embeddings": "embeddings: expected a model that has them",
    "lightgcn_jax.fit(interactions, model=LightGCN())": r"expected a Split, ratio_split\(inter",
    "lightgcn_jax.fit(split, model=LightGCN(epochs=2))": "epochs: is no setting of the model",
    "Popular(verbose=False).fit(df).recommend_for(['SKU-1'])": "expected a model with vectors",
}


@pytest.mark.parametrize("line", WORK)
def test_it_works(line, names, capsys):
    assert eval(line, dict(names)) is not None
    assert not capsys.readouterr().err


@pytest.mark.parametrize("line", SENTENCES)
def test_it_says_in_a_sentence_what_to_type(line, names):
    with pytest.raises(InputError, match=SENTENCES[line]) as caught:
        eval(line, dict(names))
    message = str(caught.value)
    assert len(message) < 400
    assert "\n" not in message


def test_nothing_prints_its_arrays(names):
    for thing in ("model", "interactions", "split"):
        shown = repr(names[thing])
        assert len(shown.splitlines()) == 3, shown
        assert len(shown) < 400
        assert names[thing]._repr_html_().startswith("<table>")
    for thing in (names["model"].result, names["model"].recommender):
        assert len(repr(thing).splitlines()) == 3
        assert len(repr(thing)) < 400


def test_progress_is_shown_unless_told_not_to(names, capsys):
    names["Popular"]().fit(names["df"])
    assert "columns: user='customer_id', item='product_id'" in capsys.readouterr().err


def test_who_is_unknown_gets_what_is_popular(names):
    with pytest.warns(UserWarning, match="nothing is known of the users 'C99': popular items"):
        found = names["model"].recommend("C99", k=3)
    counts = pd.Series(list(dict.fromkeys(zip(USERS, ITEMS, strict=True)))).str[1].value_counts()
    assert list(found.scores) == sorted(counts, reverse=True)[:3]
    with pytest.warns(UserWarning, match="no items are"):
        assert names["model"].recommend(["C99"], fallback=None) == [None]


@pytest.mark.parametrize(
    "asked", [{"users": "C99"}, {"k": 99}, {"exclude": {"C99": ["SKU-1"], "C1": ["SKU-2"]}}]
)
def test_warnings_name_the_line_that_asked(names, asked):
    with pytest.warns(UserWarning, match="nothing is known|were asked for|left out") as caught:
        names["model"].recommend(**{"users": ["C1"]} | asked)
    assert {one.filename for one in caught} == {__file__}


def test_a_run_of_any_model_says_which(names):
    loaded = names["Estimator"].load(names["folder"] + "/saved")
    assert repr(loaded).startswith("Estimator(itemcf")


def test_warnings_are_none_of_the_ordinary(names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names["model"].recommend(["C1"], k=2)

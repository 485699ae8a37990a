"""Items written out and read: templates, TF-IDF and a BERT against their formulas, and ranking."""

import json
import math

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import scipy.special

from lightgcn_jax.data import IdMap, Pairs, Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import rank
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.language import HashedTfIdf, MeanOfItems, MiniLM, written_out
from lightgcn_jax.language.minilm import Shape, encoded
from lightgcn_jax.language.words import hashed_bags
from lightgcn_jax.serving.reading import reading_recommender


def test_what_is_not_known_of_an_item_is_not_written():
    columns = {
        "tags": [["fun", "pixar"], [], None],
        "title": ["Toy Story ", None, "Heat"],
        "year": [1995.0, float("nan"), 1995],
        "unused": [1, 2, 3],
    }
    assert written_out(columns) == [
        "Toy Story. From 1995. Tags: fun, pixar",
        "",
        "Heat. From 1995",
    ]
    assert written_out(columns, {"year": "({})"}) == ["(1995)", "", "(1995)"]
    with pytest.raises(InputError, match="expected one of title"):
        written_out({"unused": [1]})
    with pytest.raises(InputError, match="as many values"):
        written_out({"title": ["a"], "tags": []})


def test_tf_idf_by_hand():
    texts = ["red red car", "red house", "…", "house by the sea"]
    encoder = HashedTfIdf(buckets=64, max_words=3)
    bags = [[b for b in row if b >= 0] for row in hashed_bags(texts, buckets=64, max_words=3)]
    expected = np.zeros((4, 64))
    for row, bag in enumerate(bags):
        for place in set(bag):
            having = sum(place in other for other in bags)
            weight = math.log(5 / (1 + having))
            expected[row, place] = (1 + math.log(bag.count(place))) * weight
        length = np.linalg.norm(expected[row])
        expected[row] /= length or 1
    found = encoder(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found[2] == 0).all()


def random_bert(dim=8, heads=2, layers=2, wide=12, vocabulary=11, longest=16):
    """Weights by the names of a hub, and the configuration that goes with them."""
    rng = np.random.default_rng(0)
    config = {
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": wide,
        "vocab_size": vocabulary,
        "max_position_embeddings": longest,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    shapes = {
        "embeddings.word_embeddings": (vocabulary, dim),
        "embeddings.position_embeddings": (longest, dim),
        "embeddings.token_type_embeddings": (2, dim),
        "embeddings.LayerNorm": (dim,),
    }
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes[f"{name}.attention.self.{part}"] = (dim, dim)
        shapes[f"{name}.attention.output.dense"] = (dim, dim)
        shapes[f"{name}.intermediate.dense"] = (wide, dim)
        shapes[f"{name}.output.dense"] = (dim, wide)
        shapes[f"{name}.attention.output.LayerNorm"] = (dim,)
        shapes[f"{name}.output.LayerNorm"] = (dim,)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        if not name.endswith("_embeddings"):
            weights[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    return config, weights


def dense_bert(weights, config, tokens):
    """One text in float64, head by head, without padding (Devlin et al. 2019)."""
    weights = {name: one.astype(float) for name, one in weights.items()}

    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(name, x):
        x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    words, places, kinds = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    x = normed("embeddings.LayerNorm", words[tokens] + places[: len(tokens)] + kinds[0])
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        q, k, v = (dense(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        mixed = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            logits = q[:, own] @ k[:, own].T / math.sqrt(width)
            mixed.append(scipy.special.softmax(logits, axis=1) @ v[:, own])
        mixed = dense(f"{name}.attention.output.dense", np.concatenate(mixed, axis=1))
        x = normed(f"{name}.attention.output.LayerNorm", x + mixed)
        wide = dense(f"{name}.intermediate.dense", x)
        wide = wide * (1 + scipy.special.erf(wide / math.sqrt(2))) / 2
        x = normed(f"{name}.output.LayerNorm", x + dense(f"{name}.output.dense", wide))
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_bert_against_a_dense_one_and_padding_counts_for_nothing():
    config, weights = random_bert()
    texts = [[1, 4, 2, 9], [3], [5, 5, 10, 0, 7, 6]]
    tokens, inside = np.full((3, 8), 8, np.int32), np.zeros((3, 8), bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text)], inside[row, : len(text)] = text, True
    shape = Shape(config["num_hidden_layers"], config["num_attention_heads"], 1e-12)
    found = encoded({k: jnp.asarray(v) for k, v in weights.items()}, tokens, inside, shape=shape)
    expected = [dense_bert(weights, config, text) for text in texts]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.fixture
def folder(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers, of the extra text")
    config, weights = random_bert()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "car", "house", "the", "a", "sea"]
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    tokenizer.enable_padding(length=12)  # as the published file pads
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


def test_a_folder_reads_texts_of_any_length_in_any_order(folder):
    config, weights = random_bert()
    encoder = MiniLM(folder)
    long = " ".join(["sea"] * 40)
    found = encoder(["the red car", long, "zebra"])
    tokens = [[2, 8, 4, 6, 3], [2, *[10] * 14, 3], [2, 1, 3]]
    expected = [dense_bert(weights, config, one) for one in tokens]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_damaged_folder_is_refused_by_name(folder):
    config, weights = random_bert()
    path = folder / "config.json"
    path.write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(InputError, match=r"config.json: hidden_act: expected"):
        MiniLM(folder)
    path.write_text(json.dumps(config | {"num_attention_heads": 3}))
    with pytest.raises(InputError, match="3 heads to divide 8"):
        MiniLM(folder)
    path.write_text(json.dumps(config))
    name = "encoder.layer.1.output.dense.bias"
    for change, said in (
        ({}, f"expected the tensor {name}"),
        ({name: np.zeros(3, np.float32)}, name),
        ({name: np.full(8, np.nan, np.float32)}, name),
    ):
        kept = {key: one for key, one in weights.items() if key != name} | change
        safetensors.numpy.save_file(kept, folder / "model.safetensors")
        with pytest.raises(InputError, match=said):
            MiniLM(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="expected the weights of a BERT"):
        MiniLM(folder)


def world():
    users, items = (IdMap(pl.Series([f"{kind}{n}" for n in range(4)])) for kind in "ui")
    train = Pairs.from_rows(np.array([0, 0, 1, 2]), np.array([0, 1, 2, 0]))
    empty = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    return Split(users, items, train, empty, empty, "made by hand")


def test_a_user_is_the_mean_of_what_they_took():
    split, rng = world(), np.random.default_rng(0)
    vectors = rng.normal(size=(4, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    recommender = reading_recommender(split, list("abcd"), lambda _: vectors)
    taste = unit[0] + unit[1]
    cosines = unit @ taste / np.linalg.norm(taste)
    found = recommender.recommend("u0", k=2)
    best = sorted([2, 3], key=lambda row: -cosines[row])
    assert found.ids == [f"i{row}" for row in best]
    np.testing.assert_allclose(found.scores, cosines[best], atol=1e-6)
    # Somebody new who took the same is recommended the same; an item that nobody took is known.
    again = recommender.recommend_from(["i0", "i1"], k=2)
    assert again.ids == found.ids
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-6)
    scorer = MeanOfItems.of(vectors, csr_rows(split.train.users, split.train.items, 4))
    assert (np.asarray(scorer.means)[3] == 0).all()
    assert rank(scorer, [1], 4).scores[0, 0] == pytest.approx(1)
    # Parts of a list add up to it where its length divides them.
    lists = [csr_rows([0, 1], [0, 1], 2), csr_rows([0, 0, 1, 1], [0, 1, 0, 1], 2)]
    parts = np.asarray(scorer.of_histories(lists[0], whole=lists[1]).means)
    np.testing.assert_allclose(parts.sum(axis=0), scorer.means[0], atol=1e-6)


def test_texts_that_are_empty_are_not_read():
    asked = []

    def encoder(texts):
        asked.extend(texts)
        return np.ones((len(texts), 2))

    found = reading_recommender(world(), ["a", "", " ", "d"], encoder)
    assert asked == ["a", "d"]
    assert (np.asarray(found.scorer.vectors)[[1, 2]] == 0).all()
    for texts, made, said in (
        (["a"], encoder, "expected 4, one for each item"),
        ([""] * 4, encoder, "at least one"),
        (list("abcd"), lambda _: np.ones((2, 2)), r"shape \[4, D\]"),
        (list("abcd"), lambda _: np.full((4, 2), np.nan), "finite"),
    ):
        with pytest.raises(InputError, match=said):
            reading_recommender(world(), texts, made)


def test_the_published_weights_know_what_is_alike():
    pytest.importorskip("tokenizers", reason="needs tokenizers, of the extra text")
    try:
        encoder = MiniLM()
    except InputError as error:
        pytest.skip(f"needs the weights: {error}")
    found = encoder(["A dog runs.", "A puppy is running.", "Quarterly tax report"])
    cosines = found @ found.T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    # By BertModel of transformers 4.57.6, mean pooling, on PyTorch 2.13.
    first = [0.0339136, 0.00376168, 0.0231214, 0.06638832, 0.0150117, 0.0147332]
    np.testing.assert_allclose(found[0, :6], first, atol=1e-5)
    assert cosines[0, 1] > 0.7
    assert abs(cosines[0, 2]) < 0.2

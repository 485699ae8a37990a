"""The softmax loss of a batch over negatives that it shares, and the order of an epoch.

The loss of 8,192 rows over 1,024 negatives, as ``--preset fast`` has it, and of 2,048 rows over as
many in 128 dimensions, each with its gradient by all vectors: by our kernel, by XLA's operations on
a table of scores, and by PyTorch, beside the three products alone. And as many numbers as Gowalla
has training interactions in a random order: ours, JAX's, which sorts, and PyTorch's.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.harness.report import Report, alternate, cores, note, ratio_claim, whole_number
from lightgcn_jax.models import unit_rows
from lightgcn_jax.training import Softmax
from lightgcn_jax.training.batch_terms import batch_mean, row_factors
from lightgcn_jax.training.shared_softmax import SharedProducts, shared_softmax
from lightgcn_jax.training.shuffle import random_order

_LOSS = Softmax(temperature=0.12)
_SHAPES = {"8,192 x 1,024, D = 64": (8192, 1024, 64), "2,048 x 2,048, D = 128": (2048, 2048, 128)}
_OURS, _TABLE, _TORCH, _PRODUCTS = "kernel", "XLA", "PyTorch", "three products alone"
# Gowalla's training interactions.
_INTERACTIONS = 810_128
_ORDER, _SORTED, _TORCH_ORDER = (f"order, {name}" for name in ("ours", "JAX's", "PyTorch's"))


class Vectors(NamedTuple):
    """Vectors of a batch, of length 1.

    Attributes:
        users: ``float32[B, D]``.
        positives: ``float32[B, D]``.
        negatives: ``float32[M, D]``.
    """

    users: Any
    positives: Any
    negatives: Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks batch_loss``.
    """
    parser.add_argument(
        "--rounds", type=whole_number, default=15, help="samples of each (default 15)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of each, and what is claimed of them.
    """
    torch.set_num_threads(cores())
    samples, claims = {}, []
    for title, shape in _SHAPES.items():
        note(title)
        named = {f"{title}: {name}": call for name, call in losses(*shape).items()}
        found = alternate(named, rounds=args.rounds)
        ours, table, peer, products = found.values()
        name = "loss_" + "_".join(map(str, shape))
        claims += [
            ratio_claim(f"{name}_vs_xla", table, ours, ">=", 1.0),
            ratio_claim(f"{name}_vs_torch", peer, ours, ">=", 1.5),
            ratio_claim(f"{name}_to_products", ours, products, "<=", 1.6),
        ]
        samples |= found
    note("an epoch's order")
    found = alternate(orders(_INTERACTIONS), rounds=args.rounds)
    claims += [
        ratio_claim("order_vs_sorting", found[_SORTED], found[_ORDER], ">=", 10.0),
        ratio_claim("order_vs_torch", found[_TORCH_ORDER], found[_ORDER], ">=", 1.0),
    ]
    return Report(
        name="batch_loss",
        settings={"loss": repr(_LOSS), "shapes": _SHAPES, "interactions": _INTERACTIONS},
        samples=samples | found,
        claims=claims,
        threads={"jax": cores(), "torch": torch.get_num_threads()},
    )


def losses(rows: int, shared: int, dim: int) -> dict[str, Callable[[], Any]]:
    """The loss and its gradients in several ways, and the products that they rest on.

    Args:
        rows: B.
        shared: M, negatives.
        dim: D.

    Returns:
        name -> a call that returns the loss and the gradients by :class:`Vectors`.
    """
    random = np.random.default_rng(0)
    sizes = (rows, rows, shared)
    vectors = Vectors(
        *(unit_rows(jnp.asarray(random.normal(size=(n, dim)), jnp.float32)) for n in sizes)
    )
    valid = random.random((rows, shared)) > 0.01

    def by_kernel(vectors: Vectors, valid: jax.Array) -> jax.Array:
        scores = (vectors.users * vectors.positives).sum(axis=1)
        products = SharedProducts(vectors.users, vectors.negatives, jnp.zeros(shared))
        factors = row_factors(valid, jnp.ones(rows))
        return shared_softmax(_LOSS, scores, products, valid, factors)

    def by_table(vectors: Vectors, valid: jax.Array) -> jax.Array:
        scores = (vectors.users * vectors.positives).sum(axis=1)
        others = vectors.users @ vectors.negatives.T
        return batch_mean(_LOSS, scores, others, valid, jnp.ones(rows))

    @jax.jit
    def products(vectors: Vectors) -> tuple[jax.Array, ...]:
        scores = vectors.users @ vectors.negatives.T
        return scores, scores @ vectors.negatives, scores.T @ vectors.users

    def ready(function: Callable, *given: Any) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(function(*given))

    with_gradient = (jax.jit(jax.value_and_grad(one)) for one in (by_kernel, by_table))
    ours, table = (ready(one, vectors, jnp.asarray(valid)) for one in with_gradient)
    leaves = Vectors(*(torch.from_numpy(np.array(one)).requires_grad_() for one in vectors))
    hidden = torch.from_numpy(~valid)
    peer = functools.partial(_by_torch, leaves, hidden, torch.zeros(rows, dtype=torch.long))
    return {_OURS: ours, _TABLE: table, _TORCH: peer, _PRODUCTS: ready(products, vectors)}


def _by_torch(leaves: Vectors, hidden: torch.Tensor, first: torch.Tensor) -> Any:
    """As sampled softmax is usually written: cross-entropy with the positive in front."""
    own = (leaves.users * leaves.positives).sum(dim=1, keepdim=True)
    others = (leaves.users @ leaves.negatives.T).masked_fill(hidden, -torch.inf)
    scores = torch.cat([own, others], dim=1) / _LOSS.temperature
    loss = torch.nn.functional.cross_entropy(scores, first)
    return loss.detach(), torch.autograd.grad(loss, tuple(leaves))


def orders(count: int) -> dict[str, Callable[[], Any]]:
    """Numbers below a bound in a random order, in several ways.

    Args:
        count: the bound.

    Returns:
        name -> a call that returns them.
    """
    key = jax.random.key(0)
    ours = jax.jit(random_order, static_argnums=1)
    by_sorting = jax.jit(jax.random.permutation, static_argnums=1)
    return {
        _ORDER: lambda: jax.block_until_ready(ours(key, count)),
        _SORTED: lambda: jax.block_until_ready(by_sorting(key, count)),
        _TORCH_ORDER: functools.partial(torch.randperm, count),
    }

"""Multi-scale diffusion: sum_k alpha_k Ã^k x, without ever forming a power of Ã."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lightgcn_jax.arrays import Array, Float, NodeTable
from lightgcn_jax.diffusion.application import multiply_add
from lightgcn_jax.diffusion.operator import ConstantOperator, Operator, check_square, diffuse
from lightgcn_jax.diffusion.storage import AccumulatingStorage, sum_dtype
from lightgcn_jax.errors import InputError

_CALLS_A_TURN = 8


def uniform_alphas(layers: int) -> tuple[float, ...]:
    """LightGCN's default layer weights, alpha_k = 1 / (K + 1) for k = 0 … K.

    Args:
        layers: K.

    Returns:
        K + 1 equal weights, whose sum is 1.
    """
    return (1.0 / (layers + 1),) * (layers + 1)


def multiscale(operator: Operator, x: NodeTable, alphas: ArrayLike | Sequence[float]) -> NodeTable:
    """sum_{k=0}^{K} alpha_k Ã^k x by K applications of Ã .

    Horner's scheme adds while it applies, so memory does not grow with K, nor does what the
    backward pass keeps: with g the cotangent, it runs the same sum sum_k alpha_k (Ãᵀ)^k g, and
    the derivative by alpha_k, ⟨g, Ã^k x⟩ = ⟨(Ãᵀ)^k g, x⟩, needs nothing but x.

    >>> import jax.numpy as jnp
    >>> from lightgcn_jax.diffusion import diffusion_operator
    >>> from lightgcn_jax.graph import BipartiteGraph
    >>> graph = BipartiteGraph.from_pairs([0], [0], num_users=1, num_items=1)
    >>> x = jnp.array([[1.0], [10.0]])  # the user's row and the item's, which Ã swaps
    >>> multiscale(diffusion_operator(graph), x, (0.5, 0.25, 0.25))  # x/2 + Ã x/4 + x/4
    Array([[3.25],
           [7.75]], dtype=float32)

    Args:
        operator: N×N.
        x: ``float[N, D]``, the layer-0 embeddings.
        alphas: ``float[K + 1]``; K = 0 scales x and applies nothing (matrix factorisation).

    Returns:
        ``float[N, D]`` in the type of x. Where x is bfloat16, each application sums in float32 and
        is rounded once.

    Raises:
        InputError: the operator is not square, x does not fit it, or alphas are no K + 1 numbers.

    References:
        He et al. 2020, LightGCN, equations 4 and 8.
    """
    x = jnp.asarray(x)
    return _multiscale(operator, x, layer_weights(operator, x, alphas))


def layer_weights(operator: Operator, x: NodeTable, alphas: ArrayLike | Sequence[float]) -> Array:
    """alpha_0 … alpha_K as an array in the type that sums run in.

    Args:
        operator: checked to be square.
        x: the table, checked to fit; its type decides.
        alphas: ``float[K + 1]``.

    Returns:
        ``float[K + 1]``.

    Raises:
        InputError: the operator is not square, x does not fit it, or alphas are no K + 1 numbers.
    """
    check_square(operator, x)
    weights = jnp.asarray(alphas, sum_dtype(x.dtype))
    if weights.ndim != 1 or not weights.size:
        raise InputError(f"alphas: expected K + 1 weights, got shape {weights.shape}")
    return weights


def applications_a_turn(operator: Operator, applications: int) -> int:
    """How many applications stand in the body of a loop over them.

    One in general: XLA then reuses one set of buffers, and compiles the body once. An application
    that is one call gives its result in a buffer of its own, which a loop of one would copy.

    Args:
        operator: what is applied.
        applications: how many in all.

    Returns:
        At least 1, for ``unroll`` of :func:`jax.lax.scan`.
    """
    in_one_call = isinstance(operator.storage, AccumulatingStorage)
    return max(1, min(applications, _CALLS_A_TURN)) if in_one_call else 1


@jax.custom_vjp
def _multiscale(operator: Operator, x: NodeTable, alphas: Float[Array, " scales"]) -> NodeTable:
    if len(alphas) == 1:
        return (alphas[0] * x).astype(x.dtype)

    # Horner's scheme, alpha_0 x + Ã(alpha_1 x + Ã(… + alpha_K Ã x)): one pass an application.
    def step(total, factors):
        scale, alpha = factors
        return multiply_add(operator.storage, total, x, scale, alpha), None

    scales = jnp.append(jnp.ones_like(alphas[2:]), alphas[-1])
    unroll = applications_a_turn(operator, len(scales))
    return jax.lax.scan(step, x, (scales, alphas[:-1]), reverse=True, unroll=unroll)[0]


def _forward(operator, x, alphas):
    constant = ConstantOperator.of(operator)
    y = _multiscale(constant.operator, x.value, alphas.value)
    # The gradient of alphas reads x.
    return y, (constant, x.value if alphas.perturbed else None, alphas.value)


def _backward(residual, cotangent):
    constant, x, alphas = residual
    operator = constant.transpose()
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None
    if x is None:
        return None, _multiscale(operator, cotangent, alphas), None

    def step(carried, alpha):
        power, total = carried
        power = diffuse(operator, power)
        return (power, total + alpha * power), _inner_product(power, x)

    start = (cotangent, alphas[0] * cotangent)
    (_, total), by_alpha = jax.lax.scan(step, start, alphas[1:])
    by_alpha = jnp.append(_inner_product(cotangent, x), by_alpha)
    return None, total.astype(x.dtype), by_alpha


def _inner_product(a: NodeTable, b: NodeTable) -> Float[Array, ""]:
    kind = sum_dtype(a.dtype)
    return (a.astype(kind) * b.astype(kind)).sum()


_multiscale.defvjp(_forward, _backward, symbolic_zeros=True)


@jax.custom_vjp
def diffuse_beside(operator: Operator, x: NodeTable) -> tuple[NodeTable, NodeTable]:
    """M x and x, for a function of both: one pass applies Mᵀ and adds up the gradient of x.

    Args:
        operator: R×C, from :func:`diffusion_operator` and its like.
        x: ``float[C, D]``, one row a node.

    Returns:
        ``float[R, D]`` and ``float[C, D]`` in the type of x.

    Raises:
        InputError: x is no table of floating-point numbers with C rows.
        TypeError: a gradient with respect to the operator was asked for.
    """
    return diffuse(operator, x), x


def _beside_forward(operator, x):
    constant = ConstantOperator.of(operator)
    return (diffuse(constant.operator, x.value), x.value), constant


def _beside_backward(constant, cotangents):
    adjoint = constant.transpose()
    absent = [isinstance(one, jax.custom_derivatives.SymbolicZero) for one in cotangents]
    by_product, by_own = cotangents
    if absent[0]:
        return None, None if absent[1] else by_own
    if absent[1]:
        return None, diffuse(adjoint, by_product)
    return None, multiply_add(adjoint.storage, by_product, by_own, 1.0, 1.0)


diffuse_beside.defvjp(_beside_forward, _beside_backward, symbolic_zeros=True)

"""Graph filters h(Ã) x: functions of the operator's spectrum, by repeated application.

An eigenvalue λ of Ã near 1 belongs to a signal that neighbours share, one near −1 to a signal that
alternates between them. With ``symmetric`` normalisation the eigenvectors are orthonormal and the
error bounds below hold in the Euclidean norm of each column of x, in exact arithmetic. ``row`` and
``column`` have the same eigenvalues, all in [−1, 1]; there the bounds are those of Ã's filter in
the norm that degrees weigh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.typing import ArrayLike

from lightgcn_jax.arrays import Array, Float, NodeTable
from lightgcn_jax.diffusion.operator import Operator, check_square, diffuse
from lightgcn_jax.diffusion.spectral import Svd
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.errors import InputError

# Steps of a recurrence in one body of its loop. A loop copies the tables that it hands on: degree 7
# on Gowalla takes a sixth less time, and two tables fewer, without one.
_STEPS_AT_ONCE = 8


def chebyshev_coefficients(function: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """The polynomial of a degree that agrees with a function at the Chebyshev points of [−1, 1].

    Args:
        function: h, from ``float64[n]`` to ``float64[n]``.
        degree: K.

    Returns:
        ``float64[K + 1]``, c_0 … c_K, of the polynomial p = Σ_k c_k T_k.

    Raises:
        InputError: the degree is negative, or h is not finite at a point.
    """
    if degree < 0:
        raise InputError(f"degree: expected 0 or more, got {degree}")
    # NumPy's stub takes only functions of one number.
    coefficients = np.polynomial.chebyshev.chebinterpolate(cast(Any, function), degree)
    if not np.isfinite(coefficients).all():
        raise InputError("function: expected finite values on [-1, 1], got others")
    return coefficients


def chebyshev_filter(operator: Operator, x: NodeTable, coefficients: ArrayLike) -> NodeTable:
    """p(Ã) x = Σ_k c_k T_k(Ã) x by K applications (Hammond et al. 2011, section 6).

    Clenshaw's recurrence b_k = c_k x + 2Ã b_{k+1} − b_{k+2} in one loop: four tables at a time,
    forward and backward, whatever K. Where p stands for another function h, the result is off by at
    most max |h − p| over [−1, 1] times the norm of x.

    Args:
        operator: N×N with real eigenvalues in [−1, 1].
        x: ``float[N, D]``.
        coefficients: ``float[K + 1]``, from :func:`chebyshev_coefficients`, for instance. Asking
            for their gradient is exact and keeps K tables.

    Returns:
        ``float[N, D]``.

    Raises:
        InputError: the operator is not square, x does not fit it, or there is no coefficient.
    """
    x = jnp.asarray(x)
    check_square(operator, x)
    coefficients = jnp.asarray(coefficients, x.dtype)
    if coefficients.ndim != 1 or not len(coefficients):
        raise InputError(
            f"coefficients: expected a vector of at least one, got shape {coefficients.shape}"
        )
    return chebyshev_sum(lambda y: diffuse(operator, y), coefficients, lambda c: c * x)


def chebyshev_sum(
    apply: Callable[[NodeTable], NodeTable],
    coefficients: Float[Array, "terms ..."],
    term: Callable[[Float[Array, "..."]], NodeTable],
) -> NodeTable:
    """Σ_k T_k(M) x_k by K applications of M, in one loop (Clenshaw's recurrence).

    Args:
        apply: a linear map with eigenvalues in [−1, 1], from ``float[N, D]`` to the same.
        coefficients: ``float[K + 1, …]``, what makes x_0 … x_K.
        term: makes x_k, ``float[N, D]``: of one number and a table their product, for instance.

    Returns:
        ``float[N, D]``.
    """
    if len(coefficients) == 1:
        return term(coefficients[0])

    def step(carry, coefficient):
        after, after_next = carry
        return (term(coefficient) + 2 * apply(after) - after_next, after), None

    last = term(coefficients[-1])
    start = last, jnp.zeros_like(last)
    (first, second), _ = jax.lax.scan(
        step, start, coefficients[1:-1], reverse=True, unroll=_STEPS_AT_ONCE
    )
    return term(coefficients[0]) + apply(first) - second


def heat_coefficients(time: float, tolerance: float = 1e-6) -> np.ndarray:
    """Chebyshev coefficients of h(λ) = exp(−t(1 − λ)), cut where the rest is below a tolerance.

    c_k = (2 − [k = 0]) e^{−t} I_k(t) with the modified Bessel function I_k (Abramowitz and Stegun,
    9.6.34). All are positive and |T_k| ≤ 1, so the sum of those left out bounds the error on
    [−1, 1]. Their number grows as √(t log(1/tolerance)).

    Args:
        time: t ≥ 0.
        tolerance: the bound, in [1e-12, 1).

    Returns:
        ``float64[K + 1]``.

    Raises:
        InputError: time or tolerance is out of range.
    """
    if not 0 <= time < math.inf:
        raise InputError(f"time: expected 0 or more, got {time}")
    if not 1e-12 <= tolerance < 1:
        raise InputError(f"tolerance: expected at least 1e-12 and below 1, got {tolerance}")
    # Past this order all terms together are below 1e-13.
    orders = np.arange(math.ceil(8 * math.sqrt(time)) + 60)
    coefficients = 2 * scipy.special.ive(orders, time)
    coefficients[0] /= 2
    left_out = np.cumsum(coefficients[::-1])[::-1]
    return coefficients[: max(1, int(np.argmax(left_out <= tolerance)))]


def heat_kernel(
    operator: Operator, x: NodeTable, time: float, *, tolerance: float = 1e-6
) -> NodeTable:
    """exp(−t(I − Ã)) x, heat that has flowed along edges for a time (Kondor and Lafferty 2002).

    Args:
        operator: N×N with real eigenvalues in [−1, 1].
        x: ``float[N, D]``, the heat at the start.
        time: t ≥ 0.
        tolerance: bounds the error in units of the norm of x, beside rounding.

    Returns:
        ``float[N, D]``.

    Raises:
        InputError: the operator is not square, x does not fit it, or a number is out of range.
    """
    return chebyshev_filter(operator, x, heat_coefficients(time, tolerance))


def personalized_pagerank(
    operator: Operator, x: NodeTable, *, damping: float = 0.85, tolerance: float = 1e-6
) -> NodeTable:
    """(1 − c) Σ_k c^k M^k x: where a walk that goes on with probability c ends (Page et al. 1999).

    The series is cut after K terms with c^{K+1} ≤ tolerance, which bounds what is left out:
    in units of the Euclidean norm of x for ``symmetric`` M (Gasteiger et al. 2019), of its sum of
    magnitudes for ``column`` (a walk's distribution), of its largest magnitude for ``row``. A walk
    that reaches a node without edges is lost. Two tables at a time, forward and backward.

    Args:
        operator: M, N×N.
        x: ``float[N, D]``; each column a distribution to start from, for instance.
        damping: c, the probability to go on, in [0, 1).
        tolerance: bound of the error, in (0, 1).

    Returns:
        ``float[N, D]``.

    Raises:
        InputError: the operator is not square, x does not fit it, or a number is out of range.
    """
    x = jnp.asarray(x)
    check_square(operator, x)
    if not 0 <= damping < 1:
        raise InputError(f"damping: expected at least 0 and below 1, got {damping}")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: expected between 0 and 1, got {tolerance}")
    applications = math.ceil(math.log(tolerance) / math.log(damping)) - 1 if damping else 0
    restart = (1 - damping) * x

    def step(total, _):
        return restart + damping * diffuse(operator, total), None

    return jax.lax.scan(step, restart, length=applications)[0]


def low_pass_basis(svd: Svd) -> NodeTable:
    """The eigenvectors of Ã for its r largest eigenvalues, from the SVD of its user–item block.

    Ã = [[0, R̃], [R̃ᵀ, 0]] has the eigenvalue σ with [u; v]/√2, and −σ with [u; −v]/√2.

    Args:
        svd: singular vectors of R̃, U×I.

    Returns:
        ``float[U + I, r]``, orthonormal columns.
    """
    return jnp.concatenate([svd.left, svd.right]) / math.sqrt(2)


def ideal_low_pass(basis: NodeTable, x: NodeTable) -> NodeTable:
    """V Vᵀ x: what of x lies in the span of the leading eigenvectors, the rest cut off.

    Args:
        basis: V, ``float[N, r]`` with orthonormal columns: :func:`low_pass_basis` for tables of all
            nodes, ``svd.right`` for tables of items and ``svd.left`` of users.
        x: ``float[N, D]``.

    Returns:
        ``float[N, D]``.
    """
    return exact_product(basis, exact_product(basis.T, x))

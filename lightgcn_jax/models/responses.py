"""Named filters of P = R̃ᵀR̃ as polynomials: what each does to a signal of eigenvalue λ.

A filter is a pair of polynomials: p acts on a user's interactions, q on what the low-pass filter
keeps of them (its first coefficient alone where the low-pass part is added as it is). Both are
held as coefficients of the shifted Chebyshev polynomials T*_k(λ) = T_k(2λ − 1), which stay within
±1 on [0, 1], where the eigenvalues of P lie.

======== =========================== ====== ======================================
name     p(λ)                        q(λ)   source
======== =========================== ====== ======================================
gfcf     λ                           1      GF-CF, Shen et al. 2021
bspm     λ s(λ)                      s(λ)   BSPM-EM, Choi et al. 2023
chebycf  interpolates the plateau g  1      ChebyCF, Kim et al. 2025
turbo    2λ − λ²                     1      Turbo-CF, Park et al. 2024, second order
======== =========================== ====== ======================================

s(λ) = 1 − hλ + h²λ²/2 − h³λ³/6 + h⁴λ⁴/24 is one Runge–Kutta step of length h of the sharpening
dy/dt = −yP. g(λ) = ½ + ½ sign(2λ − 1)|2λ − 1|^φ is flat in the middle and steep at both ends.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

Shape = Literal["gfcf", "bspm", "chebycf", "turbo"]


class Response(NamedTuple):
    """Two polynomials of P in shifted Chebyshev coefficients.

    Attributes:
        interactions: ``float64[K + 1]``, p, for a user's interactions.
        low_pass: ``float64[J + 1]``, q, for the low-pass part; J is 0 or K.
    """

    interactions: np.ndarray
    low_pass: np.ndarray


def gfcf() -> Response:
    """The linear filter p(λ) = λ beside the low-pass one (GF-CF, Shen et al. 2021)."""
    return Response(_shifted([0, 1]), np.ones(1))


def bspm(time: float) -> Response:
    """Blurring by P, then sharpening of both parts (BSPM-EM, Choi et al. 2023).

    Args:
        time: h, how long the sharpening lasts, in one Runge–Kutta step of order four.
    """
    step = [1, -time, time**2 / 2, -(time**3) / 6, time**4 / 24]
    # A fifth power of zero, so that both have as many coefficients.
    return Response(_shifted([0, *step]), np.append(_shifted(step), 0))


def chebycf(degree: int, flatness: float) -> Response:
    """The plateau g at the Chebyshev points of a degree (ChebyCF, Kim et al. 2025).

    As in the authors' code, value j of K + 1 is that of g at cos((K − j)π/K), rounded to three
    decimals, and belongs to the Chebyshev point cos((K + ½ − j)π/(K + 1)).

    Args:
        degree: K ≥ 1.
        flatness: φ; 1 makes g the line λ, more flattens the middle.
    """
    places = np.arange(degree + 1)
    x = np.cos((degree - places) * np.pi / degree).round(3)
    values = (0.5 + 0.5 * np.sign(x) * np.abs(x) ** flatness).round(3)
    angles = (degree + 0.5 - places) * np.pi / (degree + 1)
    # Discrete orthogonality of T_0 … T_K over the Chebyshev points.
    coefficients = 2 / (degree + 1) * np.cos(np.outer(places, angles)) @ values
    coefficients[0] /= 2
    # g − ½ is odd about λ = ½: an even degree ends in 0, which costs an application of P.
    return Response(coefficients[: degree + degree % 2], np.ones(1))


def turbo() -> Response:
    """p(λ) = 2λ − λ² (Turbo-CF, Park et al. 2024, second order)."""
    return Response(_shifted([0, 2, -1]), np.ones(1))


def response(shape: Shape, *, degree: int, flatness: float, time: float) -> Response:
    """A filter by name.

    Args:
        shape: the name.
        degree: of ``chebycf``.
        flatness: of ``chebycf``.
        time: of ``bspm``.
    """
    if shape == "bspm":
        return bspm(time)
    if shape == "chebycf":
        return chebycf(degree, flatness)
    return gfcf() if shape == "gfcf" else turbo()


def _shifted(powers: list[float]) -> np.ndarray:
    """Coefficients in T*_k of a polynomial given by those of its powers."""
    return Polynomial(powers).convert(kind=Chebyshev, domain=[0, 1], window=[-1, 1]).coef

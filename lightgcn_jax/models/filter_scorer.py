"""What a fitted polynomial filter scores by: users of its graph, and people who come after it.

Let a newcomer have the row r, 1 at their n items. They are scored as the last user of a graph with
one row more, R' = [R; μ r], would be; μ is what an interaction weighs on average, 1 without
weights. With D' = D_I + diag(μ r) and R̃' = D_U'^-a R' D'^(a−1),

    P' = R̃'ᵀR̃' = C P C + w wᵀ,    C = (D_I D'^-1)^(1−a),    w = μ (μn)^-a D'^(a−1) r.

All of this is exact, but that r stands for μ r where it is scored, which divides all scores of a
newcomer by μ: C and w are columns of each newcomer beside the operator that they share. The
low-pass filter would keep the leading right singular vectors of R̃'. It keeps those of [Σ Vᵀ; w],
which are found from V and the σ alone (Gu and Eisenstat 1994; Brand 2006, for one row): w adds the
direction e = (w − V Vᵀw)/ρ, and of the vectors [V, e] the combination z with the least strength λ
goes, so that as many remain,

    V'V'ᵀ = [V, e] (I − z zᵀ) [V, e]ᵀ,    z_i ∝ k_i / (σ_i² − λ),    1 + Σ_i k_i² / (σ_i² − λ) = 0,

with k = (Vᵀw, ρ), σ_e = 0 and λ below all σ_i². That is exact where V holds all of R̃ and degrees
stay as they are; where V holds less, what is left out of R̃, and C, do not change V.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, UserTable
from lightgcn_jax.diffusion.filters import chebyshev_sum
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.graph.bipartite import CsrRows, fold_rows

# Interactions written into a block of signals at a time.
_CHUNK = 4096
# Halvings of the interval of λ.
_HALVINGS = 40
# Of the greatest σ², and of ‖w‖²: less than this is rounding.
_NOTHING = 1e-6

_Columns = Float[Array, "items queries"]


class Joined(NamedTuple):
    """Columns of one newcomer each.

    Attributes:
        degrees: ``float[I, Q]``, D', 1 for items that nobody has.
        shrinking: ``float[I, Q]``, C.
        own: ``float[I, Q]``, w, the newcomer's row of R̃'.
    """

    degrees: _Columns
    shrinking: _Columns
    own: _Columns


@flax.struct.dataclass
class Growth:
    """What a fitted filter needs to take in one user more.

    Attributes:
        degrees: ``float[I]``, D_I, 0 for items without users.
        strengths: ``float[r]``, σ², the squared singular values of V.
        weight: ``float[]``, μ, what an interaction weighs on average.
        user_power: ``float[]``, a.
        item_power: ``float[]``, β.
        low_pass_power: ``float[]``, γ.
    """

    degrees: Float[Array, " items"]
    strengths: Float[Array, " rank"]
    weight: Float[Array, ""]
    user_power: Float[Array, ""]
    item_power: Float[Array, ""]
    low_pass_power: Float[Array, ""]

    def joined(self, rows: _Columns) -> Joined:
        """Each of some rows as one user more.

        Args:
            rows: ``float[I, Q]``, r, ones at the items of each.
        """
        degrees = self.degrees[:, None] + self.weight * rows
        degrees = jnp.where(degrees > 0, degrees, 1)
        before = jnp.where(self.degrees > 0, self.degrees, 1)[:, None]
        total = self.weight * jnp.maximum(rows.sum(axis=0, keepdims=True), 1)
        own = self.weight * total**-self.user_power * degrees ** (self.user_power - 1) * rows
        return Joined(degrees, (before / degrees) ** (1 - self.user_power), own)


@flax.struct.dataclass
class FilterScorer:
    """A fitted filter: scores of a row r of interactions are
    [r D_I^-β p(P) + r D_I^-γ V Vᵀ D_I^(γ−β) q(P)] D_I^β, P = R̃ᵀR̃.

    P is applied, never formed. Settings are arrays here, so that models of one shape share their
    compiled programs.

    Attributes:
        operator: R̃, U×I.
        interactions: R's rows, users; its weights are the entries, and D holds their sums.
        scales: ``float[I]``, D_I^β, 1 for items without users.
        low_pass_scales: ``float[I]``, D_I^γ, likewise.
        vectors: ``float[I, r]``, V, the leading right singular vectors of R̃.
        users: ``float[U, r]``, R D_I^-γ V, what the low-pass filter keeps of each user's row.
        coefficients: ``float[K + 1]``, of p in T_k(2P − I).
        low_pass: ``float[J + 1]``, of q, the low-pass weight in it; J is 0 or K.
        growth: what it takes to add one user more.
    """

    operator: Operator
    interactions: CsrRows
    scales: Float[Array, " items"]
    low_pass_scales: Float[Array, " items"]
    vectors: ItemTable
    users: UserTable
    coefficients: Float[Array, " terms"]
    low_pass: Float[Array, " low_pass_terms"]
    growth: Growth

    @property
    def num_queries(self) -> int:
        """U."""
        return self.users.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.vectors.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """What :meth:`scores` holds beside its result: columns of items, and one of users."""
        # A recurrence that is a loop holds two columns twice, as it hands them on.
        columns = 3 if len(self.coefficients) < 3 else 7 + (len(self.low_pass) > 1)
        return (columns * self.num_items + self.operator.shape[0]) * self.vectors.dtype.itemsize

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float[U, r]`` and ``float[I, r]``, whose inner products the low-pass filter adds."""
        return self.users, self.low_pass[0] * self.low_pass_scales[:, None] * self.vectors

    def scores(self, rows: Ids) -> _Columns:
        """Scores of all items for users of the graph.

        2K applications of the operator to a table of one column a query, and one product of dense
        tables: O((K·E + I·r) Q) work.

        Args:
            rows: ``int32[Q]``, users.

        Returns:
            ``float[I, Q]``; zeros for a user without interactions.
        """
        return self._scaled(self.signals(rows), self.users[rows].T)

    def filter(self, signals: _Columns) -> _Columns:
        """Scores of all items for any rows of interactions, weighted ones too.

        Args:
            signals: ``float[I, Q]``, one row of interactions a column.

        Returns:
            ``float[I, Q]``.
        """
        scaled = signals / self.low_pass_scales[:, None]
        return self._scaled(signals, exact_product(self.vectors.T, scaled))

    def signals(self, rows: Ids) -> _Columns:
        """The users' rows of R as columns, ``float[I, Q]``.

        Args:
            rows: ``int32[Q]``, users.
        """
        return _columns(self.interactions, rows, self.num_items, self.vectors.dtype)

    def of_histories(
        self, histories: CsrRows, whole: CsrRows | None = None, is_trained: bool = False
    ) -> FilterScorer | NewcomerScorer:
        """The same filter for other rows of interactions, each by itself.

        Args:
            histories: a row of items for each query.
            whole: a row for each of them, all that the newcomer has, where `histories` holds parts
                of it: scores of parts add up to that of the whole. None where they are whole.
            is_trained: the graph knows the rows' owners, and nothing is added to it.

        Returns:
            A scorer whose queries are the rows.
        """
        if not is_trained:
            return NewcomerScorer(self, histories, whole)
        users = _row_sums(histories, self.vectors / self.low_pass_scales[:, None])
        return dataclasses.replace(self, interactions=histories, users=users)

    def gram(self, y: _Columns) -> _Columns:
        """P y.

        Args:
            y: ``float[I, Q]``.
        """
        return diffuse(self.operator.transpose(), diffuse(self.operator, y))

    def _scaled(self, signals: _Columns, spectrum: Float[Array, "rank queries"]) -> _Columns:
        """Both filters of signals whose low-pass part has the spectrum."""
        scales = self.scales[:, None]
        back = self.low_pass_scales[:, None] / scales
        low = back * exact_product(self.vectors, spectrum)
        return scales * self.filtered(self.gram, signals / scales, low)

    def filtered(
        self, apply: Callable[[_Columns], _Columns], x: _Columns, low: _Columns
    ) -> _Columns:
        """p(P) x + q(P) y.

        Args:
            apply: P.
            x: ``float[I, Q]``, the divided interactions.
            low: y, ``float[I, Q]``, what the low-pass filter keeps.
        """

        def shifted(y: Array) -> Array:
            return 2 * apply(y) - y

        if len(self.low_pass) == 1:
            filtered = chebyshev_sum(shifted, self.coefficients, lambda c: c * x)
            return filtered + self.low_pass[0] * low
        both = jnp.stack([self.coefficients, self.low_pass], axis=1)
        return chebyshev_sum(shifted, both, lambda c: c[0] * x + c[1] * low)


@flax.struct.dataclass
class NewcomerScorer:
    """A fitted filter's scores for people who were never seen; see the module.

    Attributes:
        fitted: the filter.
        histories: a row of items for each.
        whole: what each has in all, where `histories` are parts of it.
    """

    fitted: FilterScorer
    histories: CsrRows
    whole: CsrRows | None = None

    @property
    def num_queries(self) -> int:
        """The rows."""
        return self.histories.num_rows

    @property
    def num_items(self) -> int:
        """I."""
        return self.fitted.num_items

    @property
    def block_bytes_per_query(self) -> int:
        """What :meth:`scores` holds beside its result: the filter's columns, C, w, D' and r."""
        item = self.fitted.vectors.dtype.itemsize
        return self.fitted.block_bytes_per_query + 4 * self.num_items * item

    def scores(self, rows: Ids) -> _Columns:
        """Scores of all items for some of the rows: as many applications as for users of the graph.

        Args:
            rows: ``int32[Q]``.

        Returns:
            ``float[I, Q]``; zeros for an empty row.
        """
        fitted, growth = self.fitted, self.fitted.growth
        dtype = fitted.vectors.dtype
        signals = _columns(self.histories, rows, self.num_items, dtype)
        everything = signals
        if self.whole is not None:
            everything = _columns(self.whole, rows, self.num_items, dtype)
        joined = growth.joined(everything)

        def apply(y: Array) -> Array:
            shared = joined.shrinking * fitted.gram(joined.shrinking * y)
            return shared + joined.own * _dots(joined.own, y)

        scales = joined.degrees**growth.item_power
        back = joined.degrees**growth.low_pass_power
        is_full = fitted.vectors.shape[1] == min(fitted.operator.shape)
        low = _kept(fitted.vectors, growth.strengths, signals / back, joined.own, is_full)
        return scales * fitted.filtered(apply, signals / scales, back / scales * low)


def _kept(
    vectors: ItemTable,
    strengths: Float[Array, " rank"],
    x: _Columns,
    own: _Columns,
    is_full: bool,
) -> _Columns:
    """V'V'ᵀx; all directions of [V, e] stay where V was all there is."""
    if not len(strengths):
        return jnp.zeros_like(x)
    queries = x.shape[1]
    products = exact_product(vectors.T, jnp.concatenate([x, own], axis=1))
    spectrum, inside = products[:, :queries], products[:, queries:]
    squares = _dots(own, own)
    least = jnp.maximum(_NOTHING * squares, jnp.finfo(x.dtype).tiny)
    outside = jnp.sqrt(jnp.maximum(squares - _dots(inside, inside), least))
    beyond = (_dots(own, x) - _dots(inside, spectrum)) / outside
    if not is_full:
        gone, gone_beyond = _weakest(strengths, inside, outside)
        along = _dots(gone, spectrum) + gone_beyond * beyond
        spectrum, beyond = spectrum - gone * along, beyond - gone_beyond * along
    beyond = beyond / outside
    return exact_product(vectors, spectrum - inside * beyond) + own * beyond


def _weakest(
    strengths: Float[Array, " rank"],
    inside: Float[Array, "rank queries"],
    outside: Float[Array, "1 queries"],
) -> tuple[Float[Array, "rank queries"], Float[Array, "1 queries"]]:
    """z for each column of k: the eigenvector of diag(σ², 0) + k kᵀ with the least eigenvalue; 0
    where V holds vectors of no strength, for then one of those may go."""
    least, eps = strengths.min(), jnp.finfo(strengths.dtype).eps
    is_there = least > _NOTHING * strengths.max()
    gaps, unit = (strengths - least)[:, None], jnp.where(is_there, least, 1)
    # A vector that the row does not touch at all would leave the equation without it.
    touched = eps * jnp.sqrt(_dots(inside, inside) + outside**2)
    inside = jnp.where(jnp.abs(inside) > touched, inside, touched)

    # λ and its distance from the least σ², of which each may be next to nothing.
    def distances(place: Array) -> tuple[Array, Array]:
        return gaps + unit * jax.nn.sigmoid(-place), unit * jax.nn.sigmoid(place)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        place = (low + high) / 2
        to_strengths, to_nothing = distances(place)
        excess = 1 + _dots(inside, inside / to_strengths) - outside**2 / to_nothing
        return jnp.where(excess < 0, place, low), jnp.where(excess < 0, high, place)

    end = jnp.full_like(outside, -2.5 * jnp.log(eps))
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (-end, end))
    to_strengths, to_nothing = distances((low + high) / 2)
    gone, beyond = inside / to_strengths, -outside / to_nothing
    share = is_there / jnp.sqrt(_dots(gone, gone) + beyond * beyond)
    return gone * share, beyond * share


def _dots(one: Float[Array, "rows queries"], other: Array) -> Float[Array, "1 queries"]:
    """The inner product of each column of one table with that of the other."""
    return (one * other).sum(axis=0, keepdims=True)


def _columns(rows: CsrRows, wanted: Ids, num_items: int, dtype: jnp.dtype) -> _Columns:
    """Some rows as columns of a table of items."""
    table = jnp.zeros((num_items, len(wanted)), dtype)

    def write(table: Array, slots: Array, items: Array, weights: Array | float) -> Array:
        return table.at[items, slots].set(weights, mode="drop")

    return fold_rows(rows, wanted, _CHUNK, write, table)


@jax.jit
def _row_sums(rows: CsrRows, table: ItemTable) -> UserTable:
    """For each row of items the sum of their vectors."""

    # A history has no weights: every item counts as 1.
    def add(sums: Array, slots: Array, items: Array, _: Array | float) -> Array:
        return sums.at[slots].add(table[items], mode="drop")

    everybody = jnp.arange(rows.num_rows, dtype=jnp.int32)
    blank = jnp.zeros((rows.num_rows, table.shape[1]), table.dtype)
    return fold_rows(rows, everybody, _CHUNK, add, blank)

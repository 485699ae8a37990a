"""Slow, dense float64 statements of what the packages compute."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.diffusion import Operator


def dense_interactions(users, items, num_users, num_items, weights=1.0):
    matrix = np.zeros((num_users, num_items))
    matrix[users, items] = weights
    return matrix


def dense_adjacency(users, items, num_users, num_items, weights=1.0):
    """A = [[0, R], [Rᵀ, 0]]."""
    r = dense_interactions(users, items, num_users, num_items, weights)
    return np.block(
        [[np.zeros((num_users, num_users)), r], [r.T, np.zeros((num_items, num_items))]]
    )


def dense_normalized_adjacency(
    users, items, num_users, num_items, normalization="symmetric", weights=1.0
):
    """A between powers of its degrees, from the definition; isolated nodes give zero rows."""
    a = dense_adjacency(users, items, num_users, num_items, weights)
    degrees = a.sum(axis=1)
    root = np.diag([1 / math.sqrt(d) if d else 0.0 for d in degrees])
    inverse = np.diag([1 / d if d else 0.0 for d in degrees])
    return {
        "symmetric": lambda: root @ a @ root,
        "left": lambda: root @ a,
        "right": lambda: a @ root,
        "row": lambda: inverse @ a,
        "column": lambda: a @ inverse,
        "none": lambda: a,
    }[normalization]()


def rounding_bound(matrix, x, weight_dtype, table_dtype):
    """How far a computed M x may lie from the exact one, elementwise.

    Weights, table and result are rounded once each; a sum of n terms runs in ``sum_dtype`` and
    rounds n products and n sums there. The oracle's own float64 is counted too.
    """
    terms = int((matrix != 0).sum(axis=1).max(initial=0))
    sums = jnp.dtype(jnp.promote_types(table_dtype, jnp.float32)).name
    roundings = [
        (1, weight_dtype),
        (2, table_dtype),
        (terms + 2, sums),
        (2 * terms + 16, "float64"),
    ]
    # (1 + u)^n - 1 for unit roundoffs u of which 1 + u is 1 in float64.
    logarithm = sum(n * math.log1p(float(jnp.finfo(dtype).eps) / 2) for n, dtype in roundings)
    return math.expm1(logarithm) * (np.abs(matrix) @ np.abs(x))


def dense_multiscale(matrix, x, alphas):
    """sum_k alpha_k M^k x with the powers written out."""
    return sum(alpha * np.linalg.matrix_power(matrix, k) @ x for k, alpha in enumerate(alphas))


materialised = jax.jit(Operator.materialise)


def stable_top_k(scores, k, left_out=()):
    """Item rows by descending score, ties to the lower row, without those left out."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    return [item for item in order if item not in set(left_out)][:k]


def user_metrics(ranked, relevant, k):
    """Each metric of one user, from its definition, by plain Python."""
    relevant, top = set(relevant), list(ranked)[:k]
    hits = [item in relevant for item in top]
    attainable = min(k, len(relevant))
    recall, precision = sum(hits) / len(relevant), sum(hits) / k
    f1 = 0.0 if not any(hits) else 2 * precision * recall / (precision + recall)
    dcg = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(attainable))
    average = sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit)
    return {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "ndcg": dcg / ideal,
        "map": average / attainable,
        "mrr": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
        "hit_rate": float(any(hits)),
    }


def bpr_gradient_step_loss(
    table, users, positives, negatives, valid, num_users, matrix, alphas, l2
):
    """The batch loss in plain NumPy: BPR on diffused rows plus λ·L2 on layer-0 rows.

    ``negatives`` and ``valid`` are ``[B, n]``; for shared negatives every row holds the same n.
    """
    final = dense_multiscale(matrix, table, alphas)
    losses, penalty = [], 0.0
    for user, positive, row, allowed in zip(users, positives, negatives, valid, strict=True):
        margin = final[user] @ final[num_users + positive]
        each = [
            math.log1p(math.exp(-(margin - final[user] @ final[num_users + item])))
            for item, ok in zip(row, allowed, strict=True)
            if ok
        ]
        if each:
            losses.append(sum(each) / len(each))
        penalty += (table[user] ** 2).sum() + (table[num_users + positive] ** 2).sum()
        penalty += sum((table[num_users + item] ** 2).sum() for item in row) / len(row)
    return sum(losses) / max(len(losses), 1) + l2 * 0.5 * penalty / len(users)

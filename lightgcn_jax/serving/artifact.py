"""What a run recommends as one file that JAX and NumPy run, without this package.

The file is a ``.npz``: the program of the recommendation as ``jax.export`` serialises it
(StableHLO, for any number of users, for CPU, CUDA and TPU), the arrays that it takes, and the
external ids. Whoever reads it needs flatbuffers beside JAX.

    stored = np.load("recommend.npz")
    program = jax.export.deserialize(bytearray(stored["program"]))
    arrays = [stored[f"array_{at}"] for at in range(stored["num_arrays"])]
    items, scores = program.call(np.array([0, 5], np.int32), *arrays)
    stored["item_ids"][items]  # for the users stored["user_ids"][[0, 5]]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import whole_number
from lightgcn_jax.evaluation.scorer import Tables, exact_scores
from lightgcn_jax.evaluation.top_k import exact_top_k
from lightgcn_jax.files import replacing
from lightgcn_jax.serving.export import id_array
from lightgcn_jax.serving.recommender import Recommender

PLATFORMS = ("cpu", "cuda", "tpu")
"""Where an artifact runs."""


def export_program(recommender: Recommender, target: str | Path, k: int = 20) -> Path:
    """Write the function from rows of users to the k best items that they do not have.

    Args:
        recommender: of a model with vectors, whatever its score.
        target: the file, whose name ends in ``.npz``.
        k: items for each user.

    Returns:
        ``target``. Its program takes ``int32[b]`` and the arrays, and returns ``int32[b, k]``, −1
        where fewer may be recommended, and ``float32[b, k]``.

    Raises:
        InputError: another suffix, no such folder, a model without vectors, or a k that does not
            fit.
        OSError: the file cannot be written; one that was there before is untouched.
    """
    target, scorer, seen = Path(target), recommender.scorer, recommender.seen
    if target.suffix.lower() != ".npz" or not target.parent.is_dir():
        raise InputError(f"{target}: expected a name in .npz, in a folder that exists")
    if not isinstance(scorer, Tables):
        raise InputError(f"export: expected a model with vectors, got {recommender.model}")
    k = whole_number("k", k, 1, len(recommender.items), " (items)")
    leaves, structure = jax.tree.flatten(scorer)
    arrays = [*map(np.asarray, leaves), np.asarray(seen.offsets), np.asarray(seen.columns)]
    longest = max(1, int(np.diff(arrays[-2]).max(initial=0)))

    def recommend(rows: Array, *given: Array) -> tuple[Array, Array]:
        *leaves, offsets, columns = given
        scores = exact_scores(jax.tree.unflatten(structure, leaves), rows)
        places = offsets[rows][:, None] + jnp.arange(longest, dtype=jnp.int32)[None]
        own = columns.at[places].get(mode="fill", fill_value=0)
        # Out of range is left out.
        own = jnp.where(places < offsets[rows + 1][:, None], own, scores.shape[0])
        slots = jnp.broadcast_to(jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None], own.shape)
        scores = scores.at[own, slots].set(-jnp.inf, mode="drop")
        best = exact_top_k(scores, k, width=1)
        found = jnp.asarray(best.scores)
        return jnp.where(found > -jnp.inf, best.items, -1), found

    [count] = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((count,), np.int32)]
    shapes += [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    exported = jax.export.export(jax.jit(recommend), platforms=PLATFORMS)(*shapes)
    try:
        program = exported.serialize()
    except ImportError as error:
        raise InputError(
            "export: a program needs flatbuffers, in which JAX writes it: pip install flatbuffers, "
            "which the extra export brings"
        ) from error
    stored: dict[str, Any] = {f"array_{at}": array for at, array in enumerate(arrays)}
    stored |= {
        "program": np.frombuffer(program, np.uint8),
        "num_arrays": np.int64(len(arrays)),
        "user_ids": id_array(recommender.users),
        "item_ids": id_array(recommender.items),
    }
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez(file, **stored)
    return target

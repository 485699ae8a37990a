"""What several processes that train one run compare before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.data.pairs import PARTS, MappedPairs, Pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.processes.agreement import check_agreement, several
from lightgcn_jax.runs.versions import versions_here
from lightgcn_jax.settings import Config, flat
from lightgcn_jax.settings.registry import own_objects
from lightgcn_jax.sharding.mesh import shown

# Bytes of a digest that are shown where data differ.
_SHOWN = 12


def check_same_run(split: Split, config: Config, mesh: Mesh | None, known: Pairs | None) -> None:
    """Make sure that all processes train the same model on the same rows, if there are several.

    Args:
        split: as it is trained, its rows in training order.
        config: the settings.
        mesh: the devices.
        known: what users know beyond the split.

    Raises:
        InputError: a setting, a version or the data differ; the message says which.
    """
    if not several():
        return
    facts: dict[str, Any] = {**flat(config), **own_objects(config)}
    facts |= {"users": len(split.users), "items": len(split.items)}
    facts |= {f"{part} pairs": len(getattr(split, part)) for part in PARTS}
    check_facts(facts, _digests(split, known), mesh)


def check_facts(
    facts: Mapping[str, Any], digests: Mapping[str, str], mesh: Mesh | str | None
) -> None:
    """Make sure that processes agree, about their mesh and the versions of libraries too.

    Args:
        facts: what should be the same.
        digests: those of the data.
        mesh: the devices, or how they were asked for.

    Raises:
        InputError: something differs; the message says what.
    """
    of_data = {f"SHA-256 of {name}": digest for name, digest in digests.items()}
    of_versions = {f"version of {name}": version for name, version in versions_here().items()}
    of_mesh = shown(mesh) if isinstance(mesh, Mesh) else mesh
    check_agreement({**facts, "mesh": of_mesh, **of_data, **of_versions})


def _digests(split: Split, known: Pairs | None) -> dict[str, str]:
    found = {
        f"{name} ids": digest_of("\n".join(map(str, getattr(split, name).ids)).encode())
        for name in ("users", "items")
    }
    parts = {part: getattr(split, part) for part in PARTS}
    if known is not None:
        parts["known"] = known
    for name, pairs in parts.items():
        if isinstance(pairs, MappedPairs) and pairs.digest is not None:
            # Written when all pairs were read; this process need not.
            found[f"{name} pairs"] = pairs.digest[:_SHOWN]
            continue
        columns = [pairs.users, pairs.items]
        columns += [] if pairs.weights is None else [pairs.weights]
        found[f"{name} pairs"] = digest_of(*map(np.ascontiguousarray, columns))
    return found


def digest_of(*columns: Any) -> str:
    """The digest of some bytes, short enough to be shown where processes differ.

    Args:
        columns: buffers.
    """
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column)
    return digest.hexdigest()[:_SHOWN]

"""A layer of many rows, a chunk at a time: on one device, or divided among those of a mesh."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lightgcn_jax.arrays import Array
from lightgcn_jax.processes.placing import on_every_device, on_host
from lightgcn_jax.sharding.mesh import DATA, MODEL
from lightgcn_jax.sharding.rows import RowShards, places_of, rows_on
from pinsage_jax.encoder.pinsage import PinSage, applied

Rows = Callable[[slice], np.ndarray]
"""Some rows of an array, ``float32[n, D]``, that need not be in memory as a whole."""


class OneDevice:
    """Computes chunks of rows on JAX's default device.

    Args:
        model: the encoder.
        params: its parameters.
        chunk: how many rows are computed at a time.

    Attributes:
        chunk: how many rows a chunk has.
    """

    def __init__(self, model: PinSage, params: Any, chunk: int):
        self._model, self._params, self.chunk = model, params, chunk

    def rows(self, chunk: Any) -> Any:
        """Arrays of a chunk, on the device.

        Args:
            chunk: a pytree of arrays ``[c, …]`` on the host.
        """
        return jax.device_put(chunk)

    def taken(self, rows: Any) -> np.ndarray:
        """The rows of a chunk, on the host.

        Args:
            rows: ``[c, D]``.
        """
        return np.asarray(rows)

    def encode(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Compute h⁰ of a chunk, ``float32[c, D]``.

        Args:
            features: of its rows, by input.
        """
        return self.taken(self._computed(_encode, self.rows(features)))

    def messages(self, below: Rows, layer: int, count: int) -> Any:
        """Compute the messages of all items, once for a layer.

        Args:
            below: the layer below.
            layer: k, from 0.
            count: R, how many rows it has.
        """
        chunk = min(self.chunk, count)
        made = None
        for start in range(0, count, chunk):
            # The last chunk is of one length with the others, so some rows are computed twice.
            start = min(start, count - chunk)
            rows = self.rows(below(slice(start, start + chunk)))
            if made is None:
                made = jnp.zeros((count, rows.shape[1]), rows.dtype)
            given = self._params, rows, made, start
            made = _with_messages(*given, model=self._model, layer=layer)
        return made

    def convolve(
        self, rows: tuple[np.ndarray, np.ndarray, np.ndarray], messages: Any, layer: int
    ) -> Any:
        """Compute a layer of a chunk, ``float32[c, D]``, which stays on the device.

        Args:
            rows: the chunk's own vectors in the layer below, its neighbours and their weights.
            messages: what :meth:`messages` gave.
            layer: k, from 0.
        """
        return self._computed(_convolve, self.rows(rows), messages, layer=layer)

    def head(self, top: Any, features: dict[str, np.ndarray]) -> np.ndarray:
        """Compute z of a chunk, ``float32[c, D']``.

        Args:
            top: what :meth:`convolve` gave of the last layer.
            features: of the rows, of which the structure alone is read.
        """
        return self.taken(self._computed(_head, (top, self.rows(features))))

    def _computed(self, function: Any, rows: Any, of_all: Any = (), **settings: Any) -> Any:
        given = self._params, rows, of_all
        return _on_one(*given, of=function, model=self._model, **settings)


class OnMesh(OneDevice):
    """Divides the rows of each chunk among all devices of a mesh.

    Args:
        model: the encoder.
        params: its parameters, the same in every process.
        chunk: how many rows are computed at a time, or as many more as devices divide evenly.
        mesh: with the axes data and model; where ``model`` is longer than 1, the messages of all
            items lie in shares on the devices.
    """

    def __init__(self, model: PinSage, params: Any, chunk: int, mesh: Mesh):
        # All devices stand along one axis: each of them takes rows of its own.
        self._mesh = Mesh(mesh.devices.reshape(1, -1), (DATA, MODEL))
        even = -(-chunk // mesh.size) * mesh.size
        super().__init__(model, on_every_device(params, self._mesh), even)
        self._in_shares = mesh.shape[MODEL] > 1

    def rows(self, chunk: Any) -> Any:
        place = NamedSharding(self._mesh, PartitionSpec(MODEL))

        def divided(values: np.ndarray) -> Array:
            return jax.make_array_from_callback(values.shape, place, lambda at: values[at])

        return jax.tree.map(divided, chunk)

    def taken(self, rows: Any) -> np.ndarray:
        return on_host(rows)

    def messages(self, below: Rows, layer: int, count: int) -> Any:
        rows = rows_on(self._mesh, below(slice(count)))
        made = self._computed(_messages, rows.rows, layer=layer)
        shares = dataclasses.replace(rows, rows=made)
        return shares if self._in_shares else _whole(shares, mesh=self._mesh)

    def _computed(self, function: Any, rows: Any, of_all: Any = (), **settings: Any) -> Any:
        settings = {"of": function, "model": self._model, "mesh": self._mesh, **settings}
        return _on_each(self._params, rows, of_all, **settings)


@functools.partial(jax.jit, static_argnames=("of", "model", "layer"))
def _on_one(params: Any, rows: Any, of_all: Any, *, of: Any, **settings: Any) -> Array:
    return of(params, rows, of_all, **settings)


@functools.partial(jax.jit, static_argnames=("model", "layer"), donate_argnums=2)
def _with_messages(
    params: Any, below: Array, messages: Array, start: int, *, model: PinSage, layer: int
) -> Array:
    """Messages with those of some more rows, in the same memory."""
    made = _messages(params, below, (), model=model, layer=layer)
    return jax.lax.dynamic_update_slice_in_dim(messages, made, start, 0)


@functools.partial(jax.jit, static_argnames=("of", "model", "mesh", "layer"))
def _on_each(params: Any, rows: Any, of_all: Any, *, of: Any, mesh: Mesh, **settings: Any) -> Array:
    divided = jax.shard_map(
        functools.partial(of, **settings),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(MODEL), places_of(of_all)),
        out_specs=PartitionSpec(MODEL),
        check_vma=False,
    )
    return divided(params, rows, of_all)


@functools.partial(jax.jit, static_argnames="mesh")
def _whole(shares: RowShards, *, mesh: Mesh) -> Array:
    """Rows that lie in shares, whole and in their order on each device."""
    rows = jax.lax.with_sharding_constraint(shares.rows, NamedSharding(mesh, PartitionSpec()))
    in_order = rows.reshape(shares.shards, -1, rows.shape[1]).swapaxes(0, 1)
    return in_order.reshape(rows.shape)[: shares.count]


def _encode(params: Any, features: dict[str, Array], _: Any, *, model: PinSage) -> Array:
    return applied(model, params, "encode", features)


def _messages(params: Any, below: Array, _: Any, *, model: PinSage, layer: int) -> Array:
    return applied(model, params, "messages", layer, below)


def _convolve(
    params: Any,
    rows: tuple[Array, Array, Array],
    messages: Array | RowShards,
    *,
    model: PinSage,
    layer: int,
) -> Array:
    own, ids, weights = rows
    places = jnp.maximum(ids, 0)
    if isinstance(messages, RowShards):
        messages = messages[places].reshape(-1, own.shape[1])
        places = jnp.arange(places.size, dtype=jnp.int32).reshape(places.shape)
    return applied(model, params, "convolve", layer, own, messages, places, weights)


def _head(params: Any, rows: tuple[Array, Any], _: Any, *, model: PinSage) -> Array:
    return applied(model, params, "head", *rows)

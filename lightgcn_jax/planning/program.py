"""The training step of a run, compiled for devices that need not be here and read, never run."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lightgcn_jax.planning.workload import Workload
from lightgcn_jax.roofline.collectives import Collective, read_collectives
from lightgcn_jax.roofline.hlo import Executable, program_text, read_executable
from lightgcn_jax.roofline.targets import ahead_of_time, compiled_for
from lightgcn_jax.runs.programs import programs_of
from lightgcn_jax.sharding import Layout, ShardSizes
from lightgcn_jax.training.strategies import TracedSettings


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """What was compiled of a step.

    Attributes:
        executable: its memory a device, and what is in it.
        collectives: what a device gets from others; None where this JAX cannot read the text of
            the program.
    """

    executable: Executable
    collectives: tuple[Collective, ...] | None

    @property
    def received(self) -> dict[str, int] | None:
        """Bytes that a device gets in a step, by the kind of collective."""
        if self.collectives is None:
            return None
        kinds: dict[str, int] = {}
        for one in self.collectives:
            kinds[one.kind] = kinds.get(one.kind, 0) + one.received * one.times
        return kinds


def step_arguments(workload: Workload, layout: Layout, sizes: ShardSizes | None = None) -> tuple:
    """Shapes, types and places of what the compiled steps take.

    Args:
        workload: the sizes.
        layout: where the nodes lie.
        sizes: of the shards' arrays, where a graph is known.
    """
    programs = _programs(workload)

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout.everywhere),
            tree,
        )

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    states = layout.described(jax.eval_shape(programs.start, keys))
    shuffle = jax.ShapeDtypeStruct((1, workload.shuffled), jnp.int32)
    traced = jax.eval_shape(lambda: TracedSettings.stacked((workload.strategies,)))
    first = jax.ShapeDtypeStruct((), jnp.int32)
    given = everywhere((keys, shuffle, traced, first))
    return states, *given, workload.inputs(layout, sizes)


def compile_step(
    workload: Workload, mesh: Mesh, name: str, sizes: ShardSizes | None = None
) -> StepProgram:
    """Compile the very steps that a run on that mesh compiles, for arrays that nobody allocates.

    Args:
        workload: the sizes.
        mesh: of devices that are here, or of a TPU topology.
        name: of the devices, for messages.
        sizes: of the shards' arrays, where a graph is known.

    Returns:
        What is known of the program.

    Raises:
        ExceedsMemoryError: it would not fit a device; says by how much.
    """
    arguments = step_arguments(workload, workload.layout(mesh), sizes)
    return compile_program(_programs(workload).steps, arguments, mesh, name)


def compile_program(function: Any, arguments: tuple, mesh: Mesh, name: str) -> StepProgram:
    """Compile a jitted function for the devices of a mesh, and read what came out.

    Args:
        function: is jitted.
        arguments: shapes, types and places of what it takes.
        mesh: of devices that are here, or of a TPU topology.
        name: of the devices, for messages.

    Returns:
        What is known of the program.

    Raises:
        ExceedsMemoryError: it would not fit a device; says by how much.
    """
    start = time.perf_counter()
    with ahead_of_time(mesh):
        compiled = compiled_for(name, function.lower(*arguments))
    executable = read_executable(compiled, time.perf_counter() - start)
    text = program_text(compiled)
    return StepProgram(executable, None if text is None else read_collectives(text, mesh.size))


def _programs(workload: Workload) -> Any:
    strategies, nodes, edges = (workload.strategies,), workload.nodes, workload.edges
    return programs_of(strategies, workload.epoch, nodes, edges, shared=True)

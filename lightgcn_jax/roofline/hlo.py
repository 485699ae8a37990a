"""What XLA made of a program: its memory, its cost, and which operations are in it."""

from __future__ import annotations

import collections
import dataclasses
import re
import time
from typing import Any

import jax

from lightgcn_jax.roofline.collectives import op_name
from lightgcn_jax.roofline.targets import Target, compile_for

# An instruction's opcode is the word before its operands: `%a.1 = f32[8]{0} scatter(%x, %i, %u)`.
# The names of its result and of its operands may hold the same word, with a suffix.
_SCATTER = re.compile(r"(?<![\w%.-])scatter\(")
_CUSTOM_CALL = re.compile(r'custom_call_target="([^"]*)"')
# A callback is a custom call of that name, or on TPU a transfer from or to the host.
_HOST_TRANSFER = re.compile(r"is_host_transfer=true|(?<![\w%.-])(?:infeed|outfeed)\(")


@dataclasses.dataclass(frozen=True)
class Executable:
    """What is known of a compiled program without running it.

    Attributes:
        compile_seconds: time to trace, lower and compile it; little where JAX's persistent cache
            had it.
        argument_bytes: bytes of its arguments, in the device's layout.
        temporary_bytes: bytes held beside arguments and results while it runs.
        output_bytes: bytes of its results.
        operations: XLA's count of floating-point operations. XLA counts a loop's body once and
            nothing for a native call; None where it knows nothing.
        bytes_accessed: XLA's count, of every operand and result of every fused piece, with the
            same gaps.
        scatters: for each scatter in the optimised program, the name of the operation that it
            comes from.
        host_callbacks: calls and transfers to the host in the middle of the program. Like what
            stands above and below, 0 where the program's text cannot be read.
        custom_calls: how often the program names each foreign function, native kernels and the
            compiler's own helpers alike.
    """

    compile_seconds: float
    argument_bytes: int
    temporary_bytes: int
    output_bytes: int
    operations: float | None
    bytes_accessed: float | None
    scatters: tuple[str, ...]
    host_callbacks: int
    custom_calls: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        """Arguments, temporaries and results together."""
        return self.argument_bytes + self.temporary_bytes + self.output_bytes


def compile_executable(
    target: Target, function: Any, *arguments: Any
) -> tuple[jax.stages.Compiled, Executable]:
    """Compile a function for a target and read what came out; see :func:`compile_for`.

    Args:
        target: the device to compile for.
        function: takes the arguments; one that is jitted already keeps its settings.
        arguments: pytrees of arrays, or of their shapes and types.

    Returns:
        The program, and what is known of it.

    Raises:
        ExceedsMemoryError: it would not fit the target's memory.
    """
    start = time.perf_counter()
    compiled = compile_for(target, function, *arguments)
    return compiled, read_executable(compiled, time.perf_counter() - start)


def read_executable(compiled: jax.stages.Compiled, compile_seconds: float) -> Executable:
    """Read what a compiled program says of itself.

    Args:
        compiled: the program.
        compile_seconds: the time that it took to compile.

    Returns:
        Its memory, its cost and the operations that are looked for.
    """
    text = program_text(compiled) or ""
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis() or {}
    calls = collections.Counter(_CUSTOM_CALL.findall(text))
    callbacks = sum(count for name, count in calls.items() if "callback" in name)
    return Executable(
        compile_seconds=compile_seconds,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        # A result in an argument's place is not counted twice.
        output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        operations=_known(costs.get("flops")),
        bytes_accessed=_known(costs.get("bytes accessed")),
        scatters=tuple(op_name(line) for line in text.splitlines() if _SCATTER.search(line)),
        host_callbacks=callbacks + len(_HOST_TRANSFER.findall(text)),
        custom_calls=dict(sorted(calls.items())),
    )


def program_text(compiled: jax.stages.Compiled) -> str | None:
    """The optimised program, or None where this JAX cannot read what the compiler wrote: a libtpu
    that is newer than JAX may write instructions that it does not know.

    Args:
        compiled: the program.
    """
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError:
        return None


def _known(count: float | None) -> float | None:
    """XLA writes −1 where it does not know."""
    return None if count is None or count < 0 else float(count)

"""What devices send each other in a compiled program: its collectives, read from its text.

A program that XLA has divided among devices names every exchange: an ``all-to-all`` that was
written, and an ``all-reduce`` that its partitioner put in. Those in the body of a loop run once a
turn; how often is read from the loop.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_KINDS = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute|ragged-all-to-all"
# `%a.1 = f32[8,4]{1,0} all-gather(…`; what the compiler starts early ends in -start.
_COLLECTIVE = re.compile(rf"= (.*?) ({_KINDS}|collective-broadcast)(-start)?\(")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*-> .* \{$")
_CALLED = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r"(?<![\w%.-])while\(")
_KNOWN_TURNS = re.compile(r"known_trip_count\D+(\d+)")
_CONSTANT = re.compile(r"%?([\w.-]+) = s\d+\[\]\S* constant\((\d+)\)")
_COMPARE = re.compile(r"ROOT .* compare\([^)]*, %?([\w.-]+)\), direction=LT")
_FIRST_GROUP = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange of a program.

    Attributes:
        kind: ``all-gather``, ``all-reduce``, ``all-to-all``, ``reduce-scatter`` or
            ``collective-permute``.
        received: bytes that a device gets from others each time.
        group: devices that take part.
        times: how often a run of the program comes to it.
        known: False where it stands in a loop whose turns are not known; it is counted once.
        operation: the operation that it comes from.
    """

    kind: str
    received: int
    group: int
    times: int
    known: bool
    operation: str


def read_collectives(text: str, devices: int) -> tuple[Collective, ...]:
    """The collectives of an optimised program, those of one device counted out.

    Args:
        text: the program, as ``compiled.as_text()`` gives it.
        devices: how many it runs on.
    """
    bodies = dict(_computations(text))
    turns = _turns(bodies)
    found = []
    for name, lines in bodies.items():
        for line in lines:
            if match := _COLLECTIVE.search(line):
                group = _group(line, devices)
                if group > 1:
                    times, known = turns.get(name, (1, True))
                    received = _received(match[2], match[1], bool(match[3]), group)
                    found.append(Collective(match[2], received, group, times, known, op_name(line)))
    return tuple(found)


def op_name(line: str) -> str:
    """The operation that an instruction comes from; empty where it does not say.

    Args:
        line: the instruction.
    """
    found = _OP_NAME.search(line)
    return found[1] if found else ""


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = None, []
    for line in text.splitlines():
        if name is None and (match := _COMPUTATION.match(line)):
            name, lines = match[1], []
            if line.startswith("ENTRY"):
                yield "", [name]
        elif line == "}" and name is not None:
            yield name, lines
            name = None
        elif name is not None:
            lines.append(line)


def _turns(bodies: dict[str, list[str]]) -> dict[str, tuple[int, bool]]:
    """How often a run comes to each computation, and whether that is known."""
    [entry] = bodies.pop("", [None])
    turns: dict[str, tuple[int, bool]] = {}
    ahead = [(entry, 1, True)] if entry else []
    while ahead:
        name, times, known = ahead.pop()
        before, was_known = turns.get(name, (0, True))
        turns[name] = before + times, known and was_known
        for line in bodies.get(name, ()):
            count, sure = 1, True
            if _WHILE.search(line):
                found = _turns_of(line, bodies)
                count, sure = (1, False) if found is None else (found, True)
            called = set(_CALLED.findall(line))
            if branches := _BRANCHES.search(line):
                called |= {one.strip().lstrip("%") for one in branches[1].split(",")}
            ahead += [(one, times * count, known and sure) for one in called if one in bodies]
    return turns


def _turns_of(line: str, bodies: dict[str, list[str]]) -> int | None:
    """The turns of a loop that counts from 0 to a constant; None for another."""
    if known := _KNOWN_TURNS.search(line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", line)
    lines = bodies.get(condition[1], []) if condition else []
    constants = {name: int(value) for one in lines for name, value in _CONSTANT.findall(one)}
    for one in lines:
        if compared := _COMPARE.search(one):
            return constants.get(compared[1])
    return None


def _group(line: str, devices: int) -> int:
    """How many devices take part together."""
    if listed := _FIRST_GROUP.search(line):
        return len(listed[1].split(",")) if listed[1] else devices
    if iota := _IOTA_GROUPS.search(line):
        return int(iota[2])
    if mesh := _MESH_GROUPS.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    pairs = re.search(r"source_target_pairs=\{", line)
    return 2 if pairs else devices


def _received(kind: str, shapes: str, started: bool, group: int) -> int:
    """Bytes that a device gets, from the shapes of the result; sums go round in a ring."""
    sizes = [_bytes(*one) for one in _SHAPE.findall(shapes)]
    # What is started early has a result of operands and results; the latter are the larger.
    if started and kind in ("all-gather", "collective-permute"):
        sizes = [max(sizes)]
    total = sum(sizes)
    share = (group - 1) / group
    return round(
        {
            "all-gather": total * share,
            "all-reduce": 2 * total * share,
            "reduce-scatter": total * (group - 1),
            "all-to-all": total * share,
            "ragged-all-to-all": total * share,
        }.get(kind, total)
    )


def _bytes(kind: str, shape: str) -> int:
    bits = re.search(r"\d+", kind)
    each = max(1, int(bits[0]) // 8) if bits else 1
    return each * math.prod(int(one) for one in shape.split(",") if one)

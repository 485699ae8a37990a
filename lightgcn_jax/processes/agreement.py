"""What the processes of a run tell each other beside arrays: values, errors, and what they run.

A message goes from every process to every other one, so all of them have to ask at the same point
of their work (:func:`gathered`). A process that ends by an error says so in the place of its
message, and all others end with it, at the same point.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from lightgcn_jax.arrays import power_of_two
from lightgcn_jax.errors import InputError

_Tree = TypeVar("_Tree")
# Messages of up to so many bytes, their length included, take one exchange.
_SHORT = 4096
_OF_LENGTH = 8
# What an error waits for the others to hear of it.
_TELLING_SECONDS = 600


class EndedElsewhere(InputError):
    """Another process of the run ended by an error; the message is that process's."""


def several() -> bool:
    """Whether this process is one of several that do one piece of work together."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes files and talks: the first of several, or the only one."""
    return not several() or jax.process_index() == 0


def gathered(value: Any = None) -> list[Any]:
    """The values of all processes, in their order; all have to ask at once.

    Args:
        value: this process's, a JSON value.

    Raises:
        EndedElsewhere: a process ended by an error in the place of answering.
    """
    return _gathered({"value": value})


def of_the_first(value: Any) -> Any:
    """The first process's value, in all of them.

    Args:
        value: this process's, a JSON value.

    Raises:
        EndedElsewhere: as :func:`gathered`.
    """
    return gathered(value if is_first() else None)[0]


def arrays_of_the_first(tree: _Tree) -> _Tree:
    """The first process's arrays, in all of them; those of the only one stay as they are.

    Args:
        tree: this process's arrays, of the same shapes and types in all of them.
    """
    return multihost_utils.broadcast_one_to_all(tree) if several() else tree


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Tell the other processes of an error that ends the block in this one.

    Their next :func:`gathered` raises it; they must not be at anything else that needs this one.
    """
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        if several() and not isinstance(error, EndedElsewhere) and not hasattr(error, "told"):
            error.__dict__["told"] = True
            _tell({"error": str(error) or type(error).__name__})
        raise


def _tell(message: dict[str, Any]) -> None:
    def tell() -> None:
        with contextlib.suppress(Exception):  # what the others say is theirs
            _gathered(message)

    # Companions that are in the midst of another exchange would not come.
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    thread.join(_TELLING_SECONDS)


def check_agreement(facts: Mapping[str, Any]) -> None:
    """Make sure that all processes were started with the same settings and data.

    Args:
        facts: JSON values by name, settings and digests of data, whose order is that in which a
            difference is worth naming.

    Raises:
        InputError: they differ; the message names the first difference.
    """
    everybodys = gathered(dict(facts))
    for name in dict.fromkeys(name for one in everybodys for name in one):
        values = [json.dumps(one.get(name)) for one in everybodys]
        other = next((at for at, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise InputError(
                f"processes: expected the same settings and data in all {len(values)}, got "
                f"{name} {values[0]} in process 0 and {values[other]} in process {other}"
            )


def _gathered(message: dict[str, Any]) -> list[Any]:
    if not several():
        return [message.get("value")]
    answers = [json.loads(one) for one in _exchanged(json.dumps(message).encode())]
    for process, answer in enumerate(answers):
        if "error" in answer:
            raise EndedElsewhere(f"process {process}: {answer['error']}")
    return [answer["value"] for answer in answers]


def _exchanged(message: bytes) -> list[bytes]:
    """Everybody's message, by one exchange of a fixed size and a second one where it is longer."""
    length = np.array([len(message)], np.int64).view(np.uint8)
    first = np.concatenate([length, np.frombuffer(message, np.uint8)])[:_SHORT]
    heads = multihost_utils.process_allgather(np.pad(first, (0, _SHORT - len(first))))
    lengths = [int(head[:_OF_LENGTH].copy().view(np.int64)[0]) for head in heads]
    texts = heads[:, _OF_LENGTH:]
    if max(lengths) > _SHORT - _OF_LENGTH:
        room = power_of_two(max(lengths))
        whole = np.frombuffer(message, np.uint8)
        texts = multihost_utils.process_allgather(np.pad(whole, (0, room - len(whole))))
    return [bytes(text[:count]) for text, count in zip(texts, lengths, strict=True)]

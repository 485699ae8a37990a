"""What a model is trained for and evaluated by: pairs, held-out parts, queries."""

from pinsage_jax.tasks.holdout import (
    cooccurrence_task,
    explicit_task,
    given_task,
    permuted,
    time_task,
)
from pinsage_jax.tasks.pairs import (
    CooccurrencePairs,
    Draws,
    ExplicitPairs,
    PairSource,
    UserHistories,
)
from pinsage_jax.tasks.task import HeldOut, Task, graph_of

__all__ = [
    "CooccurrencePairs",
    "Draws",
    "ExplicitPairs",
    "HeldOut",
    "PairSource",
    "Task",
    "UserHistories",
    "cooccurrence_task",
    "explicit_task",
    "given_task",
    "graph_of",
    "permuted",
    "time_task",
]

"""What the steps of preparation leave of the data, in counts."""

from typing import Any, NamedTuple

from lightgcn_jax.fields import TEXT, Kind, whole


class CountChange(NamedTuple):
    """What one step of preparation left of the data.

    Attributes:
        step: What was done.
        interactions_before: Their number; likewise for users and items.
        interactions_after: Those left.
        users_before: Users before the step.
        users_after: Users left.
        items_before: Items before the step.
        items_after: Items left.
    """

    step: str
    interactions_before: int
    interactions_after: int
    users_before: int
    users_after: int
    items_before: int
    items_after: int

    def __str__(self) -> str:
        def change(before: int, after: int) -> str:
            return f"{after:,}" if before == after else f"{before:,} → {after:,}"

        return (
            f"{self.step}: {change(self.interactions_before, self.interactions_after)} "
            f"interactions, {change(self.users_before, self.users_after)} users, "
            f"{change(self.items_before, self.items_after)} items"
        )


def _change(value: Any) -> CountChange:
    step, *counts = value
    return CountChange(TEXT.convert(step), *map(whole(0, None).convert, counts))


CHANGE = Kind("a step and six counts", _change)
"""A change as JSON holds it."""

"""What a person sees of an object at a prompt and in a notebook: a few lines, a small table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any


class Shown:
    """An object that says in a few facts what it is; it never prints its arrays."""

    def facts(self) -> Mapping[str, Any]:
        """What is worth knowing, by name; two facts or so."""
        raise NotImplementedError

    def __repr__(self) -> str:
        lines = (f"  {name}: {value}" for name, value in self.facts().items())
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        rows = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in self.facts().items()
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{rows}</table>"

    @property
    def title(self) -> str:
        """The first line, by default the name of the class."""
        return type(self).__name__


def figures_line(metrics: Mapping[str, float]) -> str:
    """Recall and NDCG in one line, at the cut-off nearest to 20.

    Args:
        metrics: by name.

    Example:
        >>> figures_line({"recall@5": 0.25, "recall@10": 0.5, "ndcg@10": 0.125})
        'recall@10 0.5000, ndcg@10 0.1250'
    """
    cutoffs = sorted({int(name.partition("@")[2]) for name in metrics})
    if not cutoffs:
        return "none"
    k = min(cutoffs, key=lambda one: abs(one - 20))
    names = (f"recall@{k}", f"ndcg@{k}")
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)

"""How ``--help`` shows flags that may be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro


def flag(metavar: str, default: str = "") -> Any:
    """Describe a flag.

    Args:
        metavar: what stands for its value.
        default: what is said of its default.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default)


File = Annotated[Path | None, flag("FILE")]

"""The command serve; see :mod:`lightgcn_jax.cli.serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lightgcn_jax.cli.runs import RunPath
from lightgcn_jax.cli.serve import Listening
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.service import Limits


@dataclass(frozen=True)
class Serve:
    """Serve a run over HTTP, with a page at /: recommendations to users (whatever stands in their
    place) and by lists of items, similar items, reasons, items that are added; figures for
    Prometheus, a description in OpenAPI. SIGHUP loads the run anew while requests go on, as does
    POST /reload with the token of the variable GRAPHREC_RELOAD_TOKEN; SIGTERM and Ctrl-C end the
    service once requests are answered. Needs the extra `serve`.

    Attributes:
        run_path: the run directory, or a symbolic link that may later lead to another.
        listening: where, and within what limits.
        pictures: a folder of pictures, PNG, JPEG or WebP, each called as its item's id; that needs
            the extra `plot`.
    """

    run_path: RunPath
    listening: Annotated[Listening, tyro.conf.arg(name="")] = Listening()
    pictures: Annotated[Path | None, flag("FOLDER")] = None

    def run(self) -> int:
        from pinsage_jax.service.items import ItemRanker
        from pinsage_jax.service.pictures import Pictures

        pictures = None if self.pictures is None else Pictures(self.pictures)

        def load(limits: Limits) -> ItemRanker:
            return ItemRanker.open(self.run_path, limits)

        return self.listening.serve("pinsage-jax", load, pictures)

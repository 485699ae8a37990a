"""Pictures of items, small, from a folder."""

from __future__ import annotations

import functools
import importlib.util
import io
from pathlib import Path

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.ranker import ExternalId
from pinsage_jax.serving.contact_sheet import named_picture, read_picture

_KEPT = 1024


class Pictures:
    """Gives thumbnails; the last ones asked for are kept.

    Args:
        folder: of pictures that are called as their items' ids.

    Raises:
        InputError: there is no such folder, or nothing to read pictures with.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f"--pictures: {folder}: no such folder")
        if importlib.util.find_spec("PIL") is None:
            raise InputError("--pictures: needs Pillow, which the extra plot brings")
        self._folder = folder
        self._read = functools.lru_cache(_KEPT)(self._fresh)

    def __call__(self, item: ExternalId) -> bytes | None:
        """The picture of an item as a PNG; None where it has none that can be read.

        Args:
            item: an external id.
        """
        return self._read(item)

    def _fresh(self, item: ExternalId) -> bytes | None:
        from PIL import Image

        pixels, _ = read_picture(self._folder, named_picture(self._folder, item))
        if pixels is None:
            return None
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, format="PNG")
        return written.getvalue()

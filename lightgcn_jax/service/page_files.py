"""The files of the page, which come with the package."""

from __future__ import annotations

import functools
from importlib import resources

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/plane.js": ("plane.js", "text/javascript"),
}
"""Path of the URL -> file, media type."""


@functools.cache
def read_page(path: str) -> tuple[bytes, str]:
    """A file and its media type.

    Args:
        path: one of :data:`PAGE`.
    """
    name, kind = PAGE[path]
    return resources.files("lightgcn_jax.service").joinpath("page", name).read_bytes(), kind

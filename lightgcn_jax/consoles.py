"""What a terminal gets: nothing that it would obey, and nothing that it cannot show."""

from __future__ import annotations

import codecs
import io
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from lightgcn_jax.errors import printable

_PLAIN = {"–": "-", "−": "-", "±": "+-", "…": "...", "▲": "^", "×": "x", "²": "^2"}
_PLAIN |= {"→": "->", "≥": ">=", "≤": "<=", "─": "-", "λ": "lambda", "’": "'"}


def shown(text: str) -> str:
    """Text of several lines as :func:`~lightgcn_jax.errors.printable` has each: ids, titles, names
    of columns and files and what servers say may hold whatever moves a cursor or clears a screen.

    Args:
        text: any.
    """
    return "\n".join(map(printable, text.split("\n")))


class PlainConsole(Console):
    """A console that takes no text for markup, and shows control characters instead of sending
    them; rich passes on the escape itself.

    Args:
        more: as of :class:`rich.console.Console`.
    """

    def __init__(self, **more: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **more)

    def render_str(self, text: str, **more: Any) -> Text:  # pyright: ignore
        """Every text that is printed, cells of tables included, comes by here.

        Args:
            text: of any signs.
            more: as of :meth:`rich.console.Console.render_str`.
        """
        return super().render_str(shown(text), **more)


def fit_streams() -> None:
    """Let stdout and stderr write what their encoding lacks by signs that it has: a terminal
    without a locale shows ASCII."""
    codecs.register_error("lightgcn_jax.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # others write what they like
            stream.reconfigure(errors="lightgcn_jax.plain")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":  # a byte of a file's name that is no text
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    return _PLAIN.get(sign, ascii(sign)[1:-1]), error.start + 1

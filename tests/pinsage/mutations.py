"""Damage of all sorts, drawn from a seed, for tests that nothing but an InputError comes of it."""

import re
import warnings

import numpy as np

from lightgcn_jax.errors import InputError

_PIECES = (
    *(
        b"\0",
        b"\r",
        b"\n",
        b'"',
        b",",
        b"\t",
        b";",
        b"|",
        b" ",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\x1b[2J",
    ),
    *(b"nan", b"null", b"-1", b"1e999", b"99999999999999999999", b"0", b"[]", b"{}", b"[1, 2]"),
    *("é".encode(), "\u200b".encode(), "\u2028".encode(), b'""', b'"\n"', b"True", b"$1", b"1,5"),
)
# Words of the libraries that a message must not pass on.
_FOREIGN = re.compile(
    r"polars|pyo3|arrow|ComputeError|SchemaError|allow_pickle|numpy\.|Traceback|thrift|"
    r"dtype_opt|read_csv|infer_schema|unexpected end of data|Rust|unwrap|panick|tokenize",
    re.IGNORECASE,
)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes of a file with one to four places cut, doubled, overwritten or added to."""
    given = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(given) + 1))
        until = min(len(given), at + int(rng.geometric(0.1)))
        piece = _PIECES[rng.integers(0, len(_PIECES))]
        kind = rng.integers(0, 7)
        if kind == 0:
            del given[at:until]
        elif kind == 1:
            given[at:at] = given[at:until]
        elif kind == 2:
            given[at:until] = piece
        elif kind == 3:
            given[at:at] = piece
        elif kind == 4 and at < len(given):
            given[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 5 and rng.random() < 0.3:
            del given[at:]
        else:
            lines = bytes(given).split(b"\n")
            one, other = rng.integers(0, len(lines), 2)
            lines[one] = lines[other] if rng.random() < 0.5 else b""
            given = bytearray(b"\n".join(lines))
    return bytes(given)


def refused(read) -> str | None:
    """The message of an InputError that a reading ends with, which is checked; None without one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except InputError as error:
        message = str(error)
        assert not _FOREIGN.search(message), message
        assert len(message) < 2_000
        return message
    return None

"""Damage of all sorts, drawn from a seed, for tests that nothing but an InputError comes of it."""

import io
import json
import re
import warnings

import numpy as np
import safetensors.numpy

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


ODD_VALUES = (None, -1, 0, 3, 2**70, 1e300, float("nan"), "", "x", True, [], {}, [1], {"a": 1})


def changed_json(content: bytes, rng: np.random.Generator) -> bytes:
    """A JSON document with one value that is missing, or odd."""
    value = json.loads(content)
    holder, place = {"": value}, ""
    while isinstance(holder[place], dict | list) and holder[place] and rng.random() < 0.8:
        holder = holder[place]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        place = keys[rng.integers(0, len(keys))]
    if rng.random() < 0.2 and holder is not value and place != "":
        del holder[place]
    else:
        holder[place] = ODD_VALUES[rng.integers(0, len(ODD_VALUES))]
        value = value if place != "" else holder[""]
    return json.dumps(value).encode()


def changed_array(given: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array of another type or shape, or with values that cannot be meant."""
    kind = rng.integers(0, 8)
    if kind == 0:
        return given.astype(rng.choice(["float64", "int64", "int8", "float32", "bool"]))
    if kind == 1:
        return given.reshape(-1)[: given.size // 2]
    if kind == 2:
        return given[None]
    if kind == 3:
        return given[:0] if given.ndim else given
    if kind == 4:
        return np.concatenate([given, given]) if given.ndim else given + given
    changed = given.copy().reshape(-1)
    if changed.size:
        odd = np.nan if changed.dtype.kind == "f" and kind == 5 else [-1, 10**6, 0][kind - 5]
        changed[rng.integers(0, changed.size, 3)] = np.array(odd).astype(changed.dtype)
    return changed.reshape(given.shape)


def changed_tensors(content: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file of which one array, or JSON of the metadata, is missing or changed."""
    arrays = safetensors.numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    name = sorted(arrays)[rng.integers(0, len(arrays))]
    told = [key for key, text in metadata.items() if text.startswith("{")]
    if told and rng.random() < 0.5:
        metadata[told[0]] = changed_json(metadata[told[0]].encode(), rng).decode()
    elif rng.random() < 0.2:
        del arrays[name]
    else:
        arrays[name] = np.asarray(changed_array(arrays[name], rng))
    whole = {key: np.array(one, order="C") for key, one in arrays.items()}
    return safetensors.numpy.save(whole, metadata or None)


def changed_npy(content: bytes, rng: np.random.Generator) -> bytes:
    """A NumPy file whose array is changed."""
    stream = io.BytesIO()
    np.save(stream, changed_array(np.load(io.BytesIO(content)), rng))
    return stream.getvalue()


def harmed(name: str, content: bytes, rng: np.random.Generator) -> bytes:
    """A file that holds something else in its own format, where that is known, else damaged."""
    ways = {"json": changed_json, "safetensors": changed_tensors, "npy": changed_npy}
    way = ways.get(name.rpartition(".")[2], damaged)
    return (way if rng.random() < 0.7 else damaged)(content, rng)

"""Damaged files are refused in words of our own, or read; nothing else happens."""

import gzip
import json
import random
import time
import zlib
from pathlib import Path

import polars as pl
import pytest

from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.errors import InputError

# What the libraries beneath would say, and nobody else.
FOREIGN_WORDS = (
    *("polars", "schema", "dtype", "ComputeError", "malformed", "ragged", "Traceback", "codec"),
    *("Utf8", "LazyFrame", "_csv", "JSONDecode", "Expecting", "thrift", "Errno"),
)
SECONDS = 20  # one input may take; the usual is a hundredth of a second
TOKENS = (
    *('"', '""', ",", "\t", ";", "::", " ", "\n", "\r", "\r\n", "\\", '\\"', "'", "nan", "null"),
    *("\\N", "\x00", "\x1b[31m", "\ufeff", "\u200b", "1e999", "-", "99999999999999999999", "{}"),
    *("user,item\n", "<html>", "é", "NA", "1.0", "017", "\x1e", "\x0b", "\u2028", "[1]", "x" * 300),
)
RAW = (b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\xc3", b"PAR1", b"\x1f\x8b")


def good_files():
    """A small sound file of every format: its name and bytes."""
    rows = [(u, 10 + (u * 7 + i) % 9, 1 + (u + i) % 5, 1_500_000_000 + 60 * u + i)
            for u in range(8) for i in range(3)]  # fmt: skip

    def lines(mark, header=()):
        return "\n".join(mark.join(map(str, row)) for row in (*header, *rows)) + "\n"

    names = ("user_id", "item_id", "rating", "timestamp")
    quoted = "".join(f'"{u}","{i}","a ""b"", c",{r}\n' for u, i, r, _ in rows)
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    lists = "".join(f"{u} {' '.join(str(10 + (u * k) % 9) for k in range(1, 2 + u % 4))}\n"
                    for u in range(1, 12))  # fmt: skip
    texts = {
        "a.csv": lines(",", [names]),
        "b.csv": '"user","item","title","rating"\n' + quoted,
        "c.csv": lines(";", [names]),
        "d.tsv": lines("\t", [names]),
        "e.tsv": '"user"\t"item"\n' + "".join(f'"{u}"\t"{i}"\n' for u, i, _, _ in rows),
        "f.inter": lines("\t", [[f"{name}:token" for name in names]]),
        "ratings.dat": lines("::"),
        "u.data": lines("\t"),
        "g.txt": lines(" "),
        "h.txt": lists,
        "i.jsonl": "".join(json.dumps(one) + "\n" for one in objects),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["j.csv.gz"] = gzip.compress(files["a.csv"], mtime=0)
    files["k.json.gz"] = gzip.compress(files["i.jsonl"], mtime=0)
    files["l.csv.zlib"] = zlib.compress(files["a.csv"])
    files["m.csv"] = texts["a.csv"].encode("utf-16")
    return files


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file after one to four accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(9)
        lines = content.splitlines(keepends=True)
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + rng.choice(TOKENS).encode() + content[at:]
        elif kind == 2:
            content = content[:at] + rng.choice(RAW) + content[at:]
        elif kind == 3:
            content = content[:at] + content[at + rng.randrange(1, 6) :]
        elif kind == 4 and content:
            at = min(at, len(content) - 1)
            content = (
                content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            )
        elif kind == 5 and lines:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            content = b"".join(lines)
        elif kind == 6 and lines:
            del lines[rng.randrange(len(lines))]
            content = b"".join(lines)
        elif kind == 7:
            old, new = (rng.choice((b",", b"\t", b" ", b";", b"\n", b'"', b"::")) for _ in range(2))
            content = content.replace(old, new, rng.choice((1, 3, -1)))
        else:
            middle = rng.randrange(len(content) + 1)
            content = content[at:middle] + content
    return content


OPTIONS = (
    {},
    {},
    {},
    {"skip_bad_rows": True},
    {"format": "csv"},
    {"format": "triples"},
    {"format": "adjacency"},
    {"format": "jsonl"},
    {"quoting": "csv"},
    {"quoting": "none"},
    {"quoting": "backslash"},
    {"user_column": 2, "item_column": 1},
    {"header": "no", "user_column": 1, "item_column": 2},
    {"encoding": "latin-1"},
    {"encoding": "utf-16-le"},
    {"time_unit": "milliseconds"},
    {"user_ids": "integers", "item_ids": "text", "separator": "blanks"},
    {"rating_column": "none", "timestamp_column": "none", "skip_bad_rows": True},
    {"null_ids": "keep", "separator": "tab"},
)


def outcome(path: Path, options) -> str:
    """Reads a file and judges what comes of it."""
    start = time.perf_counter()
    try:
        data = read_interactions(path, **options)
        result = "read"
        assert len(data)
        assert data.readings
        for reading in data.readings:
            assert all(line.isprintable() for line in reading.lines), reading.lines
    except InputError as error:
        result, message = "refused", str(error)
        assert path.name in message, message
        assert message.isprintable(), message
        found = [word for word in FOREIGN_WORDS if word in message.replace(path.name, "")]
        assert not found, message
    assert time.perf_counter() - start < SECONDS
    return result


def fuzz(tmp_path, inputs: int, seed: int) -> None:
    files, rng = good_files(), random.Random(seed)
    outcomes = {"read": 0, "refused": 0}
    for number in range(inputs):
        name = rng.choice(sorted(files))
        content, options = damaged(files[name], rng), rng.choice(OPTIONS)
        path = tmp_path / name
        path.write_bytes(content)
        try:
            outcomes[outcome(path, options)] += 1
        except BaseException as error:
            error.add_note(f"input {number} of seed {seed}: {name}, {options}: {content!r}")
            raise
    # Both happen often, so that the damage is neither too small nor too large to tell.
    assert min(outcomes.values()) > inputs / 10, outcomes


def test_good_files_are_read(tmp_path):
    for name, content in good_files().items():
        path = tmp_path / name
        path.write_bytes(content)
        assert outcome(path, {}) == "read", name


def test_damaged_files_are_refused_or_read(tmp_path):
    fuzz(tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_damaged_files_are_refused_or_read(tmp_path, seed):
    fuzz(tmp_path, 2_000, seed)


def test_damaged_parquet_is_refused_or_read(tmp_path):
    path, rng = tmp_path / "a.parquet", random.Random(0)
    pl.DataFrame(
        {"user": [1, 2, 3], "item": ["a", "b", "c"], "rating": [1.0, 2.0, 3.0]}
    ).write_parquet(path)
    content = path.read_bytes()
    for number in range(60):
        path.write_bytes(damaged(content, rng))
        try:
            outcome(path, {})
        except BaseException as error:
            error.add_note(f"input {number}")
            raise

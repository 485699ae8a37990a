"""Packed files and folders that were damaged in any way are refused in words, never by a crash."""

import bz2
import gzip
import io
import lzma
import random
import zipfile
import zlib

import polars as pl
import pytest

from lightgcn_jax.data import unpacking
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.errors import InputError

LOG = pl.DataFrame(
    {
        "user_id": [f"u{at % 7}" for at in range(40)],
        "item_id": [at % 5 for at in range(40)],
        "rating": [float(at % 5) for at in range(40)],
    }
)
CSV = LOG.write_csv().encode()


def written(write) -> bytes:
    made = io.BytesIO()
    write(made)
    return made.getvalue()


def zipped(made: io.BytesIO) -> None:
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", CSV)


SOUND = {
    "log.csv.zip": written(zipped),
    "log.csv.bz2": bz2.compress(CSV),
    "log.csv.xz": lzma.compress(CSV),
    "log.csv.gz": gzip.compress(CSV),
    "log.csv.zlib": zlib.compress(CSV),
    "log.arrow": written(LOG.write_ipc),
    "log.feather": written(lambda made: LOG.write_ipc(made, compression="zstd")),
    "log.parquet": written(LOG.write_parquet),
}
# Words of libraries that nobody could act on.
FOREIGN = ("errno", "polars", "panick", "traceback", "compute", "zipfile", "lzma", "unwrap")


def damaged(rng: random.Random, content: bytes) -> bytes:
    """A content with a few bytes changed, taken out, put in, or cut off."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made)) if made else 0
        length = rng.randint(1, 20)
        noise = bytes(rng.randrange(256) for _ in range(length))
        choice = rng.randrange(5)
        if choice == 0 and made:
            made[at] ^= 1 << rng.randrange(8)
        elif choice == 1:
            made[at : at + 1] = noise[:1]
        elif choice == 2:
            del made[at : at + length]
        elif choice == 3:
            made[at:at] = noise
        else:
            del made[at:]
    return bytes(made)


def check(seed: int, folder) -> None:
    rng = random.Random(seed)
    name = rng.choice(list(SOUND))
    path = folder / name
    path.write_bytes(damaged(rng, SOUND[name]))
    try:
        data = read_interactions(path if rng.random() < 0.7 else folder)
    except InputError as error:
        said = str(error)
        assert str(folder) in said, (seed, said)
        assert not any(word in said.lower() for word in FOREIGN), (seed, said)
    else:
        assert 0 < len(data) <= len(LOG), seed
    finally:
        path.unlink()


def test_damaged_files_are_refused_in_words(tmp_path):
    for seed in range(200):
        check(seed, tmp_path)


@pytest.mark.slow
def test_many_damaged_files_are_refused_in_words(tmp_path):
    for seed in range(3000):
        check(seed, tmp_path)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
def test_what_unpacks_without_measure_is_refused(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_ALWAYS_FINE", 1 << 20)
    line = b"1,2\n"
    packed = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zip": lambda content: written(
            lambda made: zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED).writestr("a.csv", content)
        ),
    }[suffix]
    file = tmp_path / f"log.csv.{suffix}"
    file.write_bytes(packed(line * (4 << 20)))
    with pytest.raises(InputError, match="unpacks to more than 200 times its size") as caught:
        read_interactions(file)
    assert str(file) in str(caught.value)
    file.write_bytes(packed(b"user,item\n" + line * 100))
    assert len(read_interactions(file)) == 100

"""Files of features that were damaged at random: each is refused by name, or read."""

import datetime

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.ids import IdMap
from pinsage_jax.features.files import align, load_features
from tests.mutations import damaged, refused

ITEMS = IdMap.from_values(range(12))


def sound_files(folder):
    """A file of each format, by name, and the vectors beside it."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "item": range(12),
            "title": [f'thing "{row}", red' if row % 3 else f"thing {row}" for row in range(12)],
            "price/kg": rng.random(12).round(2),
            "day": [datetime.date(2020, 1, 1 + row) for row in range(12)],
            "tags": ["a|b"] * 12,
        }
    )
    table.write_csv(folder / "quoted.csv")
    table.with_columns(pl.col("title").str.replace_all(r'[",]', "")).write_csv(folder / "bare.csv")
    table.write_csv(folder / "quoted.tsv", separator="\t", quote_style="always")
    table.write_csv(folder / "marks.tsv", separator="\t", quote_style="never")
    look = pl.Series("look", rng.normal(size=(12, 3)))
    lists = pl.Series("lists", [[float(row)] * 2 if row else [] for row in range(12)])
    table.with_columns(look, lists).write_parquet(folder / "all.parquet")
    (folder / "ids.txt").write_text("".join(f"{row}\n" for row in range(12)))
    np.save(folder / "look.npy", rng.normal(size=(12, 3)).astype(np.float32))


def use(path, **settings):
    found = load_features(path, **settings)
    align(found.frame, ITEMS, found.id_column, kinds=settings.get("kinds"))


def outcomes(folder, seeds):
    """How many damaged files were refused, and how many read, by name."""
    sound_files(folder)
    counts = {}
    for sound in sorted(path for path in folder.iterdir() if path.is_file()):
        content = sound.read_bytes()
        place = folder / "damaged"
        place.mkdir(exist_ok=True)
        path = place / sound.name
        if sound.suffix == ".npy":
            settings = {"vectors": {"look": path}}
        else:
            settings = {"kinds": {"tags": "categories"}} if sound.suffix != ".txt" else {}
        source = path if sound.suffix != ".npy" else folder / "ids.txt"
        counts[sound.name] = [0, 0]
        for seed in seeds:
            path.write_bytes(damaged(content, np.random.default_rng(seed)))
            message = refused(lambda: use(source, **settings))  # noqa: B023
            counts[sound.name][message is None] += 1
    return counts


def test_damaged_feature_files_are_refused_or_read(tmp_path):
    counts = outcomes(tmp_path, range(25))
    assert all(refusals for refusals, _ in counts.values())
    assert any(read for _, read in counts.values())


@pytest.mark.slow
def test_many_damaged_feature_files_are_refused_or_read(tmp_path):
    outcomes(tmp_path, range(1_000, 1_700))

"""Neighbours as rows of text and as a sheet of pictures."""

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from pinsage_jax.features.columns import Column
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.serving import contact_sheet as sheets
from pinsage_jax.serving.contact_sheet import contact_sheet, named_picture, neighbours_table

ITEMS = IdMap(pl.Series(["rail", "fence", "bed", "gate$"]))
QUERIES, IDS = np.array([0, 2]), np.array([[2, 1, 3], [0, -1, -1]])
SCORES = np.array([[0.91, 0.5, 0.25], [0.91, -np.inf, -np.inf]])
FEATURES = FeatureTable(
    {
        "title": Column("text", ["bed rail", "a\x1b[31m fence\n" + "x" * 80, None, "gate"]),
        "tags": Column("categories", [["home", "wood"], [], ["home"], ["garden"]]),
        "year": Column("number", np.array([1999.0, np.nan, 2001.5, 3.0])),
        "looks": Column("vector", np.arange(24, dtype=np.float32).reshape(4, 6)),
    },
    4,
)


def test_neighbours_stand_below_their_query():
    table = neighbours_table(QUERIES, IDS, SCORES, FEATURES, ITEMS, ["title", "tags", "year"])
    assert table.columns == ("query", "place", "item", "score", "title", "tags", "year")
    assert table.rows[0] == ("rail", "0", "rail", "", "bed rail", "home, wood", "1999")
    assert table.rows[1] == ("rail", "1", "bed", "0.9100", "", "home", "2001.5")
    assert table.rows[2][:4] == ("rail", "2", "fence", "0.5000")
    assert [row[:3] for row in table.rows[4:]] == [("bed", "0", "bed"), ("bed", "1", "rail")]


def test_long_and_unprintable_texts_are_cut_and_cleaned():
    (_, _, _, _, text, tags, year, looks), *_ = neighbours_table(
        np.array([1]), np.zeros((1, 0), int), np.zeros((1, 0)), FEATURES, ITEMS, longest=20
    ).rows
    assert text == "a [31m fence xxxxxx…"
    assert (tags, year) == ("", "")
    assert looks == "6, 7, 8, 9, …"


def save(path, pixels=6, form="png"):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (pixels, pixels), "red").save(path, format=form)


def test_a_contact_sheet_has_a_cell_for_each_neighbour(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "pictures"
    folder.mkdir()
    save(folder / "rail.png")
    save(folder / "bed.jpg", form="jpeg")
    (folder / "fence.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    pictures = ["rail.png", "fence.png", "bed.jpg", None]
    target = tmp_path / "sheet.png"
    sheet = contact_sheet(target, QUERIES, IDS, pictures, ITEMS, folder)
    assert sheet == (target, 4, 1, 1)
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["sheet.png"]


def test_pictures_that_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    save(tmp_path / "outside.png")
    save(folder / "good.png")
    save(folder / "wide.png", pixels=30)
    save(folder / "other.png", form="gif")
    save(folder / "other.gif", form="gif")
    monkeypatch.setattr(sheets, "LARGEST_PICTURE", 800)

    def read(name):
        return sheets.read_picture(folder, name)[1]

    assert read("good.png") == "shown"
    refused = ["../outside.png", "wide.png", "other.png", "other.gif", "none.png", ".", "a\0.png"]
    assert {read(name) for name in refused} == {"broken"}
    assert read(None) == read("") == "missing"
    monkeypatch.setattr(sheets, "LARGEST_FILE", 10)
    assert read("good.png") == "broken"


def drawn(folder, name):
    picture, why = sheets.read_picture(folder, name)
    assert why == "shown"
    return np.asarray(picture)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.JPG", "a.jpeg", "a.JPEG", "a.webp"])
def test_a_picture_is_found_whatever_its_ending(name, tmp_path):
    form = {"jpg": "jpeg"}.get(name[2:].lower(), name[2:].lower())
    save(tmp_path / name, form=form)
    assert named_picture(tmp_path, "a") == name
    assert named_picture(tmp_path, "b") is None
    assert named_picture(tmp_path / "x", "../a") is None
    np.testing.assert_allclose(drawn(tmp_path, name)[0, 0], [255, 0, 0], atol=3)


def test_a_picture_is_turned_as_it_says(tmp_path):
    """Orientation 6: the camera was turned, the first row of pixels is the right-hand column."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:10] = 255
    exif = image.Exif()
    exif[0x0112] = 6
    image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(drawn(tmp_path, "a.png"), np.rot90(pixels, -1))


def test_grey_of_sixteen_bits_keeps_its_shades(tmp_path):
    image = pytest.importorskip("PIL.Image")
    grey = np.arange(0, 2**16, 2**12, dtype=np.uint16).reshape(4, 4)
    image.fromarray(grey).save(tmp_path / "a.png")
    expected = np.repeat((grey // 256).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(drawn(tmp_path, "a.png"), expected)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"columns: expected some of title, .* got price"):
        neighbours_table(QUERIES, IDS, SCORES, FEATURES, ITEMS, ["price"])
    with pytest.raises(InputError, match="ids: expected item rows of -1 to 3, got -1 to 4"):
        neighbours_table(QUERIES, np.where(IDS == 3, 4, IDS), SCORES, FEATURES, ITEMS)
    with pytest.raises(InputError, match=r"neighbours: expected .* \[2\], \[2, 3\] and \[2, 2\]"):
        neighbours_table(QUERIES, IDS, SCORES[:, :2], FEATURES, ITEMS)
    target = tmp_path / "sheet.png"
    with pytest.raises(InputError, match="pictures: expected 4, one an item, got 1"):
        contact_sheet(target, QUERIES, IDS, [None], ITEMS, tmp_path)
    with pytest.raises(InputError, match="queries: expected at least one"):
        contact_sheet(target, QUERIES[:0], IDS[:0], [None] * 4, ITEMS, tmp_path)

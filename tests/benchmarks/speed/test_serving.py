import argparse

import numpy as np

from benchmarks.speed import serving


def test_vectors_are_the_same_twice_and_many_lie_in_a_file(tmp_path, monkeypatch):
    world = serving.made(500, tmp_path)
    assert np.array_equal(world.items, serving.made(500, tmp_path).items)
    monkeypatch.setattr(serving, "_MAPPED_FROM", 400)
    mapped = serving.made(500, tmp_path)
    assert isinstance(mapped.items, np.memmap)
    assert mapped.items.shape == (500, 64)
    # A new user of a mapped catalogue has the vector that they have of one in memory.
    liked = {3: [[np.array([7, 3, 499]), np.array([3]), np.array([8, 0])]]}
    vectors = [
        folding.vectors(lists[3][0])
        for folding, lists in (serving._folding(one, liked) for one in (world, mapped))
    ]
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-5)


def test_exact_answers_are_numpys(tmp_path):
    world = serving.made(600, tmp_path)
    contenders, about = serving.contenders_of(world, [1, 4])
    assert about["recall"] >= 0.95
    samples = serving.in_turn(contenders, 0.0)
    assert {len(own) for own in samples.values()} == {3}
    assert {name.split(": ")[1] for name in samples} >= {"known, exact", "new, approximate"}
    assert serving.table_of({f"600, {k}": v for k, v in samples.items()}).row_count == len(samples)


def test_options():
    parser = argparse.ArgumentParser()
    serving.add_options(parser)
    assert parser.parse_args(["--items", "1000"]).items == [1000]

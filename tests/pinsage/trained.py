"""The smallest world that a whole run can be trained on, shared by the tests of runs."""

import functools

import numpy as np

from pinsage_jax import PinSageConfig, PinWorld, Task, cooccurrence_task, generate_pins
from pinsage_jax.config import settings_from

# 36 cells of about eight pins, which looks and words tell well: a few steps learn it.
WORLD = PinWorld(
    items=300,
    boards=80,
    mean_board_size=12,
    looks=6,
    uses=6,
    styles=1,
    visual_signal=0.9,
    text_signal=0.9,
)
CONFIG = PinSageConfig(
    dim=16,
    word_dim=8,
    batch_size=64,
    negatives=32,
    steps_per_epoch=4,
    epochs=2,
    neighbors=5,
    walks=10,
    walk_length=5,
    hard_pool=8,
    hard_visits=256,
    fan=2,
    structure=8,
    folds=2,
    curriculum="paper",
)


@functools.cache
def pins():
    return generate_pins(WORLD).data


@functools.cache
def pins_task() -> Task:
    """Items to items; a tenth of the items is held out."""
    return cooccurrence_task(pins())


def tiny(**changes) -> PinSageConfig:
    return settings_from(CONFIG, **changes)


class Killed(BaseException):
    """Stands for the end of the process."""


class Breaking:
    """A reporter that ends the run when an epoch is evaluated, or has begun, or as many chunks of
    items are embedded."""

    def __init__(self, event=None, epoch=0):
        self.event, self.epoch = event, epoch
        self.notes, self.records, self.shares = [], [], []

    def noted(self, message):
        self.notes.append(message)

    def advanced(self, *, epoch, **_):
        self._maybe("advanced", epoch)

    def evaluated(self, record):
        self.records.append(record)
        self._maybe("evaluated", record["epoch"])

    def embedded(self, *, share, **_):
        self.shares.append(share)
        self._maybe("embedded", len(self.shares))

    def _maybe(self, event, epoch):
        if (event, epoch) == (self.event, self.epoch):
            raise Killed


def without_seconds(records):
    return [{key: value for key, value in one.items() if key != "seconds"} for one in records]


def assert_same_vectors(one, two):
    """Bit for bit, the layers below too."""
    for first, second in zip((*one.layers, one.vectors), (*two.layers, two.vectors), strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))

"""What samplers are held against: one small graph, and the exact law of their draws."""

import numpy as np
import scipy.stats

from tests.lightgcn.worlds import graph_of

# Rows are users, from one without items to one who has all but item 4, which nobody has.
SEEN = np.array(
    [
        [mark == "x" for mark in row]
        for row in (
            "x.x..x...",
            ".........",
            "........x",
            ".xx...x.x",
            "xxxx.xxxx",
            "x.....xx.",
            "..x...x.x",
        )
    ]
)
GRAPH = graph_of(*np.nonzero(SEEN))
DEGREES = SEEN.sum(axis=0)

# A sound sampler fails a test at this level once in ten thousand seeds; the seeds are fixed.
LEVEL = 1e-4


def counts_of(items):
    """How often each item was drawn."""
    return np.bincount(np.asarray(items).ravel(), minlength=SEEN.shape[1])


def chi_square(counts, law):
    """The p-value of counts under a law in any units; what the law excludes must not occur, and
    what it leaves no choice about is certain."""
    counts, law = np.asarray(counts), np.asarray(law, float)
    assert not counts[law == 0].any()
    possible = law > 0
    if possible.sum() == 1:
        return 1.0
    expected = law[possible] / law.sum() * counts.sum()
    assert expected.min() >= 5, "too few draws for the test"
    return scipy.stats.chisquare(counts[possible], expected).pvalue

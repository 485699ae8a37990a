import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lightgcn_jax.diffusion import obstacles

PROGRAM = """
import numpy as np
import resource
from lightgcn_jax.allocator import keep_freed_memory

kept = keep_freed_memory()
huge_pages = 2**26 // 2**21
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**26, 1, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults < huge_pages // 2)
"""


def printed(**settings):
    """By a process whose arrays ask for no huge pages; each page taken anew is a fault."""
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | settings
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets up glibc")
def test_a_freed_block_is_used_again_without_new_pages():
    assert printed() == [b"True", b"True"]


def test_what_the_environment_sets_up_is_left_alone():
    assert printed(MALLOC_MMAP_THRESHOLD_="4096") == [b"False", b"False"]


RELEASED = """
import numpy as np
from pathlib import Path
from lightgcn_jax.allocator import give_back_unused, keep_freed_memory

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

keep_freed_memory()
np.full(2**27, 1, np.uint8)
kept = resident_pages()
give_back_unused()
print(kept - resident_pages() > 0.9 * 2**27 / 4096)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets up glibc")
def test_pages_that_hold_nothing_go_back_when_asked_for():
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", RELEASED]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert ended.stdout.split() == [b"True"]


HUGE = """
import re
import numpy as np
from pathlib import Path
from lightgcn_jax.allocator import keep_freed_memory

keep_freed_memory()
kept = np.full(2**27, 1, np.uint8)
mapped = Path("/proc/self/smaps_rollup").read_text()
print(int(re.search(r"AnonHugePages:\\s+(\\d+)", mapped)[1]) > 2**16)
"""


def offers_huge_pages():
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return switch.exists() and "[never]" not in switch.read_text()


MULTIPLIED = """
import re
import jax.numpy as jnp
import numpy as np
from pathlib import Path
from lightgcn_jax.diffusion import operator_of
from lightgcn_jax.graph import CsrMatrix

rows = 2**18
swap = CsrMatrix(np.arange(rows + 1), np.arange(rows)[::-1], np.full(rows, 2.0), rows)
operator = operator_of(swap, backend="native")
x = jnp.ones((rows, 64))
y = (operator @ x).block_until_ready()
mapped = Path("/proc/self/smaps_rollup").read_text()
print(int(re.search(r"AnonHugePages:\\s+(\\d+)", mapped)[1]) > 2**15)
print(float(y.min()), float(y.max()))
"""


@pytest.mark.skipif(not offers_huge_pages(), reason="the system has no transparent huge pages")
@pytest.mark.skipif(obstacles("cpu")["native"] is not None, reason="native is not there")
def test_tables_that_are_multiplied_lie_on_huge_pages():
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", MULTIPLIED]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert ended.stdout.split() == [b"True", b"2.0", b"2.0"]


@pytest.mark.skipif(not offers_huge_pages(), reason="the system has no transparent huge pages")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets up glibc")
def test_large_arrays_lie_on_huge_pages():
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", HUGE]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert ended.stdout.split() == [b"True"]

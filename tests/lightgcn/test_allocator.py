import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import mmap
import numpy as np
import resource
from lightgcn_jax.allocator import keep_freed_memory

kept = keep_freed_memory()
pages = 2**26 // mmap.PAGESIZE
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**26, 1, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults < pages // 100)
"""


def printed(**settings):
    """By a process without huge pages, where each page that is taken anew is a fault."""
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

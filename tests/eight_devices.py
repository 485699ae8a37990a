"""Programs of the tests that run on eight devices, which one processor pretends to have."""

import json
import subprocess
import sys


def found_by(module, folder, *names):
    """What a module of the tests prints at its end, as JSON.

    Args:
        module: its name; it asks for the devices itself.
        folder: where it may write.
        names: of what it is to find.
    """
    command = [sys.executable, "-m", module, str(folder), *names]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout.strip().splitlines()[-1])

"""Test the priority of a process with a session of its own: lower than before, also among sessions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from shared.process.priority import lower_priority
lower_priority(7)
print(os.nice(0))
"""
AUTOGROUP = Path("/proc/self/autogroup")


def run(code: str) -> str:
    """Return the output of Python code that runs in a session of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True, timeout=20
    ).stdout


def test_a_process_becomes_nicer() -> None:
    assert int(run(CODE)) == min(os.nice(0) + 7, 19)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="Sessions are no groups here.")
def test_its_session_becomes_nicer_too() -> None:
    assert run(CODE + f"print(open({str(AUTOGROUP)!r}).read())").rstrip().endswith("nice 7")

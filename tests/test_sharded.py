"""A sharded execution runs a fit and its implicit derivative, equal to one device's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_devices_equal_one():
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "sharding.py"],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(here.parent)},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("sharded over 2 devices") == 2, done.stdout

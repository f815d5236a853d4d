"""Timing, subprocesses, tables and the record that every benchmark shares."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

HERE = Path(__file__).parent


def seconds(run: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """First call, and the median of the calls after it."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return times[0], statistics.median(times[1:])


def groups(n: int, d: int, k: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """Overlapping groups, in slices, so that making them needs no more memory than they do."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(k, d))
    x = np.empty((n, d), dtype)
    for first in range(0, n, 100_000):
        part = x[first : first + 100_000]
        part[:] = rng.normal(size=part.shape) + centres[rng.integers(k, size=len(part))]
    return x


def in_subprocess(code: str, *arguments: str, repeats: int = 1, **environment: str) -> list[dict]:
    """What a fresh interpreter prints as JSON on its last line, with its wall time.

    Byte code is kept, as it is of an installed package.
    """
    environment = {"PYTHONDONTWRITEBYTECODE": "", **environment}
    results = []
    for _ in range(repeats):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE.parent,
            env={**os.environ, **environment},
        )
        wall = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        results.append({**json.loads(done.stdout.splitlines()[-1]), "wall": wall})
    return results


def print_table(title: str, rows: list[dict]) -> None:
    """Aligned columns."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[_text(row.get(name, "")) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    sys.stdout.flush()


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def record(results: dict[str, list[dict]], device: str) -> dict:
    """The results with machine, versions and commit."""
    names = (
        "jax",
        "jaxlib",
        "optax",
        "scikit-learn",
        "gmmx",
        "ott-jax",
        "pomegranate",
        "torch",
        "numpy",
    )
    versions = {}
    for name in ("otmix_jax", *names):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False, cwd=HERE,
    )  # fmt: skip
    return {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} {platform.machine()} cores, {device}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip(),
        "results": results,
    }

"""Digits of the loss against extended precision, where squares would cancel."""

import pytest

from benchmarks.accuracy import LIMIT, errors

GRID = [
    pytest.param(separation, condition, dtype, id=f"{separation:.0e}-{condition:.0e}-{dtype}")
    for dtype, conditions in (("float64", (1, 1e4, 1e12)), ("float32", (1, 1e4)))
    for condition in conditions
    for separation in (1, 30, 1e6)
]


@pytest.mark.parametrize(("separation", "condition", "dtype"), GRID)
def test_the_guard_keeps_the_digits(separation, condition, dtype):
    error = errors(separation, condition, dtype)
    assert error["guarded"] < LIMIT[dtype]
    assert error["guarded"] in (error["moment"], error["reference"]), "one of the two, as it is"


def test_the_moment_kernel_alone_would_lose_them():
    """What the guard is for."""
    assert errors(1e6, 1.0, "float64")["moment"] > 1e3 * LIMIT["float64"]

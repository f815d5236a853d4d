"""The table of a regression's coefficients."""

import dataclasses
import math
from typing import Any

import numpy as np

from ..model import Solution
from .errors import standard_errors


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """Estimates and how sure they are, a line each; NaN where there is no standard error.

    Attributes:
        component: of each line; -1 for effects that all components share.
        names: of each line.
        estimate: [m]
        standard_error: [m]
        z: [m] the estimate over its standard error; NaN for a dispersion parameter, which no
            hypothesis sets to 0.
        p: [m] the probability of a larger |z| under a normal law.
    """

    component: np.ndarray
    names: tuple[str, ...]
    estimate: np.ndarray
    standard_error: np.ndarray
    z: np.ndarray
    p: np.ndarray

    def __str__(self) -> str:
        heads = ("", "estimate", "std. error", "z", "p")
        columns = [list(self.names)] + [
            [_number(value, form) for value in values]
            for values, form in (
                (self.estimate, ".4f"),
                (self.standard_error, ".4f"),
                (self.z, ".2f"),
                (self.p, ".3g"),
            )
        ]
        widths = [max(map(len, [h, *c])) for h, c in zip(heads, columns, strict=True)]

        def line(cells: Any) -> str:
            first, *rest = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            return "  ".join([f"{first.strip():<{widths[0]}}", *rest])

        made, lines = list(zip(*columns, strict=True)), []
        for component in dict.fromkeys(self.component.tolist()):
            lines.append("shared" if component < 0 else f"component {component}")
            lines.append(line(heads))
            lines += [line(made[i]) for i in np.flatnonzero(self.component == component)]
        return "\n".join(lines)


def coefficients(
    solution: Solution,
    rows: Any,
    sample_weight: Any = None,
    *,
    robust: bool = False,
) -> Coefficients:
    """Coefficients of a mixture of regressions with standard errors, z and p by component.

    Standard errors are those of `standard_errors`: of the observed information of all parameters,
    proportions included. A dispersion parameter is given by its logarithm.

    Args:
        solution: of regressions, or of units of them.
        rows: those that were fitted; `rows.regression` remembers their names.
        sample_weight: as in the fit.
        robust: the sandwich.

    Raises:
        TypeError: for a family without coefficients.
    """
    errors = standard_errors(solution, rows, sample_weight, robust=robust)
    found, spread = _regression(solution.mixture), _regression(errors.leaves)
    count, width = found.coefficients.shape
    names = _names(getattr(rows, "names", ()), "x", width)
    shared = _names(getattr(rows, "shared_names", ()), "s", found.shared.shape[0])
    lines: list[tuple[int, str, Any, Any, bool]] = []

    def logarithm(which: int, at: Any) -> None:
        value, error = (np.asarray(getattr(one, found.dispersion))[at] for one in (found, spread))
        # a fixed one has no error; the delta method, for the logarithm
        lines.append((which, f"log({found.dispersion})", math.log(value), error / value, False))

    for j in range(count):
        own = zip(names, found.coefficients[j], spread.coefficients[j], strict=True)
        lines += [(j, *line, True) for line in own]
        if found.dispersion and not found.tied:
            logarithm(j, j)
    common = zip(shared, found.shared, spread.shared, strict=True)
    lines += [(-1, *line, True) for line in common]
    if found.dispersion and found.tied:
        logarithm(-1, ())
    which, named, estimate, error, tested = (
        np.array(column) for column in zip(*lines, strict=True)
    )
    # what was held has an error of 0, and is no estimate
    error = np.where(error > 0, error, np.nan)
    z = np.where(tested, estimate / error, np.nan)
    p = np.array([math.erfc(abs(value) / math.sqrt(2)) for value in z])
    return Coefficients(which, tuple(map(str, named)), estimate, error, z, p)


def _regression(mixture: Any) -> Any:
    """The regressions within units, or frozen ones."""
    components = mixture.components
    while not hasattr(type(components), "predictor") and hasattr(components, "inner"):
        components = components.inner
    if not hasattr(type(components), "predictor"):
        raise TypeError(f"{type(components).__name__} has no table of coefficients")
    return components


def _names(given: Any, letter: str, count: int) -> tuple[str, ...]:
    return tuple(given) if len(given) == count else tuple(f"{letter}{i}" for i in range(count))


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)

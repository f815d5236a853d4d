"""What commands say: JSON with all digits, or short tables."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import jax
import numpy as np

from ..core.status import Status
from ..fitting import Choice
from ..model import Mixture, Solution
from ..model.parameters import lines, parameters
from .tables import missing

LONGEST = 30
"""Lines of a table on the terminal; --json has all."""


def plain(value: Any) -> Any:
    """As JSON holds it: lists and numbers, null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(document: dict[str, Any]) -> None:
    """One document on standard output."""
    print(json.dumps(plain(document), indent=1, allow_nan=False, ensure_ascii=False))


def described(mixture: Mixture) -> dict[str, Any]:
    """A mixture as JSON: every parameter by its name, of all components."""
    return {
        "family": str(mixture.components.described()),
        "n_components": mixture.n_components,
        "n_parameters": mixture.n_parameters,
        "parameters": {one.name: one.value for one in parameters(mixture)},
    }


def outcome(solution: Solution, total: float) -> dict[str, Any]:
    """How a fit went, as JSON."""
    status, likelihood = Status(int(solution.status)), float(solution.log_likelihood(total))
    return {
        "status": status.name,
        "remedy": status.remedy,
        "value": float(solution.value),
        "objective": float(solution.objective),
        "log_likelihood": likelihood,
        "aic": -2 * likelihood + 2 * solution.n_parameters,
        "bic": float(solution.bic(total)),
        "n_steps": int(solution.n_steps),
        "aitken_gap": float(solution.certificate.aitken_gap),
    }


def candidates(choice: Choice) -> list[dict[str, Any]]:
    """The candidates of a choice, the best marked."""
    best = choice.best_candidate
    pairs = zip(choice.table, choice.candidates, strict=True)
    return [
        {"family": str(one.family), **record, "best": one is best}
        for record, one in pairs
    ]  # fmt: skip


def stream(to_error: bool = False) -> TextIO:
    """Where tables go: aside, where standard output is a file's."""
    return sys.stderr if to_error else sys.stdout


def print_outcome(out: TextIO, solution: Solution, total: float, names: Sequence[str]) -> None:
    """A few lines and a table of components."""
    found, mixture = outcome(solution, total), solution.mixture
    family = mixture.components.described()
    print(f"{family}, K = {mixture.n_components}: {found['status']}", file=out)
    print(
        f"log-likelihood {found['log_likelihood']:.4f}, {solution.n_parameters} parameters, "
        f"AIC {found['aic']:.2f}, BIC {found['bic']:.2f}",
        file=out,
    )
    print_components(out, mixture, names)


def print_components(out: TextIO, mixture: Mixture, names: Sequence[str]) -> None:
    """A line for each parameter, a column for each component, and one for what all share."""
    found: dict[str, dict[int, str]] = {}
    for line in lines(mixture, names):
        found.setdefault(line.name, {})[line.component] = f"{line.value:.4g}"
    places = list(range(mixture.n_components))
    head = ["", *map(str, places)]
    if any(-1 in cells for cells in found.values()):
        places, head = [*places, -1], [*head, "all"]
    shown = list(found.items())[:LONGEST]
    print_grid(out, head, [[name, *(c.get(j, "") for j in places)] for name, c in shown])
    if len(found) > LONGEST:
        print(f"and {len(found) - LONGEST} more parameters: --json has them all", file=out)


def print_grid(out: TextIO, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: text on the left, numbers on the right."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip(), file=out)


def print_candidates(out: TextIO, choice: Choice) -> None:
    """The table of a choice."""
    print(choice, file=out)


def agreement(labels: np.ndarray, component: np.ndarray) -> dict[str, Any]:
    """Known classes against components: the adjusted Rand index, and the table of counts.

    Rows without a class are left out.

    Source: Hubert and Arabie (1985), Journal of Classification 2, equation 5.
    """
    there = ~missing(labels)
    names, row = np.unique(labels[there].astype(str), return_inverse=True)
    count = np.zeros((len(names), int(component.max(initial=0)) + 1), np.int64)
    np.add.at(count, (row, component[there]), 1)
    pairs = [np.sum(c * (c - 1)) / 2 for c in (count, count.sum(1), count.sum(0))]
    n = count.sum()
    expected = pairs[1] * pairs[2] / (n * (n - 1) / 2) if n > 1 else 0.0
    most = (pairs[1] + pairs[2]) / 2
    index = 1.0 if most == expected else (pairs[0] - expected) / (most - expected)
    return {
        "adjusted_rand_index": float(index),
        "rows": int(n),
        "table": {name: line.tolist() for name, line in zip(names.tolist(), count, strict=True)},
    }


def print_agreement(out: TextIO, found: dict[str, Any]) -> None:
    """The table of classes and components."""
    print(
        "known labels, which the fit did not see: adjusted Rand index "
        f"{found['adjusted_rand_index']:.4f} over {found['rows']} rows",
        file=out,
    )
    width = max(map(len, found["table"].values()), default=0)
    rows = [[name, *map(str, line)] for name, line in found["table"].items()]
    print_grid(out, ["label", *map(str, range(width))], rows)

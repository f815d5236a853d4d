"""Mixtures and solutions as a console and a notebook show them."""

from typing import Any

import numpy as np

from ..core.display import (
    MOST,
    bar,
    batch_of,
    brief,
    escaped,
    harmless,
    known,
    law,
    optional,
    outcomes,
    page,
    status_line,
    table,
)
from .parameters import lines

LONGEST = 20
"""Components that a page has room for."""


@harmless
def mixture_line(mixture: Any) -> str:
    """Such as Mixture(2 x Gaussian(covariance=Full), d=2, weights=[0.36 0.64])."""
    batch = batch_of(mixture.log_weights)
    numbers = known(mixture.log_weights)
    weights = brief(mixture.log_weights if numbers is None else np.exp(numbers))
    shown = batch or f", weights={weights}"
    return f"{type(mixture).__name__}({law(mixture.components)}{shown})"


@harmless
def solution_line(solution: Any) -> str:
    """Such as Solution(CONVERGED, value=4.15538, n_steps=12, 2 x Gaussian(...), d=2)."""
    batch = batch_of(solution.mixture.log_weights)
    numbers = "" if batch else f"value={brief(solution.value)}, n_steps={brief(solution.n_steps)}, "
    ended = outcomes(solution.status)
    return f"{type(solution).__name__}({ended}, {numbers}{law(solution.mixture.components)}{batch})"


@optional
def mixture_page(mixture: Any) -> str:
    """The components by their weight, with what there is room for of their parameters."""
    return page(mixture_line(mixture), components_table(mixture))


@optional
def solution_page(solution: Any) -> str:
    """How it ended and what to do about it, above the components."""
    ended = status_line(solution.status)
    return page(solution_line(solution), ended, components_table(solution.mixture))


def components_table(mixture: Any) -> str:
    """A line for each component; nothing for a batch, or where no numbers are known yet."""
    if known(mixture.log_weights) is None or batch_of(mixture.log_weights):
        return ""
    rows: dict[int, dict[str, float]] = {}
    for line in lines(mixture):
        if line.component >= 0 and len(rows.setdefault(line.component, {})) <= MOST:
            rows[line.component][line.name] = line.value
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name != "weight"))
    weights: Any = np.exp(np.asarray(mixture.log_weights, float))
    order = np.argsort(-weights, kind="stable")[:LONGEST]
    body = [
        [str(j), bar(weights[j])] + [f"{rows[j][n]:.4g}" if n in rows[j] else "" for n in names]
        for j in order.tolist()
    ]
    more = len(weights) - len(order)
    note = escaped(f"and {more} more, of less weight") if more else ""
    return table(["component", "weight", *names], body) + note

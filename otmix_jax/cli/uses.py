"""`predict`, `score`, `sample`, `plan` and `info`: what a model says."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ..fitting import Choice
from ..model import plan as transport_plan
from . import reports, sessions
from .errors import Exit, Refusal
from .fits import _of_units, _weights, assignments, coupling
from .models import Model, read_model
from .tables import STANDARD, Table, read_table, write_table

GAP = 1e-5
"""How far the value of a plan may be from the optimum, relative to it or to a nat."""
SMALL = 1e-9
"""Of smaller gaps, rounding decides what is left."""


def predict(told: Any) -> int:
    """Components of rows, as a table or as JSON."""
    model, table = _both(told)
    rows = model.rows(table)
    shares = np.asarray(model.mixture.responsibilities(rows))
    found = assignments(shares, getattr(rows, "units", None), model.recipe)
    if told.probabilities:
        found |= {f"p{j}": column for j, column in enumerate(shares.T)}
    agreed = None
    if told.labels is not None:
        groups = model.recipe.groups if model.recipe else None
        labels = _of_units(table.column(told.labels), rows, table, groups)
        agreed = reports.agreement(labels, found["component"])
    if told.json:
        reports.print_json(found | ({} if agreed is None else {"labels": agreed}))
        if told.output == STANDARD:
            return Exit.OK
    write_table(found, told.output)
    if agreed and not told.json:
        reports.print_agreement(reports.stream(to_error=told.output == STANDARD), agreed)
    return Exit.OK


def score(told: Any) -> int:
    """Log-likelihood of rows that a model may not have seen."""
    if told.json and told.output == STANDARD:
        raise Refusal("--output - and --json share one stdout: keep one of them")
    model, table = _both(told)
    rows = model.rows(table)
    weights = _weights(table, told.weights, model.recipe.groups if model.recipe else None)
    density = np.asarray(model.mixture.log_prob(rows), np.float64)
    n = float(len(density) if weights is None else weights.sum())
    likelihood = float(density.sum() if weights is None else np.sum(weights * density))
    solution = model.solution
    parameters = solution.n_parameters if solution else model.mixture.n_parameters
    found = {
        "rows": len(density),
        "total_weight": n,
        "log_likelihood": likelihood,
        "mean_log_likelihood": likelihood / n,
        "n_parameters": parameters,
        "aic": -2 * likelihood + 2 * parameters,
        "bic": -2 * likelihood + parameters * np.log(n),
    }
    if told.output:
        write_table({"row": np.arange(len(density)), "log_prob": density}, told.output)
    if told.json:
        reports.print_json(found)
    else:
        out = reports.stream(to_error=told.output == STANDARD)
        print(
            f"log-likelihood {likelihood:.4f} of {len(density)} rows, {likelihood / n:.6f} each; "
            f"AIC {found['aic']:.2f}, BIC {found['bic']:.2f}",
            file=out,
        )
    return Exit.OK


def sample(told: Any) -> int:
    """Rows of the model's law, in the columns of its table."""
    sessions.begin(told)
    model = read_model(told.model)
    if model.recipe and (model.recipe.groups or model.recipe.formula):
        raise Refusal("rows of units and of regressions are drawn given others: sample in Python")
    rows, which = model.mixture.sample(jax.random.key(told.seed), told.rows, labels=True)
    found = _named(model, rows)
    if told.components:
        found["component"] = np.asarray(which)
    if told.json:
        reports.print_json(found)
    else:
        write_table(found, told.output, told.format)
    return Exit.OK


def _named(model: Model, rows: Any) -> dict[str, Any]:
    """Columns by name, codes as the categories that they stand for."""
    recipe = model.recipe
    if isinstance(rows, Mapping):
        parts = {
            part: np.asarray(x).reshape(told, -1) for part, x in rows.items() if (told := len(x))
        }
        order = recipe.parts if recipe and recipe.parts else tuple(parts)
        pairs = [(n, parts[p][:, i]) for p in order for i, n in enumerate(p.split("+"))]
    else:
        table = np.asarray(rows)
        table = table[:, None] if table.ndim == 1 else table
        names = model.names or tuple(f"x{i}" for i in range(table.shape[1]))
        pairs = list(zip(names, table.T, strict=True))
    levels = recipe.levels if recipe else {}
    return {
        name: np.array(levels[name], object)[column.astype(int)] if name in levels else column
        for name, column in pairs
    }


def plan(told: Any) -> int:
    """Mass between rows and components; with sizes prescribed, if they are."""
    if told.json and told.output == STANDARD:
        raise Refusal("--output - and --json share one stdout: keep one of them")
    model, table = _both(told)
    rows = model.rows(table)
    weights = _weights(table, told.weights, model.recipe.groups if model.recipe else None)
    found = transport_plan(
        model.mixture, rows, sample_weight=weights, coupling=coupling(told), epsilon=told.epsilon
    )
    if told.output:
        matrix = np.asarray(found.matrix)
        columns = {"row": np.arange(len(matrix))}
        write_table(columns | {f"p{j}": c for j, c in enumerate(matrix.T)}, told.output)
    gap = float(found.gap)
    summary = {
        "value": found.value,
        "gap": gap,
        "sizes": found.column_marginal,
        "weights": model.mixture.weights,
        "g": found.g,
    }
    if told.json:
        reports.print_json(summary)
    else:
        _print_plan(reports.stream(to_error=told.output == STANDARD), summary)
    return Exit.OK if gap <= GAP * max(1.0, abs(float(found.value))) else Exit.UNCONVERGED


def _print_plan(out: Any, found: dict[str, Any]) -> None:
    gap = max(found["gap"], SMALL)
    print(f"value {float(found['value']):.6f} nats per row, at most {gap:.0e} off", file=out)
    pairs = zip(np.asarray(found["weights"]), np.asarray(found["sizes"]), strict=True)
    rows = [[str(j), f"{weight:.4f}", f"{size:.4f}"] for j, (weight, size) in enumerate(pairs)]
    reports.print_grid(out, ["component", "weight", "size of the plan"], rows)


def info(told: Any) -> int:
    """What a file holds."""
    sessions.begin(told)
    model = read_model(told.model)
    note = {} if model.recipe is None else dataclasses.asdict(model.recipe)
    found: dict[str, Any] = {
        "kind": type(model.found).__name__,
        "recipe": note or None,
        "mixture": reports.described(model.mixture),
    }
    solution = model.solution
    if solution is not None:
        status = reports.Status(int(solution.status))
        found["status"], found["remedy"] = status.name, status.remedy
        found["negative_log_likelihood"] = solution.negative_log_likelihood
        found["n_steps"] = solution.n_steps
    if told.json:
        reports.print_json(found)
        return Exit.OK
    out = reports.stream()
    print(f"{found['kind']} of {found['mixture']['family']}", file=out)
    print(f"columns: {', '.join(model.names) or 'without names'}", file=out)
    if isinstance(model.found, Choice):
        reports.print_candidates(out, model.found)
    if solution is not None:
        nll = float(solution.negative_log_likelihood)
        print(
            f"{found['status']} after {int(solution.n_steps)} steps, {nll:.6f} nats per row",
            file=out,
        )
    reports.print_components(out, model.mixture, model.names)
    return Exit.OK


def _both(told: Any) -> tuple[Model, Table]:
    if told.model == STANDARD and told.data == STANDARD:
        raise Refusal("the model and the rows cannot both be standard input: name a file")
    sessions.begin(told)
    return read_model(told.model), read_table(told.data, told.format)

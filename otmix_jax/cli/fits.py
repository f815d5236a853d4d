"""`fit` and `select`."""

import time
from typing import Any

import jax
import numpy as np

from ..core.status import Status
from ..fitting import Choice, Goal, Starts
from ..fitting import fit as fit_one
from ..fitting import select as fit_many
from ..model import Solution
from ..solvers import Limits
from ..transport.couplings import Balanced, Coupling, Penalized, SemiRelaxed
from . import reports, sessions
from .errors import Exit, Refusal
from .models import Model, read_model
from .recipes import Recipe, Wish
from .tables import STANDARD, Table, check_place, is_text, read_table, write_table

MOST = 1000
"""Components that a range may name: a slip of the keyboard asks for more."""


def fit(told: Any) -> int:
    """One K, or the best of several by the criterion."""
    counts, covariances = _counts(told.components), _split(told.covariance)
    several = len(counts) > 1 or len(covariances) > 1
    return _work(told, counts, covariances, several, structures=("full",))


def select(told: Any) -> int:
    """All K and structures, ranked."""
    return _work(told, _counts(told.components), _split(told.covariance), True, structures=())


def _work(
    told: Any,
    counts: list[int],
    covariances: tuple[str, ...],
    several: bool,
    structures: tuple[str, ...],
) -> int:
    """Reads, fits, writes, reports."""
    _check_outputs(told)
    wish = _wish(told, covariances)
    sessions.begin(told)
    table = read_table(told.data, told.format)
    families, recipe = wish.families(table)
    rows, weights = recipe.rows(table), _weights(table, told.weights, told.groups)
    shared: dict[str, Any] = {
        "key": told.seed,
        "sample_weight": weights,
        "missing": "ignore" if wish.ignore_missing else None,
        "goal": Goal(told.epsilon, coupling(told), None, told.ridge),
        "starts": _starts(told),
        "limits": _limits(told),
        "time_limit": told.time_limit,
    }
    begun = time.perf_counter()
    with sessions.progress(told) as callback:
        if several:
            laws: Any = None if families == [None] else families
            law = {"covariance": structures or None} if laws is None else {"family": laws}
            found: Any = fit_many(
                rows, counts, criterion=told.criterion, callback=callback, **law, **shared
            )
        else:
            found = fit_one(rows, counts[0], family=families[0], callback=callback, **shared)
    seconds = time.perf_counter() - begun
    n = len(jax.tree.leaves(rows)[0])
    total = float(n if weights is None else weights.sum())
    return _deliver(told, Model(found, recipe), table, rows, total, seconds)


def _deliver(told: Any, model: Model, table: Table, rows: Any, total: float, seconds: float) -> int:
    """Files first: what follows may meet a closed pipe."""
    solution = model.solution
    assert solution is not None
    if told.output:
        model.save(told.output)
    labels = None if told.labels is None else table.column(told.labels)
    agreed = None
    if told.assignments or labels is not None:
        shares = np.asarray(solution.mixture.responsibilities(rows))
        if told.assignments:
            assigned = assignments(shares, getattr(rows, "units", None), model.recipe)
            write_table(assigned, told.assignments)
        if labels is not None:
            classes = _of_units(labels, rows, table, told.groups)
            agreed = reports.agreement(classes, shares.argmax(axis=1))
    taken = STANDARD in (told.output, told.assignments)
    if told.json:
        _print_json(told, model, table, total, seconds, agreed)
    elif not told.quiet:
        out = reports.stream(to_error=taken)
        if isinstance(model.found, Choice):
            reports.print_candidates(out, model.found)
        reports.print_outcome(out, solution, total, model.names)
        if agreed:
            reports.print_agreement(out, agreed)
    return _code(solution, told.time_limit, seconds)


def _print_json(
    told: Any, model: Model, table: Table, total: float, seconds: float, agreed: Any
) -> None:
    solution = model.solution
    assert solution is not None
    document = {
        "data": table.source,
        "rows": len(table),
        "total_weight": total,
        "columns": model.names,
        "seed": told.seed,
        "seconds": seconds,
        **reports.outcome(solution, total),
        "mixture": reports.described(solution.mixture),
    }
    if isinstance(model.found, Choice):
        document["criterion"] = model.found.criterion
        document["candidates"] = reports.candidates(model.found)
    if agreed:
        document["labels"] = agreed
    reports.print_json(document)


def _code(solution: Solution, time_limit: float | None, seconds: float) -> int:
    status = Status(int(solution.status))
    if status == Status.INTERRUPTED and (time_limit is None or seconds < time_limit):
        return Exit.INTERRUPTED
    return Exit.OK if status == Status.CONVERGED else Exit.UNCONVERGED


def assignments(shares: np.ndarray, units: Any, recipe: Recipe | None) -> dict[str, Any]:
    """Columns of a table: the row or the unit, its component, and how probable that is."""
    if units is None:
        first: dict[str, Any] = {"row": np.arange(len(shares))}
    else:
        first = {(recipe and recipe.groups) or "unit": np.asarray(units)}
    return {**first, "component": shares.argmax(1), "probability": shares.max(1)}


def coupling(told: Any) -> Coupling:
    """The coupling that the options ask for.

    Raises:
        Refusal: for names and numbers that do not go together.
    """
    sizes = None if told.sizes is None else np.array([_number(s) for s in told.sizes.split(",")])
    name = told.coupling
    if name is None:
        name = "penalized" if told.rho is not None else "balanced" if sizes is not None else None
    if name in (None, "semi-relaxed"):
        if told.rho or sizes is not None:
            raise Refusal("--coupling semi-relaxed leaves sizes free: leave out --rho and --sizes")
        return SemiRelaxed()
    if name == "balanced":
        if told.rho not in (None, float("inf")):
            raise Refusal("--coupling balanced is --rho inf: leave out one of the two")
        return Balanced(sizes)
    if name != "penalized":
        raise Refusal(f"--coupling {name!r}: choose semi-relaxed, balanced or penalized")
    if told.rho is None:
        raise Refusal("--coupling penalized needs its strength: --rho 0.5, say")
    return Penalized(told.rho, sizes) if told.rho < float("inf") else Balanced(sizes)


def _check_outputs(told: Any) -> None:
    """Before anything long runs."""
    for path in (told.output, told.assignments):
        check_place(path)
    wanted = [told.output, told.assignments].count(STANDARD) + told.json
    if wanted > 1:
        raise Refusal("--output -, --assignments - and --json share one stdout: keep one of them")


def _wish(told: Any, covariances: tuple[str, ...]) -> Wish:
    if told.missing not in (None, "ignore"):
        raise Refusal(f"--missing {told.missing!r}: it can only be ignore, or be left out")
    options = dict(_option(pair) for pair in told.option or [])
    columns = None if told.columns is None else _split(told.columns)
    beside = tuple(name for name in (told.weights, told.labels) if name)
    told_columns = columns, told.formula, told.groups, beside
    return Wish(told.family, covariances, options, *told_columns, told.missing == "ignore")


def _option(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise Refusal(f"--option {pair!r}: write name=value")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refusal(f"--sizes holds {text!r}: write numbers, 0.2,0.8") from None


def _counts(text: str) -> list[int]:
    """K, "1:6" (both ends) or "2,3,5"."""
    try:
        parts = [[int(end) for end in part.split(":")] for part in text.split(",")]
        found = [k for ends in parts for k in range(ends[0], ends[-1] + 1)]
        if any(len(ends) > 2 for ends in parts) or not found or min(found) < 1:
            raise ValueError
    except ValueError:
        raise Refusal(f"--components {text!r}: write 3, a range 1:6, or 2,3,5") from None
    if len(found) > MOST:
        raise Refusal(f"--components {text!r} are {len(found)} numbers: name at most {MOST}")
    return list(dict.fromkeys(found))


def _starts(told: Any) -> Starts:
    initial = None if told.initial is None else read_model(told.initial).mixture
    return Starts(n_init=told.n_init, initial=initial)


def _limits(told: Any) -> Limits:
    given = {"tolerance": told.tolerance, "max_steps": told.max_steps}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _weights(table: Table, name: str | None, groups: str | None) -> np.ndarray | None:
    if name is None:
        return None
    if groups is not None:
        raise Refusal("--weights are of rows and --groups makes units of them: leave out one")
    column = table.column(name)
    if is_text(column):
        raise Refusal(f"--weights {name}: the column holds text; name a column of numbers")
    return column.astype(np.float64)


def _of_units(labels: np.ndarray, rows: Any, table: Table, groups: str | None) -> np.ndarray:
    """The label of each unit, that of its first row; or of each row."""
    if groups is None:
        return labels
    units = table.column(groups).astype(str).tolist()
    return np.array([labels[units.index(str(unit))] for unit in rows.units], object)

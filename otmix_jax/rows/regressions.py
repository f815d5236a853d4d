"""Rows of regressions, from a formula and a table, or from arrays."""

from typing import Any

import numpy as np

from .named import Named
from .units import repeated


def regression(
    formula: str | None = None,
    frame: Any = None,
    *,
    y: Any = None,
    features: Any = None,
    offset: Any = None,
    trials: Any = None,
    shared: Any = None,
    groups: Any = None,
) -> Named:
    """Rows of a mixture of regressions.

    With a formula, columns come from the frame by R's rules (an intercept, dummy variables of
    categories, `a * b`, `log(a)`, `I(a**2)`), and `offset(...)` in it is no coefficient but part of
    the predictor. Else they are given as arrays.

    Args:
        formula: such as "seizures ~ treatment * log(day) + offset(log(hours))".
        frame: a data frame, or a dict of columns.
        y: [n] the response, where there is no formula.
        features: [n, p] with a column of ones for an intercept, where there is no formula.
        offset: [n], in the scale of the predictor; or a column's name.
        trials: [n] of a binomial response, which is then the number of successes; or a name.
        shared: the features whose effects all components share: a formula without a response,
            such as "treated" (no intercept), or an array [n, s].
        groups: [n] labels of units whose rows share a component, or a column's name.

    Returns:
        A dict of columns that `fit` takes; it remembers the names for `inference.coefficients`.

    Raises:
        ImportError: for a formula without the package formulaic.
        ValueError: for columns that are not of one length, or missing.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> frame = {"deaths": [3, 14], "total": [39, 116], "treated": [0, 1]}
        >>> rows = om.rows.regression("deaths ~ treated", frame, trials="total")
        >>> rows.names, rows["features"].tolist()
        (('Intercept', 'treated'), [[1.0, 0.0], [1.0, 1.0]])
    """
    if formula is None:
        if y is None or features is None:
            raise ValueError("give a formula and a frame, or y= and features=")
        table = np.asarray(features, float)
        table = table[:, None] if table.ndim == 1 else table
        columns: dict[str, Any] = {"y": np.asarray(y, float), "features": table}
        names = _names(features, "x", table.shape[1])
        response = str(getattr(y, "name", None) or "y")
    else:
        if y is not None or features is not None or frame is None:
            raise ValueError("with a formula, the frame has the response and the features")
        left, right = _matrices(formula, frame)
        if left.shape[1] != 1:
            raise ValueError(f"one response is needed, not {list(left.columns)}")
        columns, names = _of_formula(left, right)
        response = str(left.columns[0])
    if offset is not None:
        columns["offset"] = columns.get("offset", 0) + _column(offset, frame, "offset")
    if trials is not None:
        columns["trials"] = _column(trials, frame, "trials")
    shared_names: tuple[str, ...] = ()
    if shared is not None:
        columns["shared"], shared_names = _shared(shared, frame)
    _check_lengths(columns)
    rows = Named(columns, names, shared_names, response)
    return rows if groups is None else repeated(rows, _label(groups, frame))


def _names(features: Any, letter: str, count: int) -> tuple[str, ...]:
    named = getattr(features, "columns", None)
    return (
        tuple(map(str, named)) if named is not None else tuple(f"{letter}{i}" for i in range(count))
    )


def _of_formula(left: Any, right: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    named = [str(name) for name in right.columns]
    table = np.asarray(right, float)
    kept = [i for i, name in enumerate(named) if not name.startswith("offset(")]
    columns = {"y": np.asarray(left, float)[:, 0], "features": table[:, kept]}
    if len(kept) < len(named):
        columns["offset"] = np.delete(table, kept, axis=1).sum(axis=1)
    return columns, tuple(named[i] for i in kept)


def _matrices(formula: str, frame: Any) -> tuple[Any, Any]:
    made = _model_matrix(formula, frame)
    if not hasattr(made, "lhs"):
        raise ValueError(f"the formula needs a response, 'y ~ ...', not {formula!r}")
    return made.lhs, made.rhs


def _model_matrix(formula: str, frame: Any) -> Any:
    try:
        import formulaic
    except ImportError:
        raise ImportError(
            "a formula needs the package formulaic: pip install 'otmix_jax[formula]', or give y= "
            "and features= as arrays"
        ) from None
    if isinstance(frame, dict):
        import pandas

        frame = pandas.DataFrame(frame)
    # an offset is its own values, as a term of that name
    context = {"offset": lambda values: values}
    return formulaic.model_matrix(formula, frame, na_action="raise", context=context)


def _shared(shared: Any, frame: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(shared, str):
        # with an intercept, so that categories have one dummy variable less; then without it
        made = _model_matrix(shared, frame)
        kept = [i for i, name in enumerate(made.columns) if str(name) != "Intercept"]
        return np.asarray(made, float)[:, kept], tuple(str(made.columns[i]) for i in kept)
    table = np.asarray(shared, float)
    table = table[:, None] if table.ndim == 1 else table
    return table, _names(shared, "s", table.shape[1])


def _column(given: Any, frame: Any, what: str) -> np.ndarray:
    if isinstance(given, str):
        if frame is None or given not in frame:
            raise ValueError(f"{what}={given!r} is no column of the frame")
        given = frame[given]
    return np.asarray(given, float)


def _label(groups: Any, frame: Any) -> np.ndarray:
    if isinstance(groups, str):
        if frame is None or groups not in frame:
            raise ValueError(f"groups={groups!r} is no column of the frame")
        groups = frame[groups]
    return np.asarray(groups)


def _check_lengths(columns: dict[str, np.ndarray]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns need one length, not {lengths}")

"""`plot`: pictures of models, as files."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from .. import plot as draw
from ..fitting import Choice
from ..model import Mixture
from ..model import plan as transport_plan
from . import sessions
from .errors import Exit, Refusal
from .models import Model, read_model
from .tables import STANDARD, read_table

ROWS = ("mixture", "density", "uncertainty", "flows", "heat-map")
"""Kinds of rows under a model."""
RUNS = ("criterion", "convergence")
"""Kinds of the fit itself."""


def plot(told: Any) -> int:
    """Draws one kind of picture into a file."""
    if told.kind not in ROWS + RUNS:
        raise Refusal(f"--kind {told.kind!r}: choose from {', '.join(ROWS + RUNS)}")
    if told.model == STANDARD == told.data:
        raise Refusal("the model and the rows cannot both be standard input: name a file")
    if told.data is None and told.kind in ROWS and told.kind != "density":
        raise Refusal(f"--kind {told.kind} is of rows: name their file after the model's")
    mpl.use("Agg")
    sessions.begin(told)
    model = read_model(told.model)
    axes = _run_picture(model, told.kind) if told.kind in RUNS else _row_picture(model, told)
    figure = np.ravel(axes)[0].figure
    known = figure.canvas.get_supported_filetypes()
    if Path(told.output).suffix[1:].lower() not in known:
        raise Refusal(f"--output {told.output}: choose a suffix among {', '.join(sorted(known))}")
    try:
        figure.savefig(told.output, dpi=150)
    except OSError as error:
        raise Refusal(f"cannot write {told.output}: {error.strerror}; name another file") from None
    plt.close(figure)
    return Exit.OK


def _run_picture(model: Model, kind: str) -> Any:
    if kind == "criterion":
        if not isinstance(model.found, Choice):
            raise Refusal("--kind criterion is of several K: give a file of otmix-jax select")
        return draw.criterion(model.found)
    if model.solution is None:
        raise Refusal("--kind convergence is of a fit: the file holds a mixture alone")
    return draw.convergence(model.solution)


def _row_picture(model: Model, told: Any) -> Any:
    mixture, rows, names, labels = model.mixture, None, model.names, None
    if told.data is not None:
        table = read_table(told.data, told.format)
        rows = model.rows(table)
        labels = None if told.labels is None else table.column(told.labels).astype(str)
    plan = None if rows is None else transport_plan(mixture, rows)
    if told.kind == "flows":
        return draw.flows(plan, groups=labels)
    if told.kind == "heat-map":
        return draw.heat_map(plan)
    if told.columns:
        mixture, rows, names = _of_columns(model, mixture, rows, told.columns)
    shown = names if mixture.components.table and names else None
    if told.kind == "density":
        return draw.density(mixture, rows, columns=shown)
    # rows have the colours of all columns' plan, not of those that are drawn
    return getattr(draw, told.kind)(mixture, rows, plan=plan, columns=shown)


def _of_columns(
    model: Model, mixture: Mixture, rows: Any, wanted: str
) -> tuple[Mixture, Any, tuple[str, ...]]:
    """The law of some columns, and these of the rows."""
    names = tuple(name.strip() for name in wanted.split(","))
    if not mixture.components.table or not model.names:
        raise Refusal("--columns is of a model of one table: leave it out")
    for name in names:
        if name not in model.names:
            raise Refusal(f"the model has no column {name!r}: choose from {', '.join(model.names)}")
    at = [model.names.index(name) for name in names]
    return mixture.marginal(at), None if rows is None else rows[:, at], names

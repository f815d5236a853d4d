"""Rows and components, whatever the family."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree
from matplotlib.axes import Axes

from ..core.typing import AnyArray
from ..model import Mixture
from . import planes
from .canvas import PALE, RISING, called, colour, key, one, several, shades, thinned
from .looks import Look, columns_look, finish, look, parts, wrapped
from .scenes import Scene, scene
from .supports import densities, support

DRAWS = 2**15
"""Rows drawn to find the levels that hold a share of the probability: good to 0.3 %."""

WINDOW = 2000
"""Rows drawn to find where to look, where none are given."""


def mixture(
    model: Mixture,
    x: PyTree,
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    plan: Any = None,
    columns: Any = None,
    axes: Any = None,
    deviations: float = 2,
) -> Any:
    """Rows, coloured by their responsibilities, with the components, as the family wants them.

    Real rows of two columns are points under ellipses (or under the regions of highest density,
    where components are no ellipses); of one column a histogram under densities; of up to six all
    pairs. Counts and categories are bars, angles a circle, directions in space a map, three shares
    a triangle, regressions the response against a feature, products a panel for each part. All
    else is seen along the two principal axes of the rows.

    Args:
        model: the mixture.
        x: rows, as `Mixture.log_prob` takes them; those of weight 0 are left out. Of more than
            4000 a scatter plot shows 4000.
        sample_weight: [n] weights >= 0; None for equal ones.
        plan: a `Plan` or a matrix [n, k] that colours the rows instead of the responsibilities.
        columns: names of the columns; None takes those of a data frame.
        axes: where to draw: one for one panel, an array for several; None makes a figure.
        deviations: Mahalanobis radius of the ellipses. Regions are as probable as a Gaussian's
            ellipse of that radius in two columns: 86 % for 2.

    Returns:
        The axes: one, or an array [rows, columns] where the picture has several panels.

    Raises:
        ValueError: for rows that are not the mixture's, weights, names or axes that do not fit.
    """
    if not deviations > 0:
        raise ValueError(f"deviations must be > 0, not {deviations}")
    view = scene(model, x, sample_weight=sample_weight, plan=plan, columns=columns)
    return _draw(view, look, axes, deviations)


def _draw(view: Scene, chosen: Callable[[Scene], Look], axes: Any, deviations: float) -> Any:
    """The parts' pictures one after the other, each in its own panels."""
    views = parts(view)
    looks = [chosen(one) for one in views]
    shapes = [one.shape(view) for one, view in zip(looks, views, strict=True)]
    if len(views) == 1:
        panels = several(axes, shapes[0], looks[0].panel)
        looks[0].draw(panels, views[0], deviations)
    else:
        panels, at = several(axes, wrapped(sum(map(np.prod, shapes)))), 0  # type: ignore[arg-type]
        for each, own, shape in zip(looks, views, shapes, strict=True):
            size = int(np.prod(shape))
            mine = panels.flat[at : at + size].reshape(shape)
            at += size
            each.draw(mine, own, deviations)
        finish(panels, at)
    return panels[0, 0] if panels.size == 1 else panels


def density(
    model: Mixture,
    x: PyTree = None,
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    probability: tuple[float, ...] = (0.25, 0.5, 0.75, 0.95),
    columns: Any = None,
    axes: Any = None,
) -> Any:
    """The density: contours in two columns, else a curve for each column with its components'.

    A contour encloses the most likely region that holds the probability written on it.

    Args:
        model: the mixture.
        x: rows to draw with it, or None.
        sample_weight: [n] weights >= 0; None for equal ones.
        probability: of the regions, in (0, 1).
        columns: names of the columns; None takes those of a data frame.
        axes: as of `mixture`.

    Returns:
        The axes; see `mixture`. Families without densities of columns have its picture.

    Raises:
        ValueError: as of `mixture`, and for probabilities that are none.
    """
    shares = np.unique(np.asarray(probability, float))
    if not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"probability must lie in (0, 1), not {probability}")
    rows = model.sample(jax.random.key(0), WINDOW) if x is None else x
    view = scene(model, rows, sample_weight=sample_weight, columns=columns)
    view = dataclasses.replace(view, shown=x is not None)
    if view.width != 2 or support(view.components, 2) != "real":
        return _draw(view, columns_look, axes, 2.0)
    law = Mixture.from_weights(view.weights, view.components)  # without wrappers and noise
    levels = np.asarray(law.density_levels(law.sample(jax.random.key(1), DRAWS), shares), float)
    panel = several(axes, (1, 1))[0, 0]
    _contours(panel, view, shares, levels)
    return panel


def _contours(axes: Axes, view: Scene, shares: np.ndarray, levels: np.ndarray) -> None:
    if view.shown:
        at = view.x[thinned(len(view.x))]
        axes.scatter(at[:, 0], at[:, 1], s=6, color="0.6", linewidths=0, rasterized=len(at) > 1000)
    first, second = planes.window(view.x, 0.15)
    grid = np.column_stack([first.ravel(), second.ravel()])
    found = (densities(view.components, grid) @ view.weights).reshape(first.shape)
    # the outermost first: contour wants rising levels
    order = np.argsort(levels)
    names = {float(levels[i]): f"{shares[i]:.0%}" for i in order}
    lines = axes.contour(first, second, found, sorted(names), cmap=RISING, linewidths=1.6, zorder=2)
    axes.clabel(lines, fmt=names, fontsize="small")
    axes.set(xlabel=view.name(0), ylabel=view.name(1))


def uncertainty(
    model: Mixture,
    x: PyTree,
    *,
    sample_weight: Float[AnyArray, " n"] | None = None,
    plan: Any = None,
    columns: Any = None,
    axes: Axes | None = None,
) -> Axes:
    """How unsure the component of each row is: 1 - max_j P(j | x_i).

    Real rows of two columns are points, larger and darker where it is less sure; others are in the
    order of their uncertainty, coloured by the plan.

    Args:
        model: the mixture.
        x: rows, as `Mixture.log_prob` takes them; those of weight 0 are left out.
        sample_weight: [n] weights >= 0; None for equal ones.
        plan: as of `mixture`.
        columns: names of the columns; None takes those of a data frame.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: as of `mixture`.
    """
    view = scene(model, x, sample_weight=sample_weight, plan=plan, columns=columns)
    unsure = 1 - view.plan.max(axis=1)
    flat = view.width == 2 and support(view.components, 2) == "real"
    axes = one(axes)
    (_unsure_points if flat else _unsure_order)(axes, view, unsure)
    return axes


WORST = 0.5
"""The colour bar's end, unless a row is less sure: between two components nothing is worse."""


def _unsure_points(axes: Axes, view: Scene, unsure: np.ndarray) -> None:
    # the least sure on top, and among those that are drawn
    order = np.argsort(unsure)[thinned(len(unsure))]
    at, level = view.x[order], unsure[order]
    points = axes.scatter(
        at[:, 0],
        at[:, 1],
        c=level,
        s=8 + 60 * level / WORST,
        cmap=RISING,
        vmin=0,
        vmax=max(WORST, float(level.max())),
        linewidths=0.3,
        edgecolors="0.3",
        rasterized=len(at) > 1000,
    )
    axes.figure.colorbar(points, ax=axes, label="1 - largest responsibility")
    axes.set(xlabel=view.name(0), ylabel=view.name(1))


def _unsure_order(axes: Axes, view: Scene, unsure: np.ndarray) -> None:
    order = np.argsort(unsure)
    place = np.cumsum(view.share[order])
    drawn = thinned(len(order))
    colours, level = shades(view.plan[order])[drawn], unsure[order][drawn]
    axes.fill_between(place[drawn], level, color=PALE, linewidth=0)
    axes.scatter(place[drawn], level, c=colours, s=14, linewidths=0, rasterized=len(drawn) > 1000)
    for j in view.present:
        axes.scatter([], [], color=colour(j), label=called(j, float(view.weights[j])))
    axes.set(xlabel="share of the rows", ylabel="1 - largest responsibility", ylim=(-0.01, None))
    key(axes)

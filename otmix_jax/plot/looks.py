"""Which picture a family gets, by what it offers: a new family gets one by itself."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from . import lines, planes, responses, spheres
from .scenes import Scene, opened
from .supports import levels, outlined, support

PAIRS = 6
"""Columns up to which each pair has a panel; more are seen along their principal axes."""
ITEMS = 12
"""Items up to which each has a panel of bars; more are a heat map."""
WRAP = 2
"""Panels side by side."""


@dataclasses.dataclass(frozen=True)
class Look:
    """One kind of picture.

    Attributes:
        suits: whether it can show a scene of this support.
        shape: (rows, columns) of its panels.
        draw: (axes [rows, columns], scene, deviations).
        panel: width and height of one of several panels, in inches.
    """

    suits: Callable[[Scene, str], bool]
    shape: Callable[[Scene], tuple[int, int]]
    draw: Callable[[np.ndarray, Scene, float], None]
    panel: tuple[float, float] = (3.6, 3.0)


def parts(view: Scene) -> list[Scene]:
    """The scenes of a product's parts; of other families the scene itself."""
    inner = getattr(view.components, "parts", None)
    if not isinstance(view.x, dict) or not inner or set(inner) != set(view.x):
        return [view]
    found = []
    for name, part in inner.items():
        one = dataclasses.replace(view, components=part, x=view.x[name], names=(name,), alone=False)
        one = opened(part, one)
        if one.width > 1:
            one = dataclasses.replace(one, names=tuple(f"{name} {a}" for a in range(one.width)))
        found.extend(parts(one))
    return found


def look(view: Scene) -> Look:
    """The first picture that suits."""
    kind = support(view.components, view.width)
    return next(one for one in LOOKS if one.suits(view, kind))


def columns_look(view: Scene) -> Look:
    """A density for each column, where there are margins; else what `look` says."""
    real = support(view.components, view.width) == "real" and _has_margins(view)
    return COLUMNS if real else look(view)


def wrapped(n: int) -> tuple[int, int]:
    """Rows and columns for n panels."""
    return math.ceil(n / WRAP), min(n, WRAP)


def each_column(draw: Callable[[Axes, Scene], None]) -> Callable[[np.ndarray, Scene, float], None]:
    """A picture of one column, for each of them."""

    def of_all(axes: np.ndarray, view: Scene, deviations: float) -> None:
        del deviations
        for a in range(view.width):
            draw(axes.flat[a], view.column(a))
        finish(axes, view.width)

    return of_all


def finish(axes: np.ndarray, used: int) -> None:
    """Panels without a picture are blank; one key is enough for all."""
    for panel in axes.flat[used:]:
        panel.set_axis_off()
    keyed = [panel for panel in axes.flat[:used] if panel.get_legend() is not None]
    for panel in keyed[:-1] if used > 1 else ():
        panel.get_legend().remove()


def _has_margins(view: Scene) -> bool:
    if view.width == 1:
        return True
    try:
        for a in range(view.width):
            view.column(a)
    except TypeError:
        return False
    return bool(view.width)


def _per_column(view: Scene) -> tuple[int, int]:
    return wrapped(view.width)


def _alone(view: Scene) -> tuple[int, int]:
    del view
    return 1, 1


def _items(view: Scene) -> int:
    table = levels(view.components)
    return 0 if table is None else table.shape[1]


def _profile(axes: np.ndarray, view: Scene, deviations: float) -> None:
    del deviations
    for item in range(_items(view)):
        lines.profile(axes.flat[item], view, item)
    finish(axes, _items(view))


def _principal(axes: np.ndarray, view: Scene, deviations: float) -> None:
    points: Any = view.x if view.width and outlined(view.components) else _embedded(view)
    planes.principal(axes[0, 0], view, np.asarray(points, float), deviations)


def _embedded(view: Scene) -> np.ndarray:
    """Columns in which the distance of two rows means something, by the family's own word."""
    rows = {"x": view.x} | view.beside if view.beside else view.x
    try:
        return np.asarray(view.components.described().embed(rows))
    except (TypeError, KeyError):
        leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(rows)]
        return np.column_stack([leaf.reshape(len(leaf), -1) for leaf in leaves])


COLUMNS = Look(
    lambda view, kind: kind == "real" and view.width == 1, _per_column, each_column(lines.curve)
)
LOOKS = (
    Look(
        lambda view, kind: hasattr(view.components, "expected") and isinstance(view.x, dict),
        _alone,
        lambda axes, view, _: responses.response(axes[0, 0], view),
    ),
    Look(
        lambda view, kind: kind == "counts" and 0 < _items(view) <= ITEMS,
        lambda view: wrapped(_items(view)),
        _profile,
    ),
    Look(
        lambda view, kind: kind == "counts" and _items(view) > ITEMS,
        _alone,
        lambda axes, view, _: lines.profiles(axes[0, 0], view),
    ),
    Look(
        lambda view, kind: kind == "counts" and _has_margins(view),
        _per_column,
        each_column(lines.counts),
    ),
    Look(
        lambda view, kind: kind == "angles" and _has_margins(view),
        _per_column,
        each_column(spheres.circle),
    ),
    Look(
        lambda view, kind: kind == "directions" and view.width == 2,
        _alone,
        lambda axes, view, _: spheres.circle(axes[0, 0], view),
    ),
    Look(
        lambda view, kind: kind == "directions" and view.width == 3,
        _alone,
        lambda axes, view, deviations: spheres.globe(axes[0, 0], view, held(deviations)),
    ),
    Look(
        lambda view, kind: kind == "shares" and view.width == 3,
        _alone,
        lambda axes, view, deviations: spheres.triangle(axes[0, 0], view, held(deviations)),
    ),
    COLUMNS,
    Look(
        lambda view, kind: kind == "real" and view.width == 2,
        _alone,
        lambda axes, view, deviations: planes.plane(axes[0, 0], view, deviations),
    ),
    Look(
        lambda view, kind: kind == "real" and 2 < view.width <= PAIRS and view.alone,
        lambda view: (view.width, view.width),
        planes.pairs,
        (2.2, 2.0),
    ),
    Look(lambda view, kind: True, _alone, _principal),
)
"""In order: the first that suits is drawn. The last one shows anything that can be embedded."""


def held(deviations: float) -> float:
    """The probability of an ellipse of this radius, in two columns."""
    return float(-np.expm1(-0.5 * deviations**2))

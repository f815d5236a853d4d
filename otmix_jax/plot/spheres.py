"""Rows on curved sets: angles on a circle, directions on a sphere, shares on a triangle."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from .canvas import called, colour, dashes, key, scatter, tag
from .scenes import Scene
from .supports import densities

POINTS = 361
"""Of a curve around the circle."""
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
"""Of the triangle of three shares."""


def circle(axes: Axes, view: Scene) -> None:
    """Angles, or directions in the plane: rows in the circle, densities as curves around it."""
    flat = view.width == 1
    x = view.x[:, 0] if flat else np.arctan2(view.x[:, 1], view.x[:, 0])
    there = np.isfinite(x)
    angle = np.linspace(0, 2 * np.pi, POINTS)
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    parts = view.weights * densities(view.components, angle[:, None] if flat else points)
    # a density of 1 / (2 pi) per radian is that of no direction: half a radius out, if there is
    # nothing higher than five times that
    unit = 0.9 / max(parts.sum(axis=1).max(), 5 / (2 * np.pi) * 0.36)
    axes.plot(*points.T, color="0.6", linewidth=1)
    for j in view.present:
        name = called(j, float(view.weights[j]))
        outwards = points * (1 + unit * parts[:, j, None])
        axes.plot(*outwards.T, color=colour(j), ls=dashes(j), label=name)
    axes.plot(*(points * (1 + unit * parts.sum(axis=1)[:, None])).T, "k", lw=1.2, label="mixture")
    if view.shown:
        turned = x[there]
        # rows at one angle would hide each other
        inwards = 0.72 + 0.22 * np.random.default_rng(0).random(len(turned))
        rows = inwards[:, None] * np.column_stack([np.cos(turned), np.sin(turned)])
        scatter(axes, rows, view.plan[there], view.share[there], 10)
    for degrees in (0, 90, 180, 270):
        towards = np.radians(degrees)
        at = 0.5 * np.cos(towards), 0.5 * np.sin(towards)
        axes.annotate(f"{degrees}°", at, ha="center", va="center", color="0.4", fontsize="small")
    _bare(axes, view.name(0) if flat else f"{view.name(0)}, {view.name(1)}")
    key(axes, beside=True)


def _bare(axes: Axes, title: str) -> None:
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")


def hammer(longitude: np.ndarray, latitude: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Hammer's map of the sphere, which keeps areas; in radians, into an ellipse 4 by 2 wide.

    Source: Snyder (1987), Map Projections: a Working Manual, USGS 1395, p. 182.
    """
    scale = np.sqrt(1 + np.cos(latitude) * np.cos(longitude / 2))
    x = 2 * np.cos(latitude) * np.sin(longitude / 2) / scale
    return np.column_stack([x, np.sin(latitude) / scale])


def _on_map(x: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    return hammer(np.arctan2(x[:, 1], x[:, 0]), np.arcsin(np.clip(x[:, 2], -1, 1)))


def globe(axes: Axes, view: Scene, held: float) -> None:
    """Directions in space on an equal-area map, under each component's most likely region.

    The first axis is in the middle, the second a quarter turn to the right, the third on top.

    Args:
        axes: where to draw.
        view: of three columns.
        held: the probability of the regions.
    """
    line = np.linspace(-np.pi, np.pi, 181) * 0.9999
    for degrees in range(-60, 61, 30):
        at = hammer(line, np.full_like(line, np.radians(degrees)))
        axes.plot(*at.T, color="0.85", linewidth=0.7, zorder=0)
    for degrees in range(-180, 181, 60):
        at = hammer(np.full_like(line, 0.9999 * np.radians(degrees)), line / 2)
        axes.plot(*at.T, color="0.7" if abs(degrees) == 180 else "0.85", linewidth=0.7, zorder=0)
    if view.shown:
        scatter(axes, _on_map(view.x), view.plan, view.share)
    # of equal areas on the sphere, row by row: sin(latitude) is uniform there
    height, turn = np.meshgrid(np.linspace(-0.9999, 0.9999, 181), line, indexing="ij")
    across = np.sqrt(1 - height**2)
    grid = np.stack([across * np.cos(turn), across * np.sin(turn), height], axis=-1)
    found = densities(view.components, grid.reshape(-1, 3)).reshape(*height.shape, -1)
    on_map = hammer(turn.ravel(), np.arcsin(height).ravel()).reshape(*height.shape, 2)
    for j in view.present:
        _region(axes, on_map, found[..., j], j, held)
        peak = np.unravel_index(found[..., j].argmax(), height.shape)
        tag(axes, on_map[peak], f"{view.weights[j]:.0%}", colour(j))
    _bare(axes, f"({view.name(0)}, {view.name(1)}, {view.name(2)})")


def _region(axes: Axes, at: np.ndarray, density: np.ndarray, j: int, held: float) -> None:
    """The outline of where the density is highest, and which holds `held` of it."""
    level = level_of(density, held)
    if density.min() < level < density.max():
        shade = [colour(j)]
        axes.contour(at[..., 0], at[..., 1], density, [level], colors=shade, linestyles=[dashes(j)])


def level_of(density: np.ndarray, held: float) -> float:
    """The level above which lies this share of a density on cells of one size."""
    ordered = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(ordered)
    return float(ordered[np.searchsorted(mass, held * mass[-1]).clip(0, len(ordered) - 1)])


def triangle(axes: Axes, view: Scene, held: float) -> None:
    """Three shares as a point of a triangle, under each component's most likely region.

    Args:
        axes: where to draw.
        view: of three columns of sum 1.
        held: the probability of the regions.
    """
    axes.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.5", linewidth=1)
    aligned = (("right", "top"), ("left", "top"), ("center", "bottom"))
    for a, (across, up) in enumerate(aligned):
        axes.annotate(view.name(a), CORNERS[a], ha=across, va=up)
    if view.shown:
        scatter(axes, view.x @ CORNERS, view.plan, view.share)
    first, rest = np.meshgrid(*[(np.arange(160) + 0.5) / 160] * 2, indexing="ij")
    inside = first + rest < 1
    shares = np.column_stack([first[inside], rest[inside], 1 - first[inside] - rest[inside]])
    found = densities(view.components, shares)
    x, y = shares @ CORNERS @ np.eye(2)[0], shares @ CORNERS @ np.eye(2)[1]
    for j in view.present:
        level, shade = level_of(found[:, j], held), colour(j)
        if found[:, j].min() < level < found[:, j].max():
            style = {"colors": [shade], "linestyles": [dashes(j)]}
            axes.tricontour(x, y, found[:, j], [level], **style)
        mean = found[:, j] @ shares / found[:, j].sum()
        tag(axes, mean @ CORNERS, f"{view.weights[j]:.0%}", shade)
    _bare(axes, "")

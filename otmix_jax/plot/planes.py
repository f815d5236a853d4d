"""Real rows in two columns, in pairs of columns, and along their principal axes."""

import dataclasses

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from .canvas import called, colour, dashes, key, scatter, tag
from .lines import curve
from .scenes import Scene
from .spheres import level_of
from .supports import densities, outlined

CELLS = 160
"""Of a grid, in each direction."""


def ellipse(
    mean: Float[np.ndarray, " 2"], matrix: Float[np.ndarray, "2 2"], radius: float, j: int
) -> Ellipse:
    """Where the Mahalanobis distance to the mean is the radius."""
    lengths, directions = np.linalg.eigh(matrix)
    # of a singular matrix rounding may take one below 0
    width, height = 2 * radius * np.sqrt(np.maximum(lengths, 0))
    angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
    at, shade = (float(mean[0]), float(mean[1])), colour(j)
    style = {"fill": False, "color": shade, "linewidth": 2, "linestyle": dashes(j)}
    return Ellipse(at, width, height, angle=angle, **style)


def plane(axes: Axes, view: Scene, deviations: float, tags: bool = True) -> None:
    """Rows coloured by the plan, under an outline of each component.

    An ellipse where components have scale matrices; else the region of highest density that is as
    probable as a Gaussian's ellipse.
    """
    if view.shown:
        scatter(axes, view.x, view.plan, view.share)
    outlines = outlined(view.components)
    for j in view.present:
        shade = colour(j)
        if j in outlines:
            mean, matrix = outlines[j]
            axes.add_patch(ellipse(mean, matrix, deviations, j))
            if tags:
                tag(axes, mean, f"{view.weights[j]:.0%}", shade)
    if not outlines and hasattr(view.components, "cost"):
        _regions(axes, view, deviations, tags)
    axes.autoscale_view()
    axes.set(xlabel=view.name(0), ylabel=view.name(1))


def window(x: Float[np.ndarray, "n 2"], margin: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    """The grid of a plane about the rows: two arrays [cells, cells]."""
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    spare = margin * np.where(high > low, high - low, 1)
    first, second = (np.linspace(low[a] - spare[a], high[a] + spare[a], CELLS) for a in (0, 1))
    return np.meshgrid(first, second)


def _regions(axes: Axes, view: Scene, deviations: float, tags: bool) -> None:
    """Outlines of highest density regions; nothing of components that are flat where rows are."""
    held = 1 - np.exp(-0.5 * deviations**2)
    first, second = window(view.x)
    grid = np.column_stack([first.ravel(), second.ravel()])
    found = densities(view.components, grid)
    for j in view.present:
        density = found[:, j].reshape(first.shape)
        level = level_of(density, held)
        if not density.min() < level < density.max():
            continue
        shade = colour(j)
        style = {"colors": [shade], "linewidths": 2, "linestyles": [dashes(j)]}
        axes.contour(first, second, density, [level], **style)
        if tags:
            peak = grid[density.argmax()]
            tag(axes, peak, f"{view.weights[j]:.0%}", shade)


def pairs(axes: np.ndarray, view: Scene, deviations: float) -> None:
    """Below the diagonal each pair of columns, on it each column's density.

    Args:
        axes: [d, d].
        view: of d columns.
        deviations: radius of the ellipses.
    """
    d = view.width
    for row in range(d):
        for column in range(d):
            panel = axes[row, column]
            if column > row:
                panel.set_axis_off()
                continue
            if column == row:
                _diagonal(panel, view, column)
            else:
                plane(panel, _pair(view, column, row), deviations, tags=False)
            panel.set_xlabel(view.name(column) if row == d - 1 else "")
            panel.set_ylabel(view.name(row) if column == 0 and row else "")
            panel.tick_params(labelbottom=row == d - 1, labelleft=column == 0 and row > 0)
    present = view.present
    lines = [Line2D([], [], color=colour(j), ls=dashes(j), lw=2) for j in present]
    names = [called(j, float(view.weights[j])) for j in present]
    axes[0, 1].legend(lines, names, loc="upper left", frameon=False)


def _diagonal(axes: Axes, view: Scene, a: int) -> None:
    try:
        own = view.column(a)
    except TypeError:  # no margins: the rows alone
        axes.hist(view.x[:, a], weights=view.share, density=True, color="0.85")
        return
    curve(axes, own)
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    axes.set_yticks([])


@dataclasses.dataclass(frozen=True)
class Shadow:
    """Centres and scale matrices in two directions, NaN of components without; no density.

    Attributes:
        mean: [k, 2]
        scale: [k, 2, 2]
        n_components: k.
    """

    mean: np.ndarray
    scale: np.ndarray
    n_components: int

    def matrices(self) -> np.ndarray:
        """[k, 2, 2]"""
        return self.scale


def _shadow(view: Scene, axis: Float[np.ndarray, "d 2"]) -> Shadow:
    """Ellipsoids seen along the other directions: exact, as outlines of elliptical laws are."""
    k = len(view.weights)
    mean, scale = np.full((k, 2), np.nan), np.full((k, 2, 2), np.nan)
    for j, (centre, matrix) in outlined(view.components).items():
        mean[j], scale[j] = centre @ axis, axis.T @ matrix @ axis
    return Shadow(mean, scale, k)


def _pair(view: Scene, first: int, second: int) -> Scene:
    """The scene of two columns."""
    which = [first, second]
    if outlined(view.components):
        components = _shadow(view, np.eye(view.width)[:, which])
    else:
        try:
            components = view.components.marginal(which)
        except TypeError:
            components = _nothing(len(view.weights))
    names = tuple(view.name(a) for a in which)
    return dataclasses.replace(view, components=components, x=view.x[:, which], names=names)


def _nothing(k: int) -> Shadow:
    return Shadow(np.full((k, 2), np.nan), np.full((k, 2, 2), np.nan), k)


def principal(axes: Axes, view: Scene, points: Float[np.ndarray, "n e"], deviations: float) -> None:
    """Rows along their two principal axes, each column in its own deviation, under the
    components' shadows.

    Args:
        axes: where to draw.
        view: the scene.
        points: [n, e] the rows as columns in which distances mean something.
        deviations: radius of the ellipses.
    """
    points = np.where(np.isfinite(points), points, np.nan)
    centre = np.nan_to_num(np.nanmean(points, axis=0))
    # a missing cell stands at the mean of the others
    about = np.where(np.isnan(points), 0, points - centre)
    unit = np.sqrt(view.share @ about**2)
    unit = np.where(unit > 0, unit, 1)
    spread = np.einsum("n,na,nb->ab", view.share, about / unit, about / unit)
    values, vectors = np.linalg.eigh(spread)
    axis = vectors[:, ::-1][:, :2] / unit[:, None]
    # the sign of an axis is arbitrary: its largest entry is positive
    axis = axis * np.sign(axis[np.abs(axis).argmax(axis=0), range(axis.shape[1])])
    flat = _shadow(view, axis) if view.width == len(axis) > 1 else _nothing(len(view.weights))
    moved = dataclasses.replace(flat, mean=flat.mean - centre @ axis) if len(axis) > 1 else flat
    at = about @ axis
    at = at if at.shape[1] == 2 else np.column_stack([at, np.zeros(len(at))])
    share = values[::-1][:2] / max(values.sum(), np.finfo(float).tiny)
    names = tuple(f"principal axis {a + 1} ({s:.0%})" for a, s in enumerate(share))
    plane(axes, dataclasses.replace(view, components=moved, x=at, names=names), deviations)
    if not outlined(moved):
        for j in view.present:
            axes.scatter([], [], color=colour(j), label=called(j, float(view.weights[j])))
        key(axes)

"""Axes, colours and labels that all pictures share."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

COLOURS = np.array(
    [
        [0.00, 0.45, 0.70],
        [0.84, 0.37, 0.00],
        [0.00, 0.62, 0.45],
        [0.80, 0.47, 0.65],
        [0.90, 0.62, 0.00],
        [0.34, 0.71, 0.91],
        [0.35, 0.35, 0.35],
    ]
)
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
DASHES = ("-", "--", ":", "-.")
"""Of component 0 to 6, 7 to 13, and so on: a colour that comes again has another line."""
PALE = "0.85"
"""The grey of what stands behind: rows as a histogram."""
MOST_POINTS = 4000
"""Rows that a scatter plot shows; of more it shows so many, drawn with a fixed seed."""
RASTER = 1000
"""From so many points on they are a bitmap in vector files, which stay small."""
RISING = LinearSegmentedColormap.from_list(
    "rising", colormaps["cividis_r"](np.linspace(0.25, 1, 64))
)
"""From pale to dark, and never as pale as the ground."""


def palette(k: int) -> Float[np.ndarray, "k 3"]:
    """A colour for each component."""
    return COLOURS[np.arange(k) % len(COLOURS)]


def colour(j: int) -> tuple[float, float, float]:
    """Of component j."""
    red, green, blue = COLOURS[j % len(COLOURS)].tolist()
    return red, green, blue


def dashes(j: int) -> str:
    """The line style of component j."""
    return DASHES[j // len(COLOURS) % len(DASHES)]


def shades(plan: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 3"]:
    """A colour for each row: the components' colours, mixed by its responsibilities."""
    # clip: rounding may take a colour past 1, which matplotlib refuses
    return np.clip(plan @ palette(plan.shape[1]), 0, 1)


def one(axes: Axes | None, size: tuple[float, float] = (6.0, 4.2)) -> Axes:
    """These axes, or those of a new figure."""
    return axes if axes is not None else plt.subplots(figsize=size, layout="constrained")[1]


def several(
    axes: Any, shape: tuple[int, int], panel: tuple[float, float] = (3.6, 3.0)
) -> np.ndarray:
    """An array [rows, columns] of axes: of a new figure, or those given.

    Raises:
        ValueError: for another number of axes.
    """
    rows, columns = shape
    if axes is None:
        # one panel alone has the size of a figure
        width, height = (6.0, 4.2) if shape == (1, 1) else (columns * panel[0], rows * panel[1])
        return plt.subplots(
            rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
        )[1]
    given = np.array(axes, dtype=object)
    if given.size != rows * columns:
        raise ValueError(
            f"this picture has {rows} x {columns} panels, and axes= holds {given.size}: give "
            f"plt.subplots({rows}, {columns})[1], or leave axes out"
        )
    return given.reshape(shape)


def thinned(n: int) -> np.ndarray:
    """Which of n rows a scatter plot shows: all, or `MOST_POINTS` of them, in order."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False))


def scatter(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    plan: Float[np.ndarray, "n k"],
    share: Float[np.ndarray, " n"],
    size: float = 14,
) -> None:
    """Rows as points coloured by the plan, their areas by their weights."""
    drawn = thinned(len(points))
    points, plan, share = points[drawn], plan[drawn], share[drawn]
    # many rows overlap: smaller and paler
    size = size * min(1.0, max(0.3, (600 / max(len(points), 1)) ** 0.5))
    areas = size * np.clip(share / max(share.mean(), 1e-300), 0.15, 8)
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=areas,
        c=shades(plan),
        linewidths=0,
        alpha=0.8 if len(points) <= RASTER else 0.5,
        rasterized=len(points) > RASTER,
    )


def tag(axes: Axes, at: Sequence[float] | np.ndarray, text: str, shade: Any) -> None:
    """A few letters on a white ground, in the middle of `at`."""
    axes.annotate(
        text,
        (float(at[0]), float(at[1])),
        color=shade,
        weight="bold",
        ha="center",
        va="center",
        bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
    )


def key(axes: Axes, beside: bool = False, headroom: bool = False) -> None:
    """A legend of what has a name.

    Args:
        axes: of what was drawn.
        beside: whether it stands beside the axes, as it does of many names.
        headroom: whether room is made for it above what was drawn, so that it covers nothing.
    """
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    columns = 2 if headroom and len(names) > 2 else 1
    where: dict[str, Any] = {"loc": "best", "ncols": columns}
    if beside or len(names) > 8:
        where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    elif headroom:
        low, high = axes.get_ylim()
        axes.set_ylim(low, low + (high - low) * (1.04 + 0.085 * -(-len(names) // columns)))
        where["loc"] = "upper center"
    tight = {"columnspacing": 0.8, "handlelength": 1.1, "handletextpad": 0.5}
    axes.legend(handles, names, frameon=False, fontsize="small", **tight, **where)


def called(j: int, weight: float | None = None) -> str:
    """What a legend says of a component."""
    return f"component {j}" if weight is None else f"component {j}, {weight:.0%}"

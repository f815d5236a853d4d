"""A plan between rows and components: as flows of mass, and as a heat map."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from .canvas import called, one, palette
from .scenes import mass_of, row_shares

STRANDS = 40
"""Groups of consecutive rows that flows are drawn of, where no groups are given."""
GAP = 0.03
"""Of the whole height: between two blocks."""
BLOCK = 0.04
"""How wide blocks are; the picture has width 1."""
LINES = 1000
"""Lines of a heat map: of more rows, neighbours are averaged."""


def _order(mass: Float[np.ndarray, "n k"]) -> np.ndarray:
    """Rows by their largest component, and in it from sure to unsure."""
    share = row_shares(mass)
    label = share.argmax(axis=1)
    return np.lexsort((-share.max(axis=1), label))


def flows(plan: Any, *, groups: Any = None, names: Any = None, axes: Axes | None = None) -> Axes:
    """A plan as flows: ribbons from groups of rows to components, as wide as the mass they carry.

    Args:
        plan: a `Plan` (`om.plan`), or a matrix [n, k] of mass.
        groups: [n] a label for each row, such as a known class; None makes up to 40 groups of
            neighbours, by component and from sure to unsure.
        names: [k] of the components.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for what is no plan, and labels or names of another number.
    """
    mass = mass_of(plan)
    titles = _names(names, mass.shape[1])
    blocks, labels = _blocks(mass, groups)
    axes = one(axes, (6.0, 4.6))
    sources, targets = blocks.sum(axis=1), blocks.sum(axis=0)
    whole = blocks.sum()
    gap = GAP * whole
    left, right = _tops(sources, gap if groups is not None else 0.15 * gap), _tops(targets, gap)
    # both sides have one middle
    left, right = left - left[-1] / 2, right - right[-1] / 2
    leaves, arrives = left[:-1].copy(), right[:-1].copy()
    colours = palette(mass.shape[1])
    for g, j in np.ndindex(*blocks.shape):
        width = float(blocks[g, j])
        if width > 0:
            axes.add_patch(_ribbon(float(leaves[g]), float(arrives[j]), width, colours[j]))
        leaves[g] += width
        arrives[j] += width
    _bars(axes, -BLOCK, left, sources, np.full((len(sources), 3), 0.4))
    _bars(axes, 1.0, right, targets, colours)
    for top, size, text in zip(left, sources, labels, strict=False):
        axes.text(-1.5 * BLOCK, top + size / 2, text, ha="right", va="center")
    for top, size, text in zip(right, targets, titles, strict=False):
        if size > 0:
            share = f"{text}: {size / whole:.0%}"
            axes.text(1 + 1.5 * BLOCK, top + size / 2, share, ha="left", va="center")
    ends = min(left[0], right[0]), max(left[-1], right[-1])
    longest = max(map(len, labels), default=0)
    axes.set(xlim=(-0.08 - 0.022 * longest, 1.42), ylim=(ends[1], ends[0]))
    axes.set_axis_off()
    return axes


def _names(names: Any, k: int) -> list[str]:
    found = [called(j) for j in range(k)] if names is None else list(map(str, names))
    if len(found) != k:
        raise ValueError(f"names= has {len(found)} names, and there are {k} components")
    return found


def _blocks(mass: Float[np.ndarray, "n k"], groups: Any) -> tuple[np.ndarray, list[str]]:
    """The mass [groups, k], and the groups' names: none for strands of rows."""
    if groups is None:
        kept = mass[mass.sum(axis=1) > 0]
        parts = np.array_split(kept[_order(kept)], min(STRANDS, len(kept)))
        return np.stack([part.sum(axis=0) for part in parts]), []
    labels = np.asarray(groups)
    if labels.shape != (len(mass),):
        raise ValueError(f"groups= has shape {labels.shape}, and the plan {len(mass)} rows")
    found, which = np.unique(labels, return_inverse=True)
    blocks = np.zeros((len(found), mass.shape[1]))
    np.add.at(blocks, which, mass)
    kept = blocks.sum(axis=1) > 0
    return blocks[kept], [str(name) for name in found[kept]]


def _tops(sizes: np.ndarray, gap: float) -> np.ndarray:
    """Where blocks begin, and where the last one ends."""
    spaced = np.append(0, np.cumsum(sizes + gap * (sizes > 0)))
    spaced[-1] -= gap
    return spaced


def _ribbon(start: float, end: float, width: float, colour: np.ndarray) -> PathPatch:
    """A band from x = 0 to x = 1 of one width, whose ends are level."""
    points = [
        *((0, start), (0.5, start), (0.5, end), (1, end)),
        *((1, end + width), (0.5, end + width), (0.5, start + width), (0, start + width)),
        (0, start),
    ]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    return PathPatch(Path(points, codes), facecolor=colour, alpha=0.55, linewidth=0)


def _bars(axes: Axes, x: float, tops: np.ndarray, sizes: np.ndarray, colours: np.ndarray) -> None:
    for top, size, colour in zip(tops, sizes, colours, strict=False):
        axes.add_patch(Rectangle((x, top), BLOCK, size, color=colour, linewidth=0))


def heat_map(plan: Any, *, names: Any = None, axes: Axes | None = None) -> Axes:
    """A plan as a heat map: each row's shares of the components.

    Rows are in the order of their largest share: by component, and from sure to unsure. Rows
    without mass are left out; of more than 1000, neighbours are averaged.

    Args:
        plan: a `Plan` (`om.plan`), or a matrix [n, k] of mass.
        names: [k] of the components.
        axes: where to draw; a new figure by default.

    Raises:
        ValueError: for what is no plan, and names of another number.
    """
    mass = mass_of(plan)
    titles = _names(names, mass.shape[1])
    sizes = mass.sum(axis=0) / mass.sum()
    kept = mass[mass.sum(axis=1) > 0]
    kept, n = kept[_order(kept)], len(kept)
    if n > LINES:
        kept = np.stack([part.sum(axis=0) for part in np.array_split(kept, LINES)])
    axes = one(axes, (5.0, 4.6))
    k = mass.shape[1]
    image = axes.imshow(
        row_shares(kept),
        aspect="auto",
        cmap="cividis",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(-0.5, k - 0.5, n, 0),
    )
    labels = [f"{title}\n{size:.0%}" for title, size in zip(titles, sizes, strict=True)]
    axes.set_xticks(range(k), labels, rotation=0 if k <= 5 else 90)
    axes.set_ylabel("rows, by component")
    axes.figure.colorbar(image, ax=axes, label="share of the row's mass")
    return axes

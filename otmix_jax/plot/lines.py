"""One column: densities over a histogram, probabilities of counts and of levels as bars."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .canvas import PALE, called, colour, dashes, key
from .scenes import Scene
from .supports import densities, levels

GRID = 512
"""Points of a curve."""
BARS = 60
"""Values of a count up to which each has a bar; with more, bars are curves."""
ROWS = 200
"""Rows whose exposures or trials a probability is averaged over."""


def curve(axes: Axes, view: Scene) -> None:
    """The density of a real column with its components' shares, over a histogram of the rows."""
    x = view.x[:, 0]
    there = np.isfinite(x)
    x, share = x[there].astype(float), view.share[there]
    low, high = x.min(), x.max()
    margin = 0.08 * (high - low) or 1.0
    grid = np.linspace(low - margin, high + margin, GRID)
    if view.shown:
        axes.hist(x, bins=_edges(x), weights=share, density=True, color=PALE, label="rows")
    parts = view.weights * densities(view.components, _beside(view, grid[:, None]))
    for j in view.present:
        axes.plot(grid, parts[:, j], color=colour(j), ls=dashes(j), label=_name(view, j))
    axes.plot(grid, parts.sum(axis=1), color="black", linewidth=1.2, label="mixture")
    axes.set(xlabel=view.name(0), ylabel="density", ylim=(0, None))
    key(axes, headroom=True)


def _edges(x: Float[np.ndarray, " n"]) -> list[float]:
    """Of 8 to 60 bins: Freedman and Diaconis's rule, which a far row would send out of bounds."""
    within = np.quantile(x, 0.75) - np.quantile(x, 0.25)
    width = 2 * within * len(x) ** (-1 / 3)
    wanted = (x.max() - x.min()) / width if width > 0 else 1
    return np.histogram_bin_edges(x, bins=int(np.clip(np.ceil(wanted), 8, 60))).tolist()


def _name(view: Scene, j: int) -> str:
    return called(j, float(view.weights[j]))


def _beside(view: Scene, grid: Any) -> Any:
    """Grid rows, with the first row's exposures where there are some."""
    if not view.beside:
        return grid
    return {"x": grid} | {name: v[:1].repeat(len(grid), 0) for name, v in view.beside.items()}


def counts(axes: Axes, view: Scene) -> None:
    """Probabilities of a count as bars, the components' shares stacked; dots are the rows."""
    x = view.x[:, 0]
    there = np.isfinite(x)
    x, share = x[there].astype(int), view.share[there] / view.share[there].sum()
    grid = np.arange(max(x.min() - 1, 0), x.max() + 2)
    parts = view.weights * probabilities(view, grid)
    if not parts[-1].any():  # beyond the trials
        grid, parts = grid[:-1], parts[:-1]
    few = len(grid) <= BARS
    base = np.zeros(len(grid))
    for j in view.present:
        shade, name = colour(j), _name(view, j)
        if few:
            axes.bar(grid, parts[:, j], bottom=base, width=0.8, color=shade, label=name)
        else:
            axes.plot(grid, parts[:, j], color=shade, ls=dashes(j), label=name)
        base = base + parts[:, j]
    if not few:
        axes.plot(grid, base, color="black", linewidth=1.2, label="mixture")
    if view.shown:
        seen = np.bincount(x - grid[0], share, len(grid))
        marks = {"s": 18, "color": "black"} if few else {"s": 6, "color": "0.6"}
        axes.scatter(grid, seen, label="rows", zorder=3 if few else 1, **marks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=view.name(0), ylabel="probability", ylim=(0, None))
    key(axes, headroom=True)


def probabilities(view: Scene, grid: np.ndarray) -> Float[np.ndarray, "g k"]:
    """P(value | component), averaged over the rows' exposures or trials where there are any."""
    if not view.beside:
        return densities(view.components, grid[:, None].astype(float))
    n = len(view.x)
    drawn = np.linspace(0, n - 1, min(n, ROWS)).astype(int)
    weight = view.share[drawn] / view.share[drawn].sum()
    rows = {"x": np.repeat(grid, len(drawn))[:, None].astype(float)}
    rows |= {name: np.concatenate([v[drawn]] * len(grid)) for name, v in view.beside.items()}
    each = densities(view.components, rows).reshape(len(grid), len(drawn), -1)
    return np.einsum("gnk,n->gk", each, weight)


def profile(axes: Axes, view: Scene, item: int) -> None:
    """P(level | component) of one item as bars, side by side; lines are the rows' shares."""
    table = levels(view.components)
    assert table is not None  # it is drawn of families that have them
    there = table[:, item].sum(axis=0) > 0  # items of fewer levels are filled up
    chances = table[:, item, there]
    present = view.present
    width, places = 0.8 / len(present), np.arange(chances.shape[1])
    for order, j in enumerate(present):
        middle = places + (order + 0.5) * width - 0.4
        axes.bar(middle, chances[j], width, color=colour(j), label=_name(view, j))
    if view.shown:
        seen = _observed(view, item, table.shape[1] == view.width, len(there))[there]
        axes.hlines(seen, places - 0.42, places + 0.42, color="black", label="rows")
    whole = table.shape[1] == 1 and view.width > 1
    names = [view.name(a) for a in range(len(there))] if whole else np.nonzero(there)[0]
    axes.set_xticks(places, [str(name) for name in names])
    if whole and max(map(len, map(str, names))) > 6:
        axes.tick_params(axis="x", rotation=30)
    axes.set(xlabel="" if whole else view.name(item), ylabel="probability", ylim=(0, None))
    key(axes, headroom=True)


def _observed(view: Scene, item: int, coded: bool, n_levels: int) -> Float[np.ndarray, " l"]:
    """Shares of levels among the rows: of codes, or of counts of each level."""
    if not coded:
        total = view.share @ view.x
        return total / total.sum()
    code = view.x[:, item]
    there = np.isfinite(code) & (code >= 0)
    found = np.bincount(code[there].astype(int), view.share[there], n_levels)
    return found / found.sum()


def profiles(axes: Axes, view: Scene) -> None:
    """P(level | component) of many items as a heat map: a line for each component."""
    table = levels(view.components)
    assert table is not None
    k, items, _ = table.shape
    there = table.sum(axis=0) > 0
    image = axes.imshow(
        table[:, there], aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest"
    )
    ends = np.cumsum(there.sum(axis=1))
    axes.vlines(ends[:-1] - 0.5, -0.5, k - 0.5, color="white", linewidth=1.5)
    step = max(1, items // 12)
    shown = np.arange(0, items, step)
    middles = ends - 0.5 * there.sum(axis=1) - 0.5
    axes.set_xticks(middles[shown], [view.name(a) for a in shown], rotation=90 if items > 6 else 0)
    axes.set_yticks(range(k), [_name(view, j) for j in range(k)])
    axes.figure.colorbar(image, ax=axes, label="probability of the level")

"""What a picture is of: components, and rows that are there with their shares of them."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..families import Frozen, Gated, Noisy, Repeated
from ..model import Mixture
from ..model.mixtures import rows_for
from ..transport import Plan


@dataclasses.dataclass(frozen=True)
class Scene:
    """NumPy throughout, but for the components.

    Attributes:
        components: of the rows `x`.
        weights: [k] proportions.
        x: rows of positive weight: a table [n, d], or a dict of columns.
        share: [n] their weights, of sum 1.
        plan: [n, k] responsibilities, or shares under another plan.
        names: of the columns, or of a regression's features.
        response: a regression's.
        beside: what stands beside a table, by name: exposures, trials.
        shown: whether the rows are data, or draws that only say where to look.
        alone: whether the picture has the figure for itself, and is no part of another.
    """

    components: Any
    weights: np.ndarray
    x: Any
    share: np.ndarray
    plan: np.ndarray
    names: tuple[str, ...] = ()
    response: str = "response"
    beside: dict[str, Any] = dataclasses.field(default_factory=dict)
    shown: bool = True
    alone: bool = True

    @property
    def width(self) -> int:
        """How many columns the table has; 0 if the rows are none."""
        return self.x.shape[1] if getattr(self.x, "ndim", 0) == 2 else 0

    @property
    def present(self) -> list[int]:
        """The components that are not absent."""
        return np.nonzero(self.weights > 0)[0].tolist()

    def name(self, column: int) -> str:
        """Of a column."""
        return self.names[column] if column < len(self.names) else f"column {column}"

    def column(self, a: int) -> "Scene":
        """The scene of one column.

        Raises:
            TypeError: for components that have no margins.
        """
        if self.width == 1:
            return self
        beside = {
            name: given[:, a : a + 1] if given.ndim == 2 else given
            for name, given in self.beside.items()
        }
        return dataclasses.replace(
            self,
            components=self.components.marginal([a]),
            x=self.x[:, a : a + 1],
            names=(self.name(a),),
            beside=beside,
        )


def scene(
    model: Mixture,
    x: PyTree,
    *,
    sample_weight: Any = None,
    plan: Any = None,
    columns: Any = None,
) -> Scene:
    """Reads and checks rows for a picture; those of weight 0 are left out.

    Args:
        model: the mixture.
        x: rows, as `Mixture.log_prob` takes them.
        sample_weight: [n] weights >= 0; None for equal ones.
        plan: a `Plan` or a matrix [n, k] of mass, whose rows colour instead of responsibilities.
        columns: names of the columns; None takes those of a data frame.

    Raises:
        ValueError: for rows that are not the mixture's, and weights, a plan or names that do not
            fit.
    """
    told = getattr(x, "columns", getattr(x, "names", ()))  # of a data frame, of `rows.Named`
    names = tuple(map(str, told if columns is None else columns))
    rows = jax.tree.map(np.asarray, rows_for(model, x, sample_weight))
    n = jax.tree.leaves(rows)[0].shape[0]
    weight = weights_of(n, sample_weight)
    there = weight > 0
    rows = jax.tree.map(lambda leaf: leaf[there], rows)
    if plan is None:
        shares = np.asarray(model.responsibilities(rows), float)
    else:
        shares = row_shares(mass_of(plan, n, model.n_components)[there])
    weights = np.asarray(model.weights, float)
    whole = Scene(model.components, weights, rows, weight[there], shares, names)
    whole = dataclasses.replace(whole, response=getattr(x, "response", "response"))
    found = opened(model.components, whole)
    found = dataclasses.replace(found, share=found.share / found.share.sum())
    if columns is not None and found.width and len(names) != found.width:
        raise ValueError(f"columns= has {len(names)} names, and the rows have {found.width}")
    return found


def weights_of(n: int, sample_weight: Any) -> np.ndarray:
    """[n] weights of rows.

    Raises:
        ValueError: for another number of them, or values that are no weights.
    """
    if sample_weight is None:
        return np.ones(n)
    weight = np.asarray(sample_weight, float)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight has shape {weight.shape}, and there are {n} rows")
    if not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise ValueError("sample_weight must be finite and >= 0, and not 0 throughout")
    return weight


def mass_of(plan: Any, n: int | None = None, k: int | None = None) -> np.ndarray:
    """The matrix [n, k] of a plan.

    Raises:
        ValueError: for a matrix of another shape, or with numbers that are no mass.
    """
    mass = np.asarray(plan.matrix if isinstance(plan, Plan) else plan, float)
    if mass.ndim != 2 or not mass.size or (n or len(mass), k or mass.shape[1]) != mass.shape:
        raise ValueError(f"a plan is a matrix [{n or 'n'}, {k or 'k'}], not of shape {mass.shape}")
    # a plan's own rounding aside
    if not (np.isfinite(mass) & (mass >= -1e-12)).all() or not mass.any():
        raise ValueError("a plan's entries must be finite and >= 0, and not 0 throughout")
    return np.maximum(mass, 0)


def row_shares(mass: np.ndarray) -> np.ndarray:
    """Rows of mass divided by their sums; a row without mass stays 0."""
    total = mass.sum(axis=1, keepdims=True)
    return mass / np.where(total > 0, total, 1)


@functools.singledispatch
def opened(components: Any, found: Scene) -> Scene:
    """The scene of what a wrapper wraps; a table without what stands beside it."""
    x = found.x
    if not (components.table is True and isinstance(x, dict) and "x" in x):
        table = x[:, None] if getattr(x, "ndim", 0) == 1 else x
        return dataclasses.replace(found, x=table)
    beside = {name: value for name, value in x.items() if name != "x"}
    table = x["x"] if x["x"].ndim == 2 else x["x"][:, None]
    return dataclasses.replace(found, x=table, beside=beside)


@opened.register
def _(components: Frozen, found: Scene) -> Scene:
    return _within(components.inner, found, found.x)


@opened.register
def _(components: Gated, found: Scene) -> Scene:
    sizes = np.asarray(components.sizes, float)
    sized = dataclasses.replace(found, weights=sizes / sizes.sum())
    return _within(components.inner, sized, found.x["rows"])


@opened.register
def _(components: Noisy, found: Scene) -> Scene:
    # what is seen through a projection has other columns than the vectors
    if "projection" in found.x:
        return found
    return dataclasses.replace(found, components=components.inner, x=found.x["x"])


@opened.register
def _(components: Repeated, found: Scene) -> Scene:
    present = found.x["present"] > 0
    unit = np.nonzero(present)[0]
    rows = jax.tree.map(lambda leaf: leaf[present], found.x["rows"])
    several = dataclasses.replace(found, share=found.share[unit], plan=found.plan[unit])
    return _within(components.inner, several, rows)


def _within(inner: Any, found: Scene, x: Any) -> Scene:
    return opened(inner, dataclasses.replace(found, components=inner, x=x))

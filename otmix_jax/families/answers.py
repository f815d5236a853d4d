"""What a component law can say of itself beside its density; a family has what it can answer."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..core.tree import replace
from .coordinates import learned


class Answers:
    """Moments, margins, conditionals, distribution functions: each optional.

    Where columns are independent given the component, `separable = True` answers `marginal` and
    `condition`: every learned field has the columns for its first axis after that of components.
    """

    separable: ClassVar[bool] = False
    """Whether the columns of a row are independent given the component."""
    conditional: ClassVar[bool] = False
    """Whether a row has a law only given what stands beside it, as its noise: bootstraps that draw
    rows without it are refused."""
    n_features: Any

    def moments(self) -> tuple[PyTree, PyTree]:
        """Means [k, d], and variances [k, d] of independent columns, or covariances [k, d, d].

        Of a product, dicts of these.

        Raises:
            TypeError: for a family that has none.
        """
        raise _lacks(self, "moments", "average rows that `sample` draws")

    def reported(self) -> dict[str, Any]:
        """Parameters as tables show them, by name: arrays with an axis of components, or shared
        ones; families within, alone or a dict of parts.
        """
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = [field.name for field in fields if not field.metadata.get("static")]
        return {name: getattr(self, name) for name in shown}

    def marginal(self, columns: Iterable[Hashable]) -> Any:
        """The law of some columns, in this order.

        Raises:
            TypeError: for a family that has none.
        """
        if not self.separable:
            raise _lacks(self, "marginal law", "fit the columns in question alone")
        which, kept = np.asarray(read_columns(self, columns)), {}
        for field in learned(self):
            value, axes = getattr(self, field.name), field.metadata["axes"]
            kept[field.name] = jnp.take(value, which, axis=-axes) if axes else value
        return replace(self, **kept)

    def condition(self, values: Mapping[Hashable, Any]) -> tuple[Float[Array, " k"], Any]:
        """Log-densities of some columns' values, and the law of the other columns given these.

        Raises:
            TypeError: for a family that has none.
        """
        if not self.separable:
            raise _lacks(self, "conditional law", "fit a regression family instead")
        given, rest, row = read_values(self, values)
        # columns that are independent say nothing of each other
        return -self.marginal(given).cost(row[None])[0], self.marginal(rest)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """P(X <= x) of a single column.

        Raises:
            TypeError: for a family that has none.
        """
        del x
        raise _lacks(self, "distribution function", "count rows that `sample` draws")

    def ascend(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Float[Array, "n d"]:
        """Points of higher mixture density from x, whose responsibilities are the plan.

        Raises:
            TypeError: for a family that has none.
        """
        del x, plan
        raise _lacks(self, "modes", "evaluate log_prob on a grid")


def _lacks(family: Any, what: str, remedy: str) -> TypeError:
    return TypeError(f"{type(family).__name__} has no {what}: {remedy}")


def read_columns(family: Any, columns: Iterable[Any]) -> tuple[int, ...]:
    """Columns as numbers >= 0, each once.

    Raises:
        ValueError: for none, for one that is not there, or one that is named twice.
    """
    d, found = family.n_features, [int(column) for column in columns]
    for column in found:
        if not -d <= column < d:
            raise ValueError(f"there is no column {column}: the mixture has columns 0 to {d - 1}")
    found = [column % d for column in found]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"name one or more columns, each once, not {found}")
    return tuple(found)


def read_values(
    family: Any, values: Mapping[Any, Any]
) -> tuple[tuple[int, ...], tuple[int, ...], Array]:
    """The given columns, the other ones, and the given values in one row.

    Raises:
        ValueError: for columns that are not there, for all of them, or for values of several rows.
    """
    given = read_columns(family, values)
    rest = tuple(a for a in range(family.n_features) if a not in given)
    if not rest:
        raise ValueError("all columns are given: leave one out; log_prob is the density of all")
    row = [jnp.asarray(value) for value in values.values()]
    if any(value.ndim for value in row):
        raise ValueError("condition takes one number for a column: use jax.vmap for many rows")
    return given, rest, jnp.stack(row)

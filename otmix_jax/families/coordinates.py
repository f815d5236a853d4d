"""Coordinates, of parameters and of rows.

A domain says where a parameter lives, and unconstrained coordinates follow from it. A field of a
family or of a covariance declares its domain:

    rate: Array = parameter(POSITIVE)            # [k, d]
    shape: Array = parameter(POSITIVE, axes=0)   # [k]

Coordinates are relative to an origin, another instance: zeros are the origin itself. So they have
no units where the domain allows, and one step size fits all data.

A frame says in which coordinates rows are fitted, and what that does to a density.
"""

# ruff: noqa: PLC0414  (domains are named here for all who declare parameters)

import abc
import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import SLICE, fold_slices, matmul
from ..core.tree import pytree, replace
from ..core.typing import AnyArray
from .domains import FACTOR as FACTOR
from .domains import LOADINGS as LOADINGS
from .domains import NESTED as NESTED
from .domains import POSITIVE as POSITIVE
from .domains import REAL as REAL
from .domains import ROTATION as ROTATION
from .domains import SIMPLEX as SIMPLEX
from .domains import SPHERE as SPHERE
from .domains import UNIT as UNIT
from .domains import UNIT_FACTOR as UNIT_FACTOR
from .domains import UNIT_PRODUCT as UNIT_PRODUCT
from .domains import Domain as Domain

_T = TypeVar("_T")


def learned(instance: Any) -> list[dataclasses.Field]:
    """The fields that are learned, in order."""
    return [field for field in dataclasses.fields(instance) if "domain" in field.metadata]


def constrain(self: _T, coordinates: dict[str, Any]) -> _T:
    """The instance at unconstrained `coordinates` about this one; zeros give this one.

    A field of which there are no coordinates stays.
    """
    moved = {
        field.name: field.metadata["domain"].at(getattr(self, field.name), coordinates[field.name])
        for field in learned(self)
        if field.name in coordinates
    }
    return replace(self, **moved)


def unconstrained(self: Any, origin: Any) -> dict[str, Any]:
    """The coordinates of this instance about `origin`: the inverse of `origin.constrain`."""
    return {
        field.name: field.metadata["domain"].coordinates(
            getattr(self, field.name), getattr(origin, field.name)
        )
        for field in learned(self)
    }


def count_components(self: Any) -> int:
    """K, from the first field that has an axis for it."""
    for field in learned(self):
        value, axes = getattr(self, field.name), field.metadata["axes"]
        # from the back: a batch of mixtures has its axes in front
        if field.metadata["domain"] is not NESTED and not field.metadata["shared"]:
            return jnp.shape(value)[-1 - axes]
    raise TypeError(f"{type(self).__name__} has no parameter of its own for each component")


def count_parameters(self: Any) -> int:
    """Free parameters of all components together; of one mixture of a batch."""
    return sum(count_free(self, field) for field in learned(self))


def count_free(self: Any, field: dataclasses.Field) -> int:
    """The degrees of freedom of one field."""
    value, axes = getattr(self, field.name), field.metadata["axes"]
    if field.metadata["domain"] is NESTED:
        return value.n_parameters
    shape = jnp.shape(value)
    copies = 1 if field.metadata["shared"] else shape[-1 - axes]
    return copies * field.metadata["domain"].free(shape[len(shape) - axes :])


def take(self: _T, which: Any) -> _T:
    """The components with these indices, in this order."""
    taken = {}
    for field in dataclasses.fields(self):  # type: ignore[arg-type]
        value = getattr(self, field.name)
        if field.metadata.get("domain") is NESTED:
            taken[field.name] = value.take(which)
        elif not field.metadata.get("static") and not field.metadata.get("shared"):
            taken[field.name] = jax.tree.map(lambda leaf: leaf[which], value)
    return replace(self, **taken)


class Frame(abc.ABC):
    """An invertible map of rows to the coordinates in which they are fitted. A PyTree."""

    @abc.abstractmethod
    def into(self, x: PyTree) -> PyTree:
        """Rows in the frame; with a leading axis on the frame's leaves, one frame per row."""

    @property
    @abc.abstractmethod
    def log_volume(self) -> Float[Array, ""] | float:
        """By how much -log p of a row grows out of the frame, in nats."""

    @property
    @abc.abstractmethod
    def inverse(self) -> "Frame":
        """The frame that leads back."""


@pytree
class Identity(Frame):
    """Rows as they are."""

    def into(self, x: PyTree) -> PyTree:
        """The same rows."""
        return x

    @property
    def log_volume(self) -> float:
        """Nothing."""
        return 0.0

    @property
    def inverse(self) -> "Identity":
        """Itself."""
        return self

    @classmethod
    def of_groups(cls, x: PyTree, weight: np.ndarray, begins: np.ndarray) -> "Identity":
        """One for all groups."""
        del x, weight, begins
        return cls()


@pytree
class Affine(Frame):
    """(x - origin) / unit, unit > 0.

    Attributes:
        origin: [d], in the units of the rows.
        unit: [d], or one number for all columns, in the units of the rows.
    """

    origin: AnyArray
    unit: Any

    @property
    def columns(self) -> Any:
        """The unit of each column."""
        # with a leading axis on the leaves, one unit for each frame lacks the axis of columns
        single = 0 < np.ndim(self.unit) < np.ndim(self.origin)
        return self.unit[..., None] if single else self.unit

    def into(self, x: Float[AnyArray, "*n d"]) -> Float[AnyArray, "*n d"]:
        """See `Frame.into`."""
        return (x - self.origin) / self.columns

    @property
    def log_units(self) -> Float[Array, "*b d"]:
        """Log unit of each column."""
        return jnp.log(jnp.broadcast_to(self.columns, self.origin.shape))

    @property
    def log_volume(self) -> Float[Array, "*b"]:
        """The sum of log unit over the columns."""
        return jnp.sum(self.log_units, axis=-1)

    @property
    def inverse(self) -> "Affine":
        """See `Frame.inverse`."""
        return Affine(-self.origin / self.columns, 1 / self.unit)

    @classmethod
    def of(cls, x: Any, weight: Any, one_unit: bool = False) -> "Affine":
        """The rows' mean, and the power of two next to the columns' largest deviations from it.

        Rows on a device stay there; NumPy's are read in slices: no second copy of either.

        Args:
            x: [n, d] rows.
            weight: [n], or None.
            one_unit: whether all columns share the largest of their units.
        """
        if isinstance(x, Array):
            given = [] if weight is None else [jnp.asarray(weight)]
            origin, unit = _location(x, *given)
            return cls(origin, jnp.max(unit) if one_unit else unit)
        slices = [slice(i, i + SLICE) for i in range(0, len(x), SLICE)]
        # a view of one number, not an array as long as the data
        a = np.broadcast_to(1.0, len(x)) if weight is None else weight
        # in float64, a slice at a time: float32 sums of many rows lose the mean's digits
        total = sum(a[part] @ x[part].astype(np.float64) for part in slices)
        origin = (total / a.sum()).astype(x.dtype)
        # The largest deviation, not the root mean square: squares over- or underflow past 1e154.
        largest = np.maximum.reduce(
            [np.abs(x[part] - origin)[a[part] > 0].max(axis=0, initial=0) for part in slices]
        )
        unit = power_of_two(np.asarray(largest, np.float64)).astype(x.dtype)  # type: ignore[attr-defined]
        return cls(origin, unit.max() if one_unit else unit)

    @classmethod
    def of_groups(
        cls, x: np.ndarray, weight: np.ndarray, begins: np.ndarray, one_unit: bool = False
    ) -> "Affine":
        """The frames of groups of rows behind one another, with a leading axis: all at once."""
        wide = x.astype(np.float64)
        owner = np.repeat(np.arange(len(begins)), np.diff([*begins, len(x)]))
        # no group may be empty: reduceat would give it the first row of the next
        total = np.add.reduceat(weight, begins)
        origin = np.add.reduceat(weight[:, None] * wide, begins) / total[:, None]
        wide -= origin[owner]
        unit = power_of_two(np.maximum.reduceat(np.abs(wide), begins))
        return cls(origin, unit.max(axis=1) if one_unit else unit)


@jax.jit
def _location(x: Float[Array, "n d"], *weight: Float[Array, " n"]) -> tuple[Array, Array]:
    """Mean and units; without weights none are made: they would be as long as the rows."""

    def added(x: Array, *a: Array) -> Array:
        return matmul(a[0], x) if a else jnp.sum(x, axis=0)

    def farthest(x: Array, *a: Array) -> Array:
        present = (a[0] > 0)[:, None] if a else True
        return jnp.max(jnp.where(present, jnp.abs(x - origin), 0), axis=0, initial=0)

    given = [w.astype(x.dtype) / jnp.sum(w) for w in weight]
    total = fold_slices(added, jnp.add, jnp.zeros_like(x[0]), x, *given)
    origin = total if given else total / x.shape[0]
    largest = fold_slices(farthest, jnp.maximum, jnp.zeros_like(total), x, *given)
    return origin, power_of_two(largest)


def power_of_two(length: Any) -> Any:
    """The power of two near a length, 1 for 0: division by it changes no digit."""
    # NumPy stays NumPy: nothing moves to the device at the host edge
    module = jnp if isinstance(length, Array) else np
    positive = module.where(length > 0, length, 1)
    # ldexp, since XLA rounds exp2: a unit of 8192.004 would change every digit
    exponent = module.round(module.log2(positive)).astype(int)
    return module.ldexp(module.ones_like(positive), exponent)


@pytree
class Parts(Frame):
    """One frame for each part of the rows, which are a dict.

    Attributes:
        parts: a frame by name.
    """

    parts: dict[str, Any]

    def into(self, x: dict[str, PyTree]) -> dict[str, PyTree]:
        """See `Frame.into`."""
        return {name: _into(frame, x[name]) for name, frame in self.parts.items()}

    @property
    def log_volume(self) -> Float[Array, ""] | float:
        """The parts' sum."""
        return sum(frame.log_volume for frame in self.parts.values())

    @property
    def inverse(self) -> "Parts":
        """See `Frame.inverse`."""
        # is_leaf: a frame is a PyTree too, and the map would go on into its arrays
        return Parts(jax.tree.map(lambda f: f.inverse, self.parts, is_leaf=_is_frame))


def _into(frame: Frame, x: PyTree) -> PyTree:
    """Rows in a part's frame; a single column is read as a table of one."""
    return frame.into(x[:, None])[:, 0] if getattr(x, "ndim", 0) == 1 else frame.into(x)


def _is_frame(node: Any) -> bool:
    return isinstance(node, Frame)

"""Coordinates, of parameters and of rows.

A domain says where a parameter lives, and unconstrained coordinates follow from it. A field of a
family or of a covariance declares its domain:

    rate: Array = parameter(POSITIVE)            # [k, d]
    shape: Array = parameter(POSITIVE, axes=0)   # [k]

Coordinates are relative to an origin, another instance: zeros are the origin itself. So they have
no units where the domain allows, and one step size fits all data.

A frame says in which coordinates rows are fitted, and what that does to a density.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import SLICE, fold_slices, logsumexp, matmul
from ..core.tree import pytree, replace
from ..core.triangular import inverse_triangle, multiply, pack, unpack
from ..core.typing import AnyArray

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Domain:
    """A set that parameters live in, as three functions.

    Attributes:
        at: (origin, z) to the value at coordinates z about the origin; zeros give the origin.
        coordinates: (value, origin) to z, the inverse.
        free: shape of one component's value to its degrees of freedom.
    """

    at: Callable[[Any, Any], Any]
    coordinates: Callable[[Any, Any], Any]
    free: Callable[[tuple[int, ...]], int]


def _simplex_basis(d: int) -> np.ndarray:
    """[d, d - 1] orthonormal columns that sum to zero: no direction that moves nothing."""
    # NumPy, at trace time: a constant of the program
    basis = np.tri(d, d - 1, -1) * -1.0
    basis = np.where(np.eye(d, d - 1, dtype=bool), np.arange(d - 1, 0, -1), basis)
    return basis / np.linalg.norm(basis, axis=0) if d > 1 else basis


def _simplex_at(origin: Array, z: Array) -> Array:
    moved = jnp.log(origin) + matmul(z, jnp.asarray(_simplex_basis(origin.shape[-1]).T, z.dtype))
    # in logarithms: a long step would overflow before it is divided by the sum
    return jnp.exp(moved - logsumexp(moved, axis=-1)[..., None])


def _simplex_coordinates(value: Array, origin: Array) -> Array:
    ratio = jnp.log(value) - jnp.log(origin)
    return matmul(ratio, jnp.asarray(_simplex_basis(origin.shape[-1]), ratio.dtype))


def _reflected(origin: Array, v: Array) -> Array:
    """V under the reflection that takes the origin to an axis and back, its own inverse.

    The axis points away from the origin's first entry, so that the difference never cancels.
    """
    sign = jnp.where(origin[..., :1] > 0, -1.0, 1.0)
    axis = sign * jnp.eye(1, origin.shape[-1], dtype=origin.dtype)[0]
    normal = origin - axis
    along = jnp.sum(normal * v, axis=-1, keepdims=True) / jnp.sum(normal**2, -1, keepdims=True)
    return v - 2 * along * normal


def _sphere_at(origin: Array, z: Array) -> Array:
    """Along the great circle in the direction z, by its length in radians."""
    squared = jnp.sum(z**2, axis=-1, keepdims=True)
    # sin(r) / r from its series near 0, where the quotient has no derivative.
    near = squared < 1e-4
    length = jnp.sqrt(jnp.where(near, 1, squared))
    ratio = jnp.where(near, 1 - squared / 6 + squared**2 / 120, jnp.sin(length) / length)
    cosine = jnp.where(near, 1 - squared / 2 + squared**2 / 24, jnp.cos(length))
    tangent = jnp.concatenate([jnp.zeros_like(z[..., :1]), z], axis=-1)
    return cosine * origin + _reflected(origin, ratio * tangent)


def _sphere_coordinates(value: Array, origin: Array) -> Array:
    cosine = jnp.sum(value * origin, axis=-1, keepdims=True)
    tangent = _reflected(origin, value - cosine * origin)[..., 1:]
    squared = jnp.sum(tangent**2, axis=-1, keepdims=True)
    moved = squared > 0  # at the origin the root has no derivative, and the quotient is 1
    sine = jnp.sqrt(jnp.where(moved, squared, 1))
    # arccos would lose half the digits near the origin, where the cosine is flat
    angle = jnp.arctan2(sine, cosine)
    return tangent * jnp.where(moved, angle / sine, 1)


def _factor_at(origin: Array, z: Array) -> Array:
    # tril: what stands above the diagonal is no parameter, and gets no gradient
    return multiply(jnp.tril(origin), unpack(z, origin.shape[-1]))


def _factor_coordinates(value: Array, origin: Array) -> Array:
    return pack(multiply(inverse_triangle(origin), jnp.tril(value)))


REAL = Domain(jnp.add, jnp.subtract, math.prod)
"""Any number; coordinates are in the parameter's own unit."""
POSITIVE = Domain(
    lambda origin, z: origin * jnp.exp(z), lambda value, origin: jnp.log(value / origin), math.prod
)
"""Above zero, through the logarithm of the ratio."""
SIMPLEX = Domain(
    _simplex_at, _simplex_coordinates, lambda shape: math.prod(shape[:-1]) * (shape[-1] - 1)
)
"""Positive, of sum 1 along the last axis, which loses one coordinate."""
SPHERE = Domain(
    _sphere_at, _sphere_coordinates, lambda shape: math.prod(shape[:-1]) * (shape[-1] - 1)
)
"""Unit vectors along the last axis, by the angle from the origin."""
FACTOR = Domain(_factor_at, _factor_coordinates, lambda shape: shape[-1] * (shape[-1] + 1) // 2)
"""Lower triangular with a positive diagonal; a step multiplies from the right."""
NESTED = Domain(
    lambda origin, z: origin.constrain(z),
    lambda value, origin: value.unconstrained(origin),
    lambda shape: 0,
)
"""An object that has parameters of its own."""


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
    def log_volume(self) -> Float[Array, ""]:
        """The sum of log unit over the columns."""
        return jnp.sum(jnp.log(jnp.broadcast_to(self.columns, self.origin.shape)), axis=-1)

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

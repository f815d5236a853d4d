"""Covariances taken apart: a size, relative deviations, axes, each own or shared.

Sigma_j = s_j^2 D_j A_j D_j^T with det A_j = 1 (Banfield and Raftery, 1993; Celeux and Govaert,
1995). mclust's three letters say of volume, shape and orientation, in this order, whether they are
Equal, Variable or the Identity. What is common to all of them is here: which fields have an axis of
components, components without mass, and the floor.
"""

import abc
import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import matmul, safe_divide
from ...core.tree import along, replace
from ...core.triangular import diagonal, multiply, regular_cholesky
from ..coordinates import learned
from .base import Covariance

_Self = TypeVar("_Self", bound="Decomposed")

BALANCE = 30
"""Steps of a fixed point that begins at the last answer: few where components are alike."""


class Decomposed(Covariance):
    """Covariances by fields of which components may share some. `deviation` is det^(1 / 2d)."""

    deviation: Any

    def own(self, name: str) -> Array:
        """A field with an axis of components, of length 1 where they share it."""
        field = next(field for field in learned(self) if field.name == name)
        value = getattr(self, name)
        if not field.metadata["shared"]:
            return value
        return jnp.expand_dims(value, jnp.ndim(value) - field.metadata["axes"])

    @abc.abstractmethod
    def estimate(self, average: Array, mass: Float[Array, " k"], lifted: bool) -> dict[str, Array]:
        """All fields from each component's average scatter and its mass; begins at this member.

        A component without mass has a regular stand-in, which counts with its mass of 0.

        Args:
            average: in the layout.
            mass: >= 0.
            lifted: whether a floor was met: then no answer is singular, else NaN says so.
        """

    def maximize(self: _Self, scatter: Array, mass: Array, floor: Array | None = None) -> _Self:
        """See `Covariance.maximize`; a floor lifts each average, and then what is thinner still."""
        present = mass > 0
        average = _averages(scatter, mass, floor)
        found = self.estimate(average, mass, floor is not None)
        kept = {}
        for field in learned(self):
            new, old = found[field.name], getattr(self, field.name)
            which = jnp.any(present) if field.metadata["shared"] else along(present, new)
            kept[field.name] = jnp.where(which, new, old)
        answer = replace(self, **kept)
        return answer if floor is None else answer._above(floor, present)

    def _above(self: _Self, floor: Array, present: Array) -> _Self:
        """Grown as a whole until no pivot is below the floor."""
        d = floor.shape[-1]
        pivots = self.geometry.pivots(self.factor, d)
        short = jnp.where(present[:, None], jnp.sqrt(floor) / pivots, 0)
        growth = jnp.maximum(jnp.max(short, axis=-1), 1)
        growth = growth if jnp.ndim(self.deviation) else jnp.max(growth)
        return replace(self, deviation=self.deviation * growth)

    @classmethod
    def from_matrices(cls: type[_Self], matrices: Float[Array, "k d d"]) -> _Self:
        """See `Covariance.from_matrices`: the best for components of equal mass."""
        k, d, _ = matrices.shape
        return cls.of_averages(cls.geometry.of_second(matrices), jnp.ones(k, matrices.dtype), d)

    @classmethod
    def of_averages(cls: type[_Self], average: Array, mass: Array, d: int) -> _Self:
        """The best member for averages in the layout, from one without preference."""
        blank = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            axes, shared = field.metadata["axes"], field.metadata["shared"]
            one = jnp.eye(d, dtype=mass.dtype) if axes == 2 else jnp.ones(axes * (d,), mass.dtype)
            whole = one if shared else jnp.broadcast_to(one, (len(mass), *one.shape))
            blank[field.name] = whole
        return cls(**blank).maximize(average, mass)


def _averages(scatter: Array, mass: Float[Array, " k"], floor: Array | None) -> Array:
    """Scatter over mass, lifted to the floor; a unit without mass."""
    d = scatter.shape[-1]
    matrices = scatter.ndim == 3
    unit = jnp.eye(d, dtype=scatter.dtype) if matrices else jnp.ones(d, scatter.dtype)
    mass = along(mass, scatter)
    average = jnp.where(mass > 0, safe_divide(scatter, mass), unit)
    if floor is None:
        return average
    if not matrices:
        return jnp.maximum(average, floor)
    factor = regular_cholesky(average, floor)
    return multiply(factor, jnp.swapaxes(factor, -1, -2))


def unit_product(values: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Values over their geometric mean."""
    return values / jnp.exp(jnp.mean(jnp.log(values), axis=-1, keepdims=True))


def deviations(
    variances: Float[Array, "... d"], lifted: bool
) -> tuple[Float[Array, "..."], Float[Array, "... d"]]:
    """Size and relative deviations; NaN where the smallest drowns in rounding, unless lifted."""
    d, dtype = variances.shape[-1], variances.dtype
    least = d * jnp.finfo(dtype).eps * jnp.max(variances, axis=-1, keepdims=True)
    if lifted:
        variances = jnp.maximum(variances, least)
    else:
        # twice `where`: the logarithm of what is not regular has no derivative
        regular = jnp.all(variances > least, axis=-1, keepdims=True)
        variances = jnp.where(regular, jnp.where(regular, variances, 1), jnp.nan)
    logs = 0.5 * jnp.log(variances)
    size = jnp.mean(logs, axis=-1)
    return jnp.exp(size), jnp.exp(logs - size[..., None])


def balanced(
    variances: Float[Array, "k d"], mass: Float[Array, " k"], shape: Float[Array, " d"]
) -> tuple[Float[Array, " k"], Float[Array, " d"]]:
    """Deviations and relative deviations with s_j^2 a_c^2 nearest to variances [k, d].

    Sizes under the shape and the shape under the sizes, in turn: each is an argmin, of an objective
    that is convex in log a.

    Source: Celeux and Govaert (1995), Pattern Recognition 28, section 3 (their model lambda_k B).
    """

    def step(_: Any, shape: Array) -> Array:
        size = jnp.mean(variances / shape, axis=-1)
        return unit_product(matmul(mass / size, variances))

    shape = jax.lax.fori_loop(0, BALANCE, step, shape**2)
    size = jnp.mean(variances / shape, axis=-1)
    return jnp.sqrt(size), jnp.sqrt(shape)


def unit_factor(factor: Float[Array, "... d d"]) -> tuple[Array, Float[Array, "... d d"]]:
    """The size of a triangular factor, and the factor over it."""
    size = jnp.exp(jnp.mean(jnp.log(diagonal(factor)), axis=-1))
    return size, factor / size[..., None, None]


def mean_size(size: Float[Array, " k"], mass: Float[Array, " k"]) -> Float[Array, ""]:
    """The root mean square: what components of one volume have in common."""
    return jnp.sqrt(jnp.sum(safe_divide(mass * size**2, jnp.sum(mass))))

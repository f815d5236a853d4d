"""Solves with a Hessian that may be singular, and says so."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.numerics import matmul, safe_divide
from ..core.tree import pytree

_WORK = 2**22


def materialize(
    product: Callable[[Array], Array], like: Float[Array, " p"], row_work: int
) -> Float[Array, "p p"]:
    """The matrix of a linear map, by p products: at once if that is small, else one by one."""
    identity = jnp.eye(like.shape[0], dtype=like.dtype)
    if like.shape[0] * row_work <= _WORK:
        return jax.vmap(product)(identity)
    return jax.lax.map(product, identity)


@pytree
class Spectrum:
    """A Hessian by its eigenvalues, after scaling to a unit diagonal.

    Scaled, a coordinate's unit does not matter, nor does how small a component is: at an optimum of
    a well separated mixture all eigenvalues are of order 1, and one is small where EM is slow. The
    gauge counts with eigenvalue 1; so do absent components' coordinates, whose rows and
    columns are zero.

    Attributes:
        values: [p] eigenvalues, ascending.
        vectors: [p, p] eigenvectors, in columns.
        root: [p] square root of the diagonal.
        absent: [p] whether the coordinate moves nothing.
    """

    values: Float[Array, " p"]
    vectors: Float[Array, "p p"]
    root: Float[Array, " p"]
    absent: Bool[Array, " p"]

    @classmethod
    def of(cls, matrix: Float[Array, "p p"], gauge: Float[Array, " p"]) -> "Spectrum":
        """From the Hessian, and the direction that moves nothing (or zeros)."""
        # -1 throughout has a negative eigenvalue: not regular, where those of NaN say nothing
        matrix = jnp.where(jnp.all(jnp.isfinite(matrix)), 0.5 * (matrix + matrix.T), -1.0)
        # exactly 0: absent components are selected away, not multiplied by a small weight
        absent = ~jnp.any(matrix != 0, axis=1)
        diagonal = jnp.diagonal(matrix)
        root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
        still = jnp.where(absent, 0, root * gauge)
        still = safe_divide(still, jnp.sqrt(jnp.sum(still**2)))
        scaled = matrix / (root[:, None] * root) + still[:, None] * still + jnp.diag(1.0 * absent)
        values, vectors = jnp.linalg.eigh(scaled)
        return cls(values, vectors, root, absent)

    @property
    def regular(self) -> Bool[Array, ""]:
        """Whether the Hessian is positive definite beyond rounding."""
        return self.values[0] > jnp.sqrt(jnp.finfo(self.values.dtype).eps)

    @property
    def condition_number(self) -> Float[Array, ""]:
        """Largest over smallest eigenvalue; infinite where the smallest is not positive."""
        lowest = self.values[0]
        return jnp.where(lowest > 0, self.values[-1] / jnp.where(lowest > 0, lowest, 1), jnp.inf)

    def solve(self, right: Float[Array, " p"]) -> Float[Array, " p"]:
        """The inverse times a vector; of no meaning unless `regular`."""
        values = jnp.where(self.regular, self.values, 1)
        inner = matmul(self.vectors.T, right / self.root) / values
        return matmul(self.vectors, inner) / self.root

    def inverse(self) -> Float[Array, "p p"]:
        """The inverse, 0 at coordinates that move nothing; NaN unless `regular`."""
        scaled = self.vectors / jnp.where(self.regular, self.values, jnp.nan)
        inverse = matmul(scaled, self.vectors.T) / (self.root[:, None] * self.root)
        moves = ~self.absent
        return jnp.where(moves[:, None] & moves, inverse, 0)


@pytree
class _Iterate:
    x: Array
    residual: Array
    direction: Array
    squared: Array  # the preconditioned residual's squared norm
    regular: Array
    n_steps: Array


def conjugate_gradients(
    product: Callable[[Array], Array],
    right: Float[Array, " p"],
    scale: Float[Array, " p"],
    tolerance: float,
    max_steps: int,
) -> tuple[Float[Array, " p"], Bool[Array, ""]]:
    """Solves by conjugate gradients, preconditioned by a diagonal.

    Returns:
        The solution [p], and whether it is one: the curvature was positive along every direction
        taken, and the residual fell by the tolerance, or as far as rounding lets it.
    """
    flat = jnp.sqrt(jnp.finfo(right.dtype).eps)
    zero = jnp.zeros_like(right)
    squared = jnp.sum(right**2 / scale)
    start = _Iterate(zero, right, right / scale, squared, jnp.isfinite(squared), jnp.asarray(0))

    def unfinished(s: _Iterate) -> Array:
        return (s.squared > tolerance**2 * squared) & s.regular & (s.n_steps < max_steps)

    def step(s: _Iterate) -> _Iterate:
        pushed = product(s.direction)
        curvature = jnp.sum(s.direction * pushed)
        regular = curvature > flat * jnp.sum(scale * s.direction**2)
        # without positive curvature it stays, and `regular` ends the loop
        length = jnp.where(regular, s.squared / jnp.where(regular, curvature, 1), 0)
        residual = s.residual - length * pushed
        now = jnp.sum(residual**2 / scale)
        direction = residual / scale + (now / s.squared) * s.direction
        return _Iterate(
            s.x + length * s.direction, residual, direction, now, regular, s.n_steps + 1
        )

    end = jax.lax.while_loop(unfinished, step, start)
    loose = jnp.finfo(right.dtype).eps ** 0.5
    return end.x, end.regular & (end.squared <= jnp.maximum(tolerance, loose) ** 2 * squared)

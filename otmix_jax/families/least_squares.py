"""Weighted least squares from sums over rows, where columns may follow from one another.

Components have coefficients of their own, and may share some: then their normal equations form an
arrow, solved by the Schur complement of the components' blocks.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.numerics import einsum, safe_divide
from ..core.tree import pytree


@pytree
class NormalEquations:
    """Gradient and Hessian of a sum of squares about the current coefficients: additive in rows.

    Attributes:
        gradient: [k, q] in a component's own p coefficients, then in the q - p shared ones.
        gram: [k, q, q]
    """

    gradient: Array
    gram: Array

    def solve(
        self, n_own: int, held: tuple[bool, bool] = (False, False)
    ) -> tuple[Float[Array, "k p"], Float[Array, " s"]]:
        """The steps of own and of shared coefficients to the least sum of all components.

        A column that follows from earlier ones keeps its coefficient.

        Args:
            n_own: p.
            held: whether the own, and the shared ones, stay.
        """
        p = n_own
        own, cross, shared = self.gram[:, :p, :p], self.gram[:, :p, p:], self.gram[:, p:, p:]
        inverse = regular_inverse(own)
        inverse = jnp.zeros_like(inverse) if held[0] else inverse
        alone = einsum("kab,kb->ka", inverse, self.gradient[:, :p])
        across = einsum("kab,kbs->kas", inverse, cross)
        total = jnp.sum(shared, axis=0)
        rest = total - einsum("kas,kat->st", cross, across)
        right = jnp.sum(self.gradient[:, p:] - einsum("kas,ka->ks", cross, alone), axis=0)
        # against what it was: of a shared column that follows from own ones only rounding is left
        common = -einsum("st,t->s", regular_inverse(rest, jnp.diagonal(total)), right)
        common = jnp.zeros_like(common) if held[1] else common
        return -alone - einsum("kas,s->ka", across, common), common

    def change(self, step: Float[Array, "k q"]) -> Float[Array, " k"]:
        """What a step adds to each component's half sum of squares."""
        return einsum("ka,ka->k", self.gradient, step) + 0.5 * self.length(step)

    def length(self, step: Float[Array, "k q"]) -> Float[Array, " k"]:
        """The square of a step in the metric of the rows."""
        return einsum("ka,kab,kb->k", step, self.gram, step)


@pytree
class Slopes:
    """Derivatives of the expected cost at the current parameters: additive in rows.

    Attributes:
        equations: in the coefficients.
        curvature: [k] sum_i P_ij C'' in the linear predictor.
        slope: [k] in the logarithm of the dispersion parameter; for a real response, the sum of
            squares over the variance.
        bend: [k] the second derivative.
    """

    equations: NormalEquations
    curvature: Array
    slope: Array
    bend: Array

    def along(
        self, step: Float[Array, "k q"], ratio: Float[Array, " k"], real: Float[Array, " k"] | None
    ) -> Float[Array, ""]:
        """What the expected cost grows by on such a step, to first order; see `moved`.

        Args:
            step: of the coefficients.
            ratio: of the dispersion parameter.
            real: [k] the plan's sizes, of a real response; else None.
        """
        slope = self.slope if real is None else real - self.slope
        return jnp.sum(self.equations.gradient * step) + jnp.sum(slope * jnp.log(ratio))

    def moved(
        self, step: Float[Array, "k q"], ratio: Float[Array, " k"], power: int, real: bool
    ) -> "Slopes":
        """The same after a step of the coefficients, the dispersion parameter being `ratio` of it.

        To first order, but exact of a real response. The predictor's share of the cost goes with
        that power of the parameter.
        """
        change, scale = self.equations.change(step), ratio**power
        gradient = self.equations.gradient + einsum("kab,kb->ka", self.equations.gram, step)
        equations = NormalEquations(
            scale[:, None] * gradient, scale[:, None, None] * self.equations.gram
        )
        squares = scale * (self.slope + 2 * change)
        slope = self.slope + jnp.log(ratio) * self.bend + power * change
        return Slopes(equations, scale * self.curvature, squares if real else slope, self.bend)


def regular_inverse(
    matrices: Float[Array, "*b p p"], size: Float[Array, "*b p"] | None = None
) -> Float[Array, "*b p p"]:
    """The inverse of Gram matrices over the columns that do not follow from earlier ones.

    Those have zeros. It is a generalised inverse: least squares by it are least, and finite.

    Args:
        matrices: symmetric, >= 0.
        size: the columns' squares before others were taken out of them; None is the diagonal.

    Source: Goodnight (1979), The American Statistician 33, A tutorial on the SWEEP operator.
    """
    p = matrices.shape[-1]
    size = jnp.diagonal(matrices, axis1=-2, axis2=-1) if size is None else size
    scale = safe_divide(jnp.ones_like(size), jnp.sqrt(jnp.maximum(size, 0)))
    both = scale[..., :, None] * scale[..., None, :]
    least = 8 * p * jnp.finfo(matrices.dtype).eps

    def sweep(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, kept = state
        pivot = matrix[..., j, j]
        good = pivot > least
        pivot = jnp.where(good, pivot, 1)[..., None]
        row, column = matrix[..., j, :] / pivot, matrix[..., :, j]
        swept = matrix - column[..., :, None] * row[..., None, :]
        swept = swept.at[..., j, :].set(row).at[..., :, j].set(-column / pivot)
        swept = swept.at[..., j, j].set(1 / pivot[..., 0])
        return jnp.where(good[..., None, None], swept, matrix), kept.at[..., j].set(good)

    kept = jnp.zeros(size.shape, bool)
    if p:
        matrices, kept = jax.lax.fori_loop(0, p, sweep, (matrices * both, kept))
    return jnp.where(kept[..., :, None] & kept[..., None, :], matrices * both, 0)

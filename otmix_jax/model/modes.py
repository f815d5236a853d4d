"""Modes of a mixture's density, by a hill climb from each mean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..core.numerics import row_softmax
from ..core.tree import pytree
from ..core.triangular import inverse_triangle, regular_cholesky

SAME = 1e-3
"""Standard deviations of a peak within which two ends are the same mode."""
MOST = 2000
"""Steps of a climb."""


@pytree
class Modes:
    """Where the density of a mixture has its peaks, the highest first.

    Attributes:
        point: [m, d]
        log_density: [m] in nats.
        curvature: [m, d, d] minus the Hessian of the log-density: the inverse of a peak's width.
        component: [k] the mode to which each component's mean leads; -1 of an absent one.
    """

    point: Array
    log_density: Array
    curvature: Array
    component: Array

    def __len__(self) -> int:
        return len(self.log_density)


def modes(mixture: Any) -> Modes:
    """See `Mixture.modes`; on the host."""
    present = np.flatnonzero(np.asarray(mixture.log_weights) > -np.inf)
    ends = jax.tree.map(np.asarray, _climb(mixture.take(present)))
    points, values, curvature = ends
    leads, found = np.full(len(present), -1), []
    for end in np.argsort(-values, kind="stable"):
        # where the curvature is not positive the climb ended on a ridge: nothing to report
        if not np.linalg.eigvalsh(curvature[end]).min() > 0:
            continue
        away = points[found] - points[end]
        distance = np.einsum("md,de,me->m", away, curvature[end], away)
        near = np.flatnonzero(distance < SAME**2)
        leads[end] = near[0] if len(near) else len(found)
        if not len(near):
            found.append(end)
    component = np.full(mixture.n_components, -1)
    component[present] = leads
    kept = [jnp.asarray(leaf[found]) for leaf in (points, values, curvature)]
    return Modes(kept[0], kept[1], kept[2], jnp.asarray(component))


def _log_density(mixture: Any, x: Float[Array, "n d"]) -> tuple[Array, Array]:
    f, plan = row_softmax(mixture.components.cost(x), mixture.log_weights)
    return -f, plan


@jax.jit
def _climb(mixture: Any) -> tuple[Array, Array, Array]:
    """Ends of climbs from the means, their log-densities and curvatures.

    Each step is the mean shift, which always climbs, or Newton's where that is higher, which does
    not slow down on ridges.
    """
    means, spreads = mixture.components.moments()
    matrices = spreads if spreads.ndim == 3 else jax.vmap(jnp.diag)(spreads)
    width = jnp.sqrt(jnp.diagonal(matrices, axis1=1, axis2=2))
    # a hair off: by symmetry a mean may be a saddle, and a climb would stay there
    off = 1e-3 * jnp.cos(jnp.arange(means.size, dtype=means.dtype)).reshape(means.shape)
    start = means + jnp.where(jnp.isfinite(width), width, 0) * off

    def at(point: Array) -> Array:
        return _log_density(mixture, point[None])[0][0]

    def newton(x: Array) -> Array:
        slope, curvature = jax.vmap(jax.grad(at))(x), -jax.vmap(jax.hessian(at))(x)
        root = inverse_triangle(regular_cholesky(curvature))
        return x + jnp.einsum("kba,kbc,kc->ka", root, root, slope)

    def climb(state: tuple) -> tuple:
        step, x, value, _ = state
        shifted = mixture.components.ascend(x, _log_density(mixture, x)[1])
        jumped = newton(x)
        values = [_log_density(mixture, y)[0] for y in (shifted, jumped)]
        # false for NaN, where the curvature is not positive
        better = values[1] > values[0]
        y = jnp.where(better[:, None], jumped, shifted)
        height = jnp.where(better, values[1], values[0])
        higher = height > value
        x, value = jnp.where(higher[:, None], y, x), jnp.where(higher, height, value)
        return step + 1, x, value, jnp.any(higher)

    def goes_on(state: tuple) -> Array:
        return (state[0] < MOST) & state[3]

    began = (jnp.asarray(0), start, _log_density(mixture, start)[0], jnp.asarray(True))
    x = jax.lax.while_loop(goes_on, climb, began)[1]
    # the density is flat at a peak: Newton finds the digits that its values do not show
    for _ in range(2):
        polished = newton(x)
        x = jnp.where(jnp.all(jnp.isfinite(polished), axis=1, keepdims=True), polished, x)
    return x, _log_density(mixture, x)[0], -jax.vmap(jax.hessian(at))(x)

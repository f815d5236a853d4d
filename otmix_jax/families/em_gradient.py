"""The default statistics and M-step of a family: one guarded Newton step on the expected cost.

The expected cost sum_i P_ij C_ij(theta_j) is a sum over rows, and so are its gradient and Hessian
in a component's coordinates. At the current parameters its gradient is that of the likelihood, so
the step has EM's fixed points and, near them, its rate.

Source: Lange (1995), J. R. Statist. Soc. B 57, A gradient algorithm locally equivalent to EM.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree

from ..core.numerics import einsum, safe_divide
from ..core.tree import pytree
from ..core.triangular import inverse_triangle, regular_cholesky
from .coordinates import NESTED, REAL, learned

DAMPING = (0.0, 1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""Multiples of the mean curvature that may be added to make the Hessian positive definite."""
LONGEST = 2.0
"""The largest step in a coordinate without units: a factor of e^2."""


@pytree
class Slopes:
    """Derivatives of the expected cost at the current parameters: additive in rows.

    Attributes:
        gradient: [b, p] in the coordinates of each block: a component, or all where they share.
        hessian: [b, p, p], or [b, p] a diagonal in its place.
    """

    gradient: Array
    hessian: Array


def _separate(instance: Any) -> bool:
    """Whether no parameter is shared by components."""
    return all(
        not field.metadata["shared"]
        and (field.metadata["domain"] is not NESTED or _separate(getattr(instance, field.name)))
        for field in learned(instance)
    )


def _blocks(family: Any) -> tuple[Float[Array, "b p"], Any]:
    """Zeros of the coordinates, a row for each component if they are separate; and the way back."""
    tree = jax.tree.map(jnp.zeros_like, family.unconstrained(family))
    # a shared parameter couples the components' Hessians: one block of all coordinates
    if not _separate(family):
        flat, unravel = ravel_pytree(tree)
        return flat[None], lambda z: unravel(z[0])
    k, (leaves, structure) = family.n_components, jax.tree.flatten(tree)
    widths = np.cumsum([leaf.size // k for leaf in leaves])

    def back(z: Float[Array, "k p"]) -> PyTree:
        parts = jnp.split(z, widths[:-1], axis=1)
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    return _side_by_side(tree, k), back


def _side_by_side(tree: PyTree, blocks: int) -> Float[Array, "b p"]:
    """Coordinates as rows, in the order of `_blocks`."""
    if blocks == 1:
        return ravel_pytree(tree)[0][None]
    return jnp.concatenate([leaf.reshape(blocks, -1) for leaf in jax.tree.leaves(tree)], axis=1)


def recentred(family: Any, slopes: Slopes, onto: Any) -> Slopes:
    """The derivatives at `onto`, to first order in the step there."""
    step = _side_by_side(onto.unconstrained(family), slopes.gradient.shape[0])
    # an absent component may hold anything
    step = jnp.where(jnp.isfinite(step), step, 0)
    diagonal = slopes.hessian.ndim == 2
    bend = slopes.hessian * step if diagonal else einsum("bpq,bq->bp", slopes.hessian, step)
    return Slopes(slopes.gradient + bend, slopes.hessian)


def expected_cost(family: Any, slopes: Slopes, at: Any) -> Float[Array, ""]:
    """To first order in the step to `at`."""
    step = _side_by_side(at.unconstrained(family), slopes.gradient.shape[0])
    # an absent component may hold anything
    return jnp.sum(jnp.where(slopes.gradient == 0, 0, slopes.gradient * step))


def statistics(family: Any, x: PyTree, plan: Float[Array, "n k"]) -> Slopes:
    """Gradient and Hessian of the expected cost; p Hessian-vector products."""
    zeros, back = _blocks(family)

    def gradient(z: Array) -> Array:
        def expected(z: Array) -> Array:
            cost = family.constrain(back(z)).cost(x)
            # A row that a component cannot hold costs infinity, and has no share in it.
            return jnp.sum(jnp.where(plan > 0, plan * jnp.where(plan > 0, cost, 0), 0))

        return jax.grad(expected)(z)

    def product(probe: Array) -> Array:
        # One probe for all blocks: no component's cost depends on another's parameters.
        return jax.jvp(gradient, (zeros,), (jnp.broadcast_to(probe, zeros.shape),))[1]

    probes = jnp.eye(zeros.shape[1], dtype=zeros.dtype)
    return Slopes(gradient(zeros), jax.vmap(product, out_axes=-1)(probes))


def diagonal_statistics(family: Any, x: PyTree, plan: Float[Array, "n k"]) -> Slopes:
    """Gradient, and Fisher's information by squares of each row's gradient: its diagonal alone.

    For families of many parameters, none of which is shared.
    """
    zeros, back = _blocks(family)

    def cost(z: Array, row: PyTree, share: Array) -> Array:
        costs = family.constrain(back(z)).cost(jax.tree.map(lambda leaf: leaf[None], row))[0]
        return jnp.sum(jnp.where(share > 0, costs, 0))

    # a row at a time, all components side by side: no one's cost depends on another's parameters
    slopes = jax.vmap(jax.grad(cost), (None, 0, 0))(zeros, x, plan)
    gradient = einsum("nk,nkp->kp", plan, slopes)
    return Slopes(gradient, einsum("nk,nkp->kp", plan, slopes**2))


def maximize(family: Any, slopes: Slopes, mass: Float[Array, " k"], held: frozenset[str]) -> Any:
    """A Newton step on the fields that are not held, if need be damped and shortened."""
    zeros, back = _blocks(family)
    blocks = zeros.shape[0]
    weight = mass[:, None] if blocks > 1 or len(mass) == 1 else jnp.sum(mass)[None, None]
    # per unit of mass, so that damping means the same in small components
    weight = jnp.where(weight > 0, weight, 1)
    domains = _domains(family)
    free = _mask(family, {name: name not in held for name in domains}, zeros)
    # a domain is a leaf to the map
    unitless = jax.tree.map(lambda domain: domain is not REAL, domains)
    unitless = _mask(family, unitless, zeros)
    step = -_step(slopes, free, weight)
    longest = jnp.max(jnp.where(unitless, jnp.abs(step), 0), axis=1, keepdims=True)
    # the maximum first: a step of 0 is no division by 0
    step = step * jnp.minimum(1, LONGEST / jnp.maximum(longest, LONGEST))
    return family.constrain(back(jnp.where(free, step, 0)))


def _step(slopes: Slopes, free: Array, weight: Array) -> Float[Array, "b p"]:
    """H^-1 gradient over the coordinates that are free."""
    gradient = jnp.where(free, slopes.gradient / weight, 0)
    if slopes.hessian.ndim == 2:
        curvature = slopes.hessian / weight
        least = DAMPING[2] * jnp.mean(curvature, axis=1, keepdims=True)
        return safe_divide(gradient, curvature + least)
    both = free[:, :, None] & free[:, None, :]
    identity = jnp.eye(free.shape[1], dtype=gradient.dtype)
    # the identity where a coordinate is held: the matrix stays regular, and the step there is 0
    hessian = jnp.where(both, slopes.hessian / weight[..., None], identity)
    # rounding leaves it a little asymmetric, and Cholesky reads one triangle
    return _solve(0.5 * (hessian + jnp.swapaxes(hessian, 1, 2)), gradient)


def _domains(family: Any) -> dict[str, Any]:
    """The domain of each field, or a tree of domains that is a prefix of it."""
    own = getattr(family, "domains", None)
    return own or {field.name: field.metadata["domain"] for field in learned(family)}


def _mask(family: Any, flags: dict[str, Any], zeros: Float[Array, "b p"]) -> Array:
    """[b, p] the flag of the field that a coordinate belongs to, or of its part of the field."""
    marked = {
        name: jax.tree.map(jnp.full_like, part, jax.tree.broadcast(flags.get(name, False), part))
        for name, part in family.unconstrained(family).items()
    }
    # flattened as `_blocks` does, or the places would not agree
    return _side_by_side(marked, zeros.shape[0]) > 0


def _solve(hessian: Float[Array, "b p p"], right: Float[Array, "b p"]) -> Float[Array, "b p"]:
    """H^-1 right, H made positive definite by the smallest damping that does.

    Cholesky of all dampings side by side, not eigenvalues: LAPACK batched under a thread pool of
    few cores can block itself (see `core.triangular`).
    """
    p = hessian.shape[-1]
    size = jnp.mean(jnp.abs(jnp.diagonal(hessian, axis1=-2, axis2=-1)), axis=-1)
    size = jnp.where(size > 0, size, 1)[:, None, None] * jnp.eye(p, dtype=hessian.dtype)
    damping = jnp.asarray(DAMPING, hessian.dtype)[:, None, None, None]
    factor = regular_cholesky(hessian + damping * size)
    definite = jnp.all(jnp.isfinite(factor), axis=(-2, -1))
    # argmax is 0 where none is definite: that factor is NaN, to a solver a collapse
    first = jnp.argmax(definite, axis=0)
    chosen = jnp.take_along_axis(factor, first[None, :, None, None], axis=0)[0]
    inverse = inverse_triangle(chosen)
    return einsum("bji,bjk,bk->bi", inverse, inverse, right)

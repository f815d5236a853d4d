"""Two mixtures side by side: how far apart they are, and which component is which."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PyTree

from ..core.numerics import einsum, proportions
from ..core.tree import pytree, shape_of
from ..core.triangular import regular_cholesky
from ..model import Mixture
from ..model.moments import of_present
from ..transport.exact import exact_plan


@pytree
class Transported:
    """One mixture carried onto another.

    Attributes:
        distance: the mixture-Wasserstein distance, in the units of the rows.
        plan: [k, l] the mass that goes from a component of the first to one of the second.
        costs: [k, l] squared Wasserstein distances of the components.
    """

    distance: Float[Array, ""]
    plan: Float[Array, "k l"]
    costs: Float[Array, "k l"]


def wasserstein(a: Mixture, b: Mixture) -> Transported:
    """The mixture-Wasserstein distance MW_2 of Gaussian mixtures.

        MW_2^2 = min_P sum_jl P_jl W_2^2(a_j, b_l),   P 1 = pi_a,   P^T 1 = pi_b
        W_2^2 = |mu - nu|^2 + tr S + tr T - 2 tr (S^1/2 T S^1/2)^1/2

    It is the least cost among couplings that are Gaussian mixtures themselves, so at least W_2 of
    the mixtures. The linear program is solved exactly, on the host; the derivative, by the
    envelope theorem, holds under `jit`, `vmap` and `grad` too. Components of other families count
    by their means and covariances: a lower bound of their own distance (Gelbrich, 1990).

    Raises:
        ValueError: for mixtures of different columns.
        TypeError: for a family without moments.

    Example:
        >>> import jax.numpy as jnp, otmix_jax as om
        >>> from otmix_jax.families import Gaussian, Spherical
        >>> at = lambda m: Gaussian(jnp.array([[0.0], [m]]), Spherical(jnp.ones(2)))
        >>> a, b = (om.Mixture.from_weights(jnp.ones(2), at(m)) for m in (4.0, 6.0))
        >>> round(float(om.inference.wasserstein(a, b).distance), 4)
        1.4142

    Source: Delon and Desolneux (2020), SIAM J. Imaging Sci. 13, section 4.
    """
    costs = component_costs(a, b)
    masses = proportions(a.log_weights), proportions(b.log_weights)
    given = jax.lax.stop_gradient((costs, *masses))
    shapes = tuple(shape_of(leaf.shape, leaf.dtype) for leaf in given)
    plan, u, v = jax.pure_callback(_solved, shapes, *given, vmap_method="sequential")
    # twice `where`: an absent component's cost may be NaN; a plan of NaN is no 0
    used = plan != 0
    squared = jnp.sum(jnp.where(used, plan * jnp.where(used, costs, 0), 0))
    for mass, fixed, price in zip(masses, given[1:], (u, v), strict=True):
        # no part of the value, but of its derivative
        squared += jnp.sum((mass - fixed) * jnp.where(jnp.isfinite(price), price, 0))
    positive = squared > 0
    distance = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0.0 * squared)
    return Transported(distance, plan, costs)


def _solved(cost: Any, a: Any, b: Any) -> tuple[np.ndarray, ...]:
    answer = exact_plan(np.asarray(cost), np.asarray(a), np.asarray(b))
    return tuple(part.astype(cost.dtype) for part in answer)


def component_costs(a: Mixture, b: Mixture) -> Float[Array, "k l"]:
    """W_2^2 of each Gaussian of the one to each of the other, by means and covariances.

    With S = L L^T and T = M M^T it is |mu - nu|^2 + min_Q |L - M Q|^2 over rotations Q, which
    loses no digits where two components nearly agree. At the best Q, from a singular value
    decomposition, its derivative is that of L and M alone.
    """
    (mean, factor), (other, target) = _gaussians(a), _gaussians(b)
    if mean.shape[1] != other.shape[1]:
        raise ValueError(f"mixtures of {mean.shape[1]} and of {other.shape[1]} columns")
    product = jax.lax.stop_gradient(einsum("lba,kbc->klac", target, factor))
    regular = jnp.all(jnp.isfinite(product), axis=(2, 3), keepdims=True)
    left, _, right = jnp.linalg.svd(jnp.where(regular, product, 0))
    turned = einsum("lab,klbc->klac", target, einsum("klab,klbc->klac", left, right))
    apart = jnp.sum((mean[:, None] - other) ** 2, axis=2)
    return apart + jnp.sum((factor[:, None] - turned) ** 2, axis=(2, 3))


def _gaussians(mixture: Mixture) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """Means and lower factors of the covariances."""
    mean, spread = of_present(
        mixture.log_weights, mixture.components, lambda family: family.moments()
    )
    if isinstance(mean, dict):
        raise TypeError("rows that are dicts have no distance: take mixture.marginal('name')")
    if spread.ndim == 2:
        return mean, jnp.sqrt(spread)[..., None] * jnp.eye(spread.shape[1], dtype=spread.dtype)
    return mean, regular_cholesky(spread)


def match(a: Mixture, b: Mixture, x: PyTree = None) -> Int[np.ndarray, " k"]:
    """Which component of `b` is which of `a`: `b.take(match(a, b))` stands beside `a`.

    Without rows, the permutation of least squared Wasserstein distance between components,
    whatever their proportions; with rows, that under which the two agree on most of them,
    sum_i P(j | x_i, a) P(l | x_i, b) being largest, for any family.

    Args:
        a: the mixture whose order is kept.
        b: the other, of as many components.
        x: [n, d] rows, or None.

    Raises:
        ValueError: for mixtures of different numbers of components.
        TypeError: without rows, for a family without moments.
    """
    k = a.n_components
    if b.n_components != k:
        raise ValueError(f"mixtures of {k} and of {b.n_components} components: see wasserstein")
    if x is None:
        cost = np.asarray(component_costs(a, b))
    else:
        cost = -np.asarray(einsum("nk,nl->kl", a.responsibilities(x), b.responsibilities(x)))
    # absent components with NaN go to what is left
    cost = np.where(np.isfinite(cost), cost, np.max(cost, initial=0, where=np.isfinite(cost)))
    return np.argmax(exact_plan(cost, np.ones(k), np.ones(k))[0], axis=1)

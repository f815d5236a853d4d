"""How the column potentials g follow from the column mass m: the coupling, as a number rho.

With reference weights pi and target sizes b (pi itself unless given) the problem is

    H_rho = min over P with P 1 = a of <C, P> + epsilon KL(P | a pi^T) + rho KL(P^T 1 | b)

rho = 0 leaves the sizes free (semi-relaxed: maximum likelihood), rho = inf prescribes them
(balanced entropic transport). Its dual is concave in g:

    D(g) = sum_i a_i f_i(g) + psi(g),     psi(g) = -rho log sum_j b_j exp(-g_j / rho)

with psi = 0, g = 0 at rho = 0 and psi = sum_j b_j g_j at rho = inf. A constant added to g moves
nothing, for any rho > 0.
"""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Float

from ..core.numerics import logsumexp, normalize, safe_log
from ..core.tree import pytree
from ..core.typing import AnyArray


class Coupling(abc.ABC):
    """Knows g, m, pi, epsilon and rho; nothing of rows or families."""

    free: bool = False
    """Whether g = 0 always, so that there is nothing to solve."""
    fixes_weights: bool = False
    """Whether the sizes are prescribed, so that EM cannot learn the proportions."""

    @abc.abstractmethod
    def target(self, log_weights: Float[Array, " k"]) -> Float[Array, " k"]:
        """Log b [k]: the sizes that the plan is drawn to."""

    def reference(self, log_weights: Float[Array, " k"]) -> Float[Array, " k"]:
        """The reference proportions log pi, without columns whose target size is 0."""
        # rho may be traced, so no `if`
        dropped = ~(self.target(log_weights) > -jnp.inf) & (
            jnp.asarray(self.penalty_strength()) > 0
        )
        return jnp.where(dropped, -jnp.inf, log_weights)

    @abc.abstractmethod
    def penalty_strength(self) -> Array | float:
        """rho, in [0, inf]."""


@pytree
class SemiRelaxed(Coupling):
    """Free sizes, rho = 0: the plan is one row softmax, the value the likelihood's."""

    free = True

    def target(self, log_weights: Array) -> Array:
        """Not drawn to anything; the reference weights."""
        return log_weights

    def reference(self, log_weights: Array) -> Array:
        """The proportions as they are."""
        return log_weights

    def penalty_strength(self) -> float:
        """Zero."""
        return 0.0


@pytree
class Penalized(Coupling):
    """Sizes drawn to a target with strength rho; 0 and inf are exact limits of the plan.

    EM learns the proportions ever more slowly as rho grows, and at inf without `sizes` not at all:
    `Balanced` says so, and refuses.

    Attributes:
        rho: penalty in nats, in [0, inf]; a leaf, may be traced. The derivative of a value in rho
            is right for rho > 0; at 0 it is given as 0.
        sizes: [k] target b, divided by its sum; None is the mixture's own proportions.
    """

    rho: Array | float
    sizes: AnyArray | None = None

    def target(self, log_weights: Array) -> Array:
        """The logarithm of the sizes, or of the proportions."""
        return log_weights if self.sizes is None else safe_log(normalize(jnp.asarray(self.sizes)))

    def penalty_strength(self) -> Array | float:
        """The number rho."""
        return self.rho


@pytree
class Balanced(Coupling):
    """Prescribed sizes, rho = inf: entropic transport; under EM, Sinkhorn-EM.

    Attributes:
        sizes: [k] target b, divided by its sum; None is the mixture's own proportions.
    """

    fixes_weights = True

    sizes: AnyArray | None = None

    def target(self, log_weights: Array) -> Array:
        """The logarithm of the sizes, or of the proportions."""
        return log_weights if self.sizes is None else safe_log(normalize(jnp.asarray(self.sizes)))

    def penalty_strength(self) -> float:
        """Infinity."""
        return float("inf")


def check_range(value: Any, name: str, *, finite: bool = True) -> None:
    """Refuses what is no number >= 0; None and tracers pass.

    Raises:
        ValueError: for anything else.
    """
    if value is None or isinstance(value, Tracer):
        return
    known = isinstance(value, int | float | np.number | np.ndarray | Array) and np.ndim(value) == 0
    if not known or not value >= 0 or (finite and value == np.inf):
        raise ValueError(f"{name} must be a {'finite ' * finite}number >= 0, not {value!r}")


def check_entropy(epsilon: Any, coupling: Coupling) -> None:
    """Refuses an epsilon or rho out of range, and epsilon = 0 where sizes are drawn to a target.

    Tracers pass: what holds under jit is said by the plan's residual.

    Raises:
        ValueError: for either.
    """
    check_range(epsilon, "epsilon")
    check_range(getattr(coupling, "rho", None), "rho", finite=False)
    unknown = epsilon is None or isinstance(epsilon, Tracer) or coupling.free
    if not unknown and epsilon == 0:
        raise ValueError(
            f"epsilon=0 with {type(coupling).__name__} is a linear program, which rows that choose "
            "one by one do not solve: take a small epsilon, or a solver of linear programs from a "
            "transport library, such as POT's ot.emd"
        )


def psi(
    g: Float[Array, " k"], log_target: Float[Array, " k"], rho: Array | float
) -> Float[Array, ""]:
    """The columns' share of the dual.

    The direct logarithm loses digits for rho large against g, log1p overflows for rho small.
    """
    b = jnp.exp(log_target)
    present = log_target > -jnp.inf
    g = jnp.where(present, g, 0)
    mean = jnp.sum(b * g)
    finite = jnp.isfinite(rho) & (rho > 0)
    # rho of 0 and inf are selected at the end: what is not taken must stay finite too
    scale = jnp.where(finite, rho, 1)
    z = -(g - mean) / scale
    gentle = jnp.max(jnp.abs(z)) < 1
    near = jnp.log1p(jnp.sum(b * jnp.expm1(jnp.where(gentle, z, 0))))
    far = logsumexp(jnp.where(present, log_target + z, -jnp.inf), axis=0)
    penalised = mean - scale * jnp.where(gentle, near, far)
    return jnp.where(rho == 0, 0, jnp.where(finite, penalised, mean))


def implied_target(g: Array, log_target: Array, rho: Array | float) -> Float[Array, " k"]:
    """The gradient of psi: the sizes at which g would be optimal; b itself at rho = inf."""
    finite = jnp.isfinite(rho)
    z = log_target - g / jnp.where(finite & (rho > 0), rho, 1)
    tilted = jnp.exp(z - logsumexp(z, axis=0))
    return jnp.where(finite, tilted, jnp.exp(log_target))


def sinkhorn_step(
    g: Array, mass: Array, log_target: Array, epsilon: Array | float, rho: Array | float
) -> Float[Array, " k"]:
    """The column step of Sinkhorn's algorithm, then the translation that centres g.

    tau (g - epsilon log(m / b)) with tau = rho / (rho + epsilon). A constant moves nothing; taking
    sum_j b_j g_j = 0 removes the mode that would contract only at the rate tau.
    """
    # `where` inside as well: inf / inf is NaN
    tau = jnp.where(jnp.isfinite(rho), rho / (jnp.where(jnp.isfinite(rho), rho, 1) + epsilon), 1)
    # a column that lost its mass has log 0: g would be infinite, and never come back
    log_mass = jnp.maximum(safe_log(mass), jnp.log(jnp.finfo(mass.dtype).tiny))
    stepped = tau * (g - epsilon * (log_mass - log_target))
    return centre(stepped, log_target)


def centre(g: Array, log_target: Array) -> Float[Array, " k"]:
    """The same potentials with sum_j b_j g_j = 0, and 0 at absent columns."""
    present = log_target > -jnp.inf
    g = jnp.where(present, g, 0)
    return jnp.where(present, g - jnp.sum(jnp.exp(log_target) * g), 0)

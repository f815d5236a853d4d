"""Laws of the proportions: Dirichlet, and the stick-breaking of a Dirichlet process."""

import abc
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, gammaln
from jaxtyping import Float

from ..core.tree import pytree
from ..core.typing import AnyArray


class ProportionsLaw(abc.ABC):
    """What is believed of K proportions: a prior, or with counts of rows a posterior."""

    @abc.abstractmethod
    def updated(self, counts: Float[Array, " k"]) -> Any:
        """The law after so many more rows in each component; they need not be whole."""

    @abc.abstractmethod
    def expected_log(self) -> Float[Array, " k"]:
        """E log pi_j: no proportions, since their exponentials sum to less than 1."""

    @abc.abstractmethod
    def mean(self) -> Float[Array, "*b k"]:
        """The expected proportions, divided by their sum."""

    @abc.abstractmethod
    def log_normalizer(self) -> Float[Array, ""]:
        """The logarithm of the law's integral without its normaliser."""

    @abc.abstractmethod
    def divergence(self, other: Any) -> Float[Array, ""]:
        """KL(self | other) of two laws of one kind, in nats."""


@pytree
class DirichletWeights(ProportionsLaw):
    """The proportions are Dirichlet. `concentration`: [k], > 0, in rows.

    Source: Bishop (2006), Pattern Recognition and Machine Learning, eq. (10.57), (10.66).
    """

    concentration: Array

    def updated(self, counts: Float[Array, " k"]) -> "DirichletWeights":
        """See `ProportionsLaw.updated`."""
        return DirichletWeights(self.concentration + counts)

    def expected_log(self) -> Float[Array, " k"]:
        """See `ProportionsLaw.expected_log`."""
        return dirichlet_log(self.concentration)

    def mean(self) -> Float[Array, "*b k"]:
        """See `ProportionsLaw.mean`."""
        return _shares(self.concentration)

    def log_normalizer(self) -> Float[Array, ""]:
        """See `ProportionsLaw.log_normalizer`."""
        total = gammaln(jnp.sum(self.concentration))
        return jnp.sum(gammaln(self.concentration)) - total

    def divergence(self, other: "DirichletWeights") -> Float[Array, ""]:
        """See `ProportionsLaw.divergence`."""
        return dirichlet_divergence(self.concentration, other.concentration)


@pytree
class StickBreaking(ProportionsLaw):
    """Component j takes a share v_j of the stick that those before it left: v_j is Beta.

    What the last one leaves belongs to components beyond K, which hold no rows: the truncation is
    of the posterior alone.

    Attributes:
        taken: [k] > 0, the first parameter of v_j.
        passed: [k] > 0, the second.

    Source: Blei and Jordan (2006), Bayesian Analysis 1, section 3, eq. (18) to (21).
    """

    taken: Array
    passed: Array

    def updated(self, counts: Float[Array, " k"]) -> "StickBreaking":
        """See `ProportionsLaw.updated`."""
        from_here = jnp.cumsum(counts[::-1])[::-1]
        beyond = jnp.concatenate([from_here[1:], jnp.zeros_like(counts[:1])])
        return StickBreaking(self.taken + counts, self.passed + beyond)

    def expected_log(self) -> Float[Array, " k"]:
        """See `ProportionsLaw.expected_log`."""
        whole = digamma(self.taken + self.passed)
        left = digamma(self.passed) - whole
        return digamma(self.taken) - whole + jnp.cumsum(left, axis=-1) - left

    def mean(self) -> Float[Array, "*b k"]:
        """See `ProportionsLaw.mean`."""
        whole = self.taken + self.passed
        left = jnp.cumprod(self.passed / whole, axis=-1)
        before = jnp.concatenate([jnp.ones_like(left[..., :1]), left[..., :-1]], axis=-1)
        return _shares(self.taken / whole * before)

    def log_normalizer(self) -> Float[Array, ""]:
        """See `ProportionsLaw.log_normalizer`."""
        return jnp.sum(_log_beta(self.taken, self.passed))

    def divergence(self, other: "StickBreaking") -> Float[Array, ""]:
        """See `ProportionsLaw.divergence`."""
        return jnp.sum(beta_divergence(self.taken, self.passed, other.taken, other.passed))


@pytree
class DirichletPrior:
    """K proportions under a symmetric Dirichlet law.

    Attributes:
        concentration: > 0, in rows for each component; None is 1 / K. Small ones leave components
            empty.
    """

    concentration: AnyArray | float | None = None

    def law(self, n_components: int, dtype: Any) -> DirichletWeights:
        """The law of so many."""
        return DirichletWeights(_concentration(self.concentration, n_components, dtype))


@pytree
class StickBreakingPrior:
    """Proportions of a Dirichlet process, of which K are represented.

    Attributes:
        concentration: > 0, in rows; None is 1 / K. Small ones favour few components.
    """

    concentration: AnyArray | float | None = None

    def law(self, n_components: int, dtype: Any) -> StickBreaking:
        """The law of so many sticks."""
        passed = _concentration(self.concentration, n_components, dtype)
        return StickBreaking(jnp.ones_like(passed), passed)


def _concentration(given: Any, n_components: int, dtype: Any) -> Float[Array, " k"]:
    value = 1 / n_components if given is None else given
    return jnp.broadcast_to(jnp.asarray(value, dtype), (n_components,))


def _shares(parts: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    # positive, and no larger than a count of rows: nothing over- or underflows
    return parts / jnp.sum(parts, axis=-1, keepdims=True)


def dirichlet_log(concentration: Float[Array, "*b l"], there: Any = True) -> Float[Array, "*b l"]:
    """E log p_l under a Dirichlet law; 0 where a level is not there."""
    held = jnp.where(there, concentration, 0)
    total = jnp.sum(held, axis=-1, keepdims=True)
    return jnp.where(there, digamma(jnp.where(there, held, 1)) - digamma(total), 0)


def dirichlet_divergence(
    a: Float[Array, "*b l"], b: Float[Array, "*c l"], there: Any = True
) -> Float[Array, "*b"]:
    """KL of two Dirichlet laws over the levels that are there, in nats."""
    a, b, logs = jnp.where(there, a, 0), jnp.where(there, b, 0), dirichlet_log(a, there)
    normalizers = gammaln(jnp.sum(a, axis=-1)) - gammaln(jnp.sum(b, axis=-1))
    a, b = jnp.where(there, a, 1), jnp.where(there, b, 1)
    return jnp.sum(gammaln(b) - gammaln(a) + (a - b) * logs, axis=-1) + normalizers


def beta_divergence(a: Array, b: Array, c: Array, d: Array) -> Array:
    """KL(Beta(a, b) | Beta(c, d)), in nats."""
    whole = digamma(a + b)
    moved = (a - c) * (digamma(a) - whole) + (b - d) * (digamma(b) - whole)
    return _log_beta(c, d) - _log_beta(a, b) + moved


def _log_beta(a: Array, b: Array) -> Array:
    # JAX's betaln is off by 1e-8 where one argument is small
    return gammaln(a) + gammaln(b) - gammaln(a + b)

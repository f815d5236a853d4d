"""Gaussian components of which a part stays as it is."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from .._pytree import pytree, replace, static
from ..priors import split
from .base import Family
from .gaussian import Gaussian, Moments
from .natural import LocationForm, NaturalForm


@pytree
class Frozen(Family):
    """Components whose means or covariances are not learned, under any solver and adjoint.

    Start from it: `om.solve(problem, Mixture(log_weights, Frozen(components, mean=True)))`, or
    `om.fit(..., initial=...)`. The answer is again `Frozen`; its `inner` has the parameters.
    Proportions are held by `learn_weights=False` of `Problem` and `fit`. Derivatives of the answer
    in what is frozen are zero: it is part of the start.

    Attributes:
        inner: the components.
        mean: whether the means stay.
        covariance: whether the covariances stay.
    """

    inner: Gaussian
    mean: bool = static(default=False)
    covariance: bool = static(default=False)
    equivariant: ClassVar[bool] = True

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.inner.n_features

    @property
    def n_parameters(self) -> int:
        """Those that are learned."""
        shape = self.inner.covariance.n_parameters
        means = self.inner.n_parameters - shape
        return (0 if self.mean else means) + (0 if self.covariance else shape)

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """See `Gaussian.cost`."""
        return self.inner.cost(x)

    def prepared(self) -> "Frozen":
        """See `Gaussian.prepared`."""
        return replace(self, inner=self.inner.prepared())

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Moments:
        """See `Gaussian.statistics`."""
        return self.inner.statistics(x, plan)

    def location_form(self) -> LocationForm:
        """See `Gaussian.location_form`."""
        return self.inner.location_form()

    def location_statistics(self, first: Array, second: Array) -> Moments:
        """See `Gaussian.location_statistics`."""
        return self.inner.location_statistics(first, second)

    def natural(self) -> NaturalForm:
        """See `Gaussian.natural`."""
        return self.inner.natural()

    def maximize(
        self, statistics: Moments, mass: Float[Array, " k"], prior: PyTree = None
    ) -> "Frozen":
        """The M-step over what is free: covariances about the means that stay, where they do.

        The moments are about the current means, so a first moment of zero leaves them there.
        """
        if self.mean:
            parts = split(prior)
            if parts.mean is not None:
                statistics, mass = parts.mean.observe(self.inner, statistics, mass)
            statistics = replace(statistics, first=jnp.zeros_like(statistics.first))
            prior = replace(parts, mean=None)
        new = self.inner.maximize(statistics, mass, prior)
        if self.covariance:
            new = replace(new, covariance=self.inner.covariance)
        return replace(self, inner=new)

    def penalty(self, prior: PyTree) -> Float[Array, ""] | float:
        """See `Gaussian.penalty`."""
        return self.inner.penalty(prior)

    def _free(self, coordinates: dict[str, Array]) -> dict[str, Array]:
        held = {"mean": self.mean, "covariance": self.covariance}
        return {name: part for name, part in coordinates.items() if not held[name]}

    def constrain(self, coordinates: PyTree) -> "Frozen":
        """See `Gaussian.constrain`; there are no coordinates for what is frozen."""
        zeros = jax.tree.map(jnp.zeros_like, self.inner.unconstrained(self.inner))
        return replace(self, inner=self.inner.constrain({**zeros, **coordinates}))

    def unconstrained(self, origin: Any) -> dict[str, Array]:
        """The coordinates of what is free, about `origin`."""
        return self._free(self.inner.unconstrained(origin.inner))

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        """See `Gaussian.sample`."""
        return self.inner.sample(key, labels)

    def affine(self, scale: Float[Array, ""], shift: Float[Array, " d"]) -> "Frozen":
        """See `Gaussian.affine`."""
        return replace(self, inner=self.inner.affine(scale, shift))

    @classmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], covariance: Any = None
    ) -> "Frozen":
        """Safe starting parameters, none of them frozen: an initialiser knows none to keep."""
        return cls(Gaussian.initial(x, plan, covariance))

    @classmethod
    def examples(cls) -> dict[str, "Frozen"]:
        """Frozen means, frozen covariances, nothing frozen."""
        full, tied = (Gaussian.examples()[name] for name in ("full", "tied"))
        return {
            "mean": cls(full, mean=True),
            "covariance": cls(full, covariance=True),
            "mean-tied": cls(tied, mean=True),
            "nothing": cls(full),
        }

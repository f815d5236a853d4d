"""The contract of a component family: cost, additive statistics, M-step, coordinates."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from .natural import LocationForm, NaturalForm


class Family(abc.ABC):
    """K components at once. The instance *is* the parameters; every array leaf is differentiable.

    A family knows its own parameters and nothing of loops, epsilon, weights pi or devices.
    """

    equivariant: ClassVar[bool] = False
    """Whether `affine` maps a fit of scaled and shifted rows back to the rows' own coordinates."""

    @property
    @abc.abstractmethod
    def n_components(self) -> int:
        """K."""

    @property
    @abc.abstractmethod
    def n_features(self) -> int:
        """The width d of a row."""

    @property
    @abc.abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of the K components together, for information criteria."""

    @abc.abstractmethod
    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The note's cost matrix C_ij = -log p(x_i | theta_j), in nats."""

    def prepared(self) -> "Family":
        """The same law, with what `cost` needs of the parameters alone at hand, if that pays."""
        return self

    @abc.abstractmethod
    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> PyTree:
        """Sums over rows, weighted by the plan, that `maximize` needs; additive in rows.

        They may be taken about this instance's parameters (a pivot keeps the digits), so
        `maximize` must be called on the same instance.
        """

    def location_form(self) -> LocationForm | None:
        """The family as whitened differences, where it is that; else None."""
        return None

    def location_statistics(
        self, first: Float[Array, "k d"], second: Float[Array, "k d d"]
    ) -> PyTree:
        """`statistics` from moments about the pivots of `location_form`."""
        raise TypeError(f"{type(self).__name__} has no location form")

    def natural(self) -> NaturalForm | None:
        """The family in natural parameters, where the cost is linear in features; else None."""
        return None

    @abc.abstractmethod
    def maximize(
        self, statistics: PyTree, mass: Float[Array, " k"], prior: PyTree = None
    ) -> "Family":
        """The M-step: argmin over theta of sum_ij P_ij C_ij + penalty, block 3 of the descent.

        A component of mass zero keeps its parameters, or what the prior says of them; one that
        cannot be estimated (a singular covariance) comes back as NaN: to the solver, a collapse.
        """

    @abc.abstractmethod
    def constrain(self, coordinates: PyTree) -> "Family":
        """The family at unconstrained `coordinates` about this one; zeros give this one."""

    @abc.abstractmethod
    def unconstrained(self, origin: Any) -> PyTree:
        """The coordinates of this family about `origin`: the inverse of `origin.constrain`."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        """One row from component `labels[i]`, for each i."""

    @classmethod
    @abc.abstractmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], covariance: Any = None
    ) -> "Family":
        """Safe starting parameters for rows assigned by a (hard or soft) plan of total mass 1."""

    @classmethod
    @abc.abstractmethod
    def examples(cls) -> Mapping[str, "Family"]:
        """Small named instances, which feed the contract tests."""

    @classmethod
    def weak_prior(cls, variance: Float[Array, " d"], strength: Float[Array, ""]) -> PyTree:
        """A prior that keeps the likelihood bounded, from the columns' variance; None for none."""
        del variance, strength

    def penalty(self, prior: PyTree) -> Float[Array, ""] | float:
        """What a prior adds to the mean negative log-likelihood of a mixture; >= 0."""
        del prior
        return 0.0

    def affine(self, scale: Float[Array, ""], shift: Float[Array, " d"]) -> "Family":
        """The law of `scale * X + shift`, for a positive scalar `scale`; see `equivariant`."""
        raise TypeError(f"{type(self).__name__} is not closed under affine maps of the rows")

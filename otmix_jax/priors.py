"""Conjugate priors, for maximum a posteriori: what they add to the statistics and the objective.

Strengths are pseudo-masses relative to the total mass 1 of the rows: a prior worth r rows among n
has strength r / n. The objective is then the negative log-posterior over n, up to a constant.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from .core.numerics import matmul, positive_variance
from .core.tree import pytree, replace
from .core.triangular import log_diagonal_sum, regular_cholesky
from .core.typing import AnyArray


@pytree
class Dirichlet:
    """A prior on the proportions: it adds -sum_j strength_j log pi_j to the objective.

    Under Dirichlet(alpha) and n rows, strength_j is (alpha_j - 1) / n; alpha_j >= 1. The
    proportions become (m_j + strength_j) / (1 + sum strength), so no component starves.

    Attributes:
        strength: [k], or one number for all; >= 0.
    """

    strength: AnyArray | float

    def maximize(self, mass: Float[Array, " k"]) -> Float[Array, " k"]:
        """Proportions, up to their sum, under the plan's sizes."""
        return mass + self.strength

    def penalty(self, log_weights: Float[Array, " k"]) -> Float[Array, ""]:
        """What it adds to the objective; absent components are left out."""
        present = log_weights > -jnp.inf
        # twice `where`: 0 * -inf is NaN, in the derivative too
        return -jnp.sum(jnp.where(present, self.strength * jnp.where(present, log_weights, 0), 0))


@pytree
class NormalMean:
    """A prior on the means, mu_j given Sigma_j being N(centre, Sigma_j / strength): conjugate.

    It counts as `strength` more mass at `centre` in every component: it adds strength * C(centre,
    theta_j) to the objective for each, C being the cost.

    Under a normal-inverse-Wishart law with kappa pseudo-rows and n rows, strength is kappa / n.

    Attributes:
        centre: [d], in the units of the rows.
        strength: >= 0.
    """

    centre: AnyArray
    strength: AnyArray | float

    def observe(
        self, components: Any, statistics: PyTree, mass: Float[Array, " k"]
    ) -> tuple[PyTree, Float[Array, " k"]]:
        """The statistics and the mass with the pseudo-row in every component."""
        plan = jnp.full((1, mass.shape[0]), self.strength, mass.dtype)
        # through the components: their statistics have a pivot, which sums of others must share
        extra = components.statistics(jnp.asarray(self.centre)[None], plan)
        return jax.tree.map(jnp.add, statistics, extra), mass + self.strength

    def penalty(self, components: Any) -> Float[Array, ""]:
        """What it adds to the objective, up to a constant."""
        return jnp.asarray(self.strength) * jnp.sum(components.cost(jnp.asarray(self.centre)[None]))

    def into(self, frame: Any) -> "NormalMean":
        """The same for rows in a frame."""
        return replace(self, centre=frame.into(jnp.asarray(self.centre)))


@pytree
class Ridge:
    """An inverse-Wishart prior on every covariance, with mode D.

    It adds strength * KL(N(0, D) | N(0, Sigma_j)) to the objective for each covariance: the M-step
    becomes Sigma_j = (m_j S_j + strength D) / (m_j + strength), as if each component had seen
    `strength` more of the total mass 1 with the spread D, of which a structure takes what it has
    room for: the diagonal, or the mean of that. So the likelihood is bounded, EM still descends a
    fixed objective, and where D is the data's own spread (`of`) the unit of the data does not
    matter (nor, but for `Spherical`, that of a single column).

    Under an inverse-Wishart law with nu degrees of freedom, scale Psi and n rows, strength is
    (nu + d + 1) / n and D is Psi / (nu + d + 1).

    Attributes:
        strength: pseudo-mass, >= 0, relative to the total mass 1 of the rows.
        variance: D: [d, d], symmetric and positive definite, or [d], its diagonal, > 0, where it
            has no more; in the squared units of the columns.
    """

    strength: AnyArray | float
    variance: AnyArray

    @classmethod
    def of(
        cls,
        x: Float[AnyArray, "n d"],
        row_weight: Float[AnyArray, " n"],
        strength: Float[AnyArray, ""] | float,
    ) -> "Ridge":
        """The ridge whose D is the columns' weighted variance; a constant column gets the mean."""
        x, row_weight = jnp.asarray(x), jnp.asarray(row_weight)
        variance = matmul(row_weight, (x - matmul(row_weight, x)) ** 2)
        return cls(jnp.asarray(strength, variance.dtype), positive_variance(variance))

    @property
    def log_det(self) -> Float[Array, ""]:
        """Log det D."""
        if np.ndim(self.variance) == 1:
            return jnp.sum(jnp.log(jnp.asarray(self.variance)))
        return 2 * log_diagonal_sum(regular_cholesky(jnp.asarray(self.variance)))

    def into(self, frame: Any) -> "Ridge":
        """The same for rows in an affine frame."""
        unit = frame.columns
        one_number = np.ndim(self.variance) == 1 or np.ndim(unit) == 0
        square = unit**2 if one_number else unit[..., :, None] * unit[..., None, :]
        return replace(self, variance=self.variance / square)


@pytree
class Prior:
    """Priors on the parts of a mixture, any of which may be missing.

    Attributes:
        covariance: a `Ridge`, an inverse-Wishart law; in `fit`, None leaves it to `Goal.ridge`.
        floor: [d] or one number: no column of a component has less variance left, given the
            columns before it. It costs a regular component nothing; one that rests on it is
            COLLAPSED. `fit` sets it to the rounding of the rows unless there is a ridge.
        mean: a `NormalMean`.
        weights: a `Dirichlet`.
        parts: for a product family, a `Prior` for each part by name.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> prior = om.priors.Prior(weights=om.priors.Dirichlet(10.0))
        >>> solution = om.fit(x, 2, key=0, goal=om.Goal(prior=prior))
        >>> sorted(solution.mixture.weights.round(2).tolist())
        [0.49..., 0.5...]

    Source: Fraley and Raftery (2007), section 2, for means and covariances.
    """

    covariance: Ridge | None = None
    mean: NormalMean | None = None
    weights: Dirichlet | None = None
    parts: dict[str, "Prior"] | None = None
    floor: Any = None

    @classmethod
    def of(cls, prior: Any) -> "Prior | None":
        """A prior, or one of its parts alone, as a whole; None stays None.

        Raises:
            TypeError: for what is no prior.
        """
        if prior is None or isinstance(prior, cls):
            return prior
        names = {Ridge: "covariance", NormalMean: "mean", Dirichlet: "weights", dict: "parts"}
        if type(prior) not in names:
            raise TypeError(
                f"prior must be a Prior, Ridge, NormalMean or Dirichlet, not {type(prior).__name__}"
            )
        return cls(**{names[type(prior)]: prior})

    def merge(self, weak: "Prior") -> "Prior":
        """This one, with what it leaves open taken from another."""
        parts = weak.parts if self.parts is None else self.parts
        if self.parts is not None and weak.parts is not None:
            own = self.parts
            parts = {n: own[n].merge(w) if n in own else w for n, w in weak.parts.items()} | {
                n: p for n, p in own.items() if n not in weak.parts
            }
        covariance = weak.covariance if self.covariance is None else self.covariance
        floor = weak.floor if self.floor is None else self.floor
        return replace(self, covariance=covariance, floor=floor, parts=parts)

    def given(self) -> dict[str, Any]:
        """What is not missing of the components' priors, by name; the weights' apart."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: part for name, part in fields if part is not None and name != "weights"}

    def into(self, frame: Any) -> "Prior":
        """The same for rows in a frame."""
        given = self.given()
        if "parts" in given:
            parts = given.pop("parts").items()
            mapped = {name: p.into(_of_part(frame, name)) for name, p in parts}
            given["parts"] = mapped
        if "floor" in given:
            given["floor"] = given["floor"] / frame.columns**2
        moved = {n: p if n in ("parts", "floor") else p.into(frame) for n, p in given.items()}
        return replace(self, **moved)

    def constant(self, frame: Any, n_components: int) -> Any:
        """By how much the objective grows out of a frame beside the value: each pseudo-row does."""
        total = 0.0
        if self.mean is not None:
            # a pseudo-row has all cells, whatever the rows have
            total += n_components * self.mean.strength * jnp.sum(frame.log_units, axis=-1)
        for name, part in (self.parts or {}).items():
            total += part.constant(_of_part(frame, name), n_components)
        return total


def _of_part(frame: Any, name: str) -> Any:
    """A part's own frame, or the one that all parts are in."""
    return frame.parts[name] if hasattr(frame, "parts") else frame

"""Laws by column whose width is free: the likelihood is unbounded, and digits cancel.

Where a component is narrow, natural parameters are large and its score is the small difference of
large terms. So costs and statistics are taken by differences from the component itself, and the
linear form stands in where it loses nothing. No law is narrower than the rounding of its rows; one
that is as narrow, or narrow on a few rows by chance, is `spurious`.
"""

import abc
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PyTree

from ..core.numerics import einsum, matmul, safe_divide
from ..core.tree import pytree, replace
from ..priors import Prior
from .chance import by_chance, log_ball
from .concentration import narrowest
from .coordinates import learned
from .independent import SHRUNK, Independent, IndependentForm, Sums
from .pivots import Pivots
from .quadratic import LOSS


@pytree
class Shaped(Independent):
    """`Independent` laws with a parameter for their width.

    Statistics are sums of t less their value at the component's own centre, so `of_means` is asked
    of no law but `around`, its counterpart about this one.
    """

    cancels = True
    # all at once or none: one of them is held by EM-gradient
    holds = frozenset()  # type: ignore[assignment]

    @abc.abstractmethod
    def about(self, x: Float[Array, "n 1 d"]) -> tuple[Array, ...]:
        """t_s [n, k, d] of cells within the support about each component, by differences."""

    @abc.abstractmethod
    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """Sums of `about`, from those of t over cells of so much mass."""

    @abc.abstractmethod
    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """Sums of `about` about another law of this family, from those about this one."""

    @abc.abstractmethod
    def around(self, *means: Array) -> dict[str, Array]:
        """The learned fields from means of `about`: the M-step."""

    @abc.abstractmethod
    def width(self) -> Float[Array, "k d"]:
        """The width without units, such as a deviation over a mean."""

    @classmethod
    def least_width(cls, dtype: Any) -> float:
        """The least `width` that there is."""
        return narrowest(dtype)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """See `Independent.of_means`."""
        del options
        ones: Any = {field.name: jnp.ones_like(means[0]) for field in learned(cls)}
        one = cls(**ones)
        return one.around(*one.shifted(1.0, *means))

    def linear_form(self) -> Any:
        """See `Independent.linear_form`."""
        form = super().linear_form()
        return ShapedForm(form.natural_parameters, self)

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> Any:
        """Sums about the components."""
        return self._sums(x, plan)

    def _sums(self, x: PyTree, plan: Float[Array, "n k"]) -> Sums:
        cells, _, there, sound = self.read(x)
        terms = self.about(cells[:, None])
        sums = (einsum("nk,nkd->kd", plan, jnp.where(sound[:, None], t, 0)) for t in terms)
        return Sums(matmul(plan.T, there.astype(plan.dtype)), tuple(sums))

    expected_cost = Pivots.expected_cost

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`."""
        del mass
        size = statistics.size
        moved = self.carried(onto, size, *statistics.terms)
        # an absent component may hold anything
        there = zip(moved, statistics.terms, strict=True)
        return Sums(size, tuple(jnp.where(size > 0, new, old) for new, old in there))

    def maximize(
        self,
        statistics: Any,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> Any:
        """See `Independent.maximize`."""
        del mass, prior
        return self if held else self._moved(statistics)

    def _moved(self, sums: Sums) -> Any:
        size: Any = sums.size
        moved = self.around(*(safe_divide(t, size) for t in sums.terms))
        new = {n: jnp.where(size > 0, value, getattr(self, n)) for n, value in moved.items()}
        return replace(self, **new)

    @classmethod
    def initial(
        cls, x: PyTree, plan: Float[Array, "n k"], missing: bool = False, **options: Any
    ) -> Any:
        """The law of the assigned rows, drawn a little to that of all."""
        alike = jnp.broadcast_to(jnp.mean(plan, axis=1, keepdims=True), plan.shape)
        common = super().initial(x, alike, missing, **options)
        own, all_ = common._sums(x, plan), common._sums(x, alike)
        size: Any = all_.size

        def mixed(one: Array, every: Array) -> Array:
            return (1 - SHRUNK) * one + SHRUNK * every

        # a component without rows gets the law of all
        return common._moved(
            Sums(
                mixed(own.size, size),  # type: ignore[arg-type]
                tuple(map(mixed, own.terms, all_.terms)),
            )
        )

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`; asked without a prior too, for the bound is the law's own."""
        del prior
        present, d = weights > 0, self.n_features
        width = jnp.where(present[:, None], self.width(), 1)
        held = jnp.any(width <= 1.01 * self.least_width(width.dtype), axis=1)
        # by ratios: squares of the least width leave the range of float32
        pooled = jnp.sqrt(jnp.sum(weights[:, None] * width**2, axis=0))
        tight = jnp.sum((pooled / width) ** 2, axis=1) > 100 + d
        centre, log_volume = self.place()
        chance = by_chance(weights, self.cost(centre), log_volume, 1, n_rows)
        return present & (held | (tight & chance))

    def place(self) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """Each component's centre, as a row, and the logarithm of the volume that it takes."""
        centre, variance = self.moments()
        smallest = jnp.finfo(variance.dtype).tiny
        logs = jnp.log(jnp.maximum(variance, smallest))
        return centre, log_ball(self.n_features) + 0.5 * jnp.sum(logs, axis=1)


@pytree
class ShapedForm(IndependentForm):
    """`IndependentForm` whose sums are moved to the components."""

    natural_parameters: Array
    components: Any

    def reaches(self, x: PyTree) -> Bool[Array, ""]:
        """See `LinearForm.reaches`; tighter, for the M-step feels what the cost does not."""
        return self.rounding(x) <= LOSS.get(self.natural_parameters.dtype.name, 1e-2)

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Sums:
        """See `Shaped.statistics`."""
        found = super().statistics(sums, total)
        size = sums[:, :1] if found.size is None else found.size
        size = jnp.broadcast_to(size, found.terms[0].shape)
        return Sums(size, self.components.shifted(size, *found.terms))

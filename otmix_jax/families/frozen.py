"""Components of which some fields stay as they are, of any family."""

from typing import Any

import jax
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.tree import pytree, replace, static
from ..priors import Prior
from . import em_gradient
from .coordinates import Frame
from .family import Description, Family
from .forms import LinearForm, LocationForm


@pytree
class Frozen(Family):
    """Components of which the fields `held` are not learned, under any solver and adjoint.

    Start from it: `om.solve(problem, Mixture(log_weights, Frozen(components, "mean")))`, or
    `om.fit(..., starts=om.Starts(initial=...))`. The answer is again `Frozen`; its `inner` has the
    parameters. Proportions are held by `learn_weights=False`. Derivatives of the answer in what is
    frozen are zero: it is part of the start.

    Whatever else the components have, such as `mean` and `matrices()`, is read through it; `held`
    says what of it was not learned, and so has a standard error of 0.

    Attributes:
        inner: the components.
        held: a field's name, or several; of a `Product`, its parts' names.
    """

    inner: Any
    held: tuple[str, ...] | str = static(default=())

    def __getattr__(self, name: str) -> Any:
        # asked only for what is not here; before `inner` is set, as in a copy, that is nothing
        if name.startswith("_") or "inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.inner, name)

    def described(self) -> Description:
        """The inner family's."""
        return self.inner.described()

    @property
    def table(self) -> bool:  # type: ignore[override]
        """See `Family.table`."""
        return self.inner.table

    @property
    def gated(self) -> bool:  # type: ignore[override]
        """See `Shares.gated`."""
        return self.inner.gated

    def log_proportions(self, log_weights: Array, given: PyTree) -> Float[Array, "*n k"]:
        """The inner family's."""
        return self.inner.log_proportions(log_weights, given)

    @property
    def _held(self) -> frozenset[str]:
        held = frozenset([self.held] if isinstance(self.held, str) else self.held)
        known = set(self.inner.unconstrained(self.inner))
        if held - known:
            raise ValueError(f"cannot hold {sorted(held - known)}: the fields are {sorted(known)}")
        return held

    @property
    def _by_inner(self) -> bool:
        """Whether the inner M-step can hold them: else a joint argmin would be put back in part,
        which need not lower anything.
        """
        return self._held <= self.inner.holds

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """The inner family's, where it holds the fields itself."""
        return self._by_inner and self.inner.exact_m_step

    @property
    def priors(self) -> frozenset[str]:  # type: ignore[override]
        """The inner family's, where its own M-step is: EM-gradient has a use for none."""
        return self.inner.priors if self._by_inner else frozenset()

    @property
    def parts(self) -> dict[str, Any]:
        """Those of a `Product`."""
        return self.inner.parts

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    @property
    def n_features(self) -> int | None:
        """See `Family.n_features`."""
        return self.inner.n_features

    @property
    def n_parameters(self) -> int:
        """Those that are learned."""
        zeros = jax.tree.leaves(self.unconstrained(self))
        return sum(leaf.size for leaf in zeros)

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """The inner family's."""
        return self.inner.cost(x)

    def prepared_cost(self) -> Any:
        """The inner family's."""
        return self.inner.prepared_cost()

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> PyTree:
        """The inner family's, or those of EM-gradient."""
        if self._by_inner:
            return self.inner.statistics(x, plan)
        return em_gradient.statistics(self.inner, x, plan)

    def location_form(self) -> LocationForm | None:
        """The inner family's, where its statistics are."""
        return self.inner.location_form() if self._by_inner else None

    def location_statistics(self, mass: Array, first: Array, second: Array) -> PyTree:
        """The inner family's."""
        return self.inner.location_statistics(mass, first, second)

    def linear_form(self) -> LinearForm | None:
        """The inner family's, where its statistics are."""
        return self.inner.linear_form() if self._by_inner else None

    def maximize(
        self,
        statistics: PyTree,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Frozen":
        """The M-step over what is free."""
        held = held | self._held
        if self._by_inner:
            return replace(self, inner=self.inner.maximize(statistics, mass, prior, held))
        return replace(self, inner=em_gradient.maximize(self.inner, statistics, mass, held))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the inner family's, or EM-gradient's."""
        if self._by_inner:
            return self.inner.expected_cost(statistics, mass, at.inner)
        return em_gradient.expected_cost(self.inner, statistics, at.inner)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; of the statistics that it has."""
        if self._by_inner:
            return self.inner.recentred(statistics, mass, onto.inner)
        return em_gradient.recentred(self.inner, statistics, onto.inner)

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """The inner family's, where something of it is learned."""
        return self.inner.spurious(prior if self.priors else None, weights, n_rows)

    def imprecise(self) -> Bool[Array, " k"]:
        """The inner family's."""
        return self.inner.imprecise()

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The inner family's."""
        return self.inner.penalty(prior)

    def constrain(self, coordinates: dict[str, Any]) -> "Frozen":
        """The inner family's; there are no coordinates for what is frozen."""
        return replace(self, inner=self.inner.constrain(coordinates))

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """The coordinates of what is free, about `origin`."""
        whole = self.inner.unconstrained(origin.inner)
        return {name: part for name, part in whole.items() if name not in self._held}

    def take(self, which: Any) -> "Frozen":
        """See `Family.take`."""
        return replace(self, inner=self.inner.take(which))

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """The inner family's."""
        return self.inner.sample(key, labels, given)

    def out_of(self, frame: Frame) -> "Frozen":
        """The inner family's."""
        return replace(self, inner=self.inner.out_of(frame))

    def moments(self) -> tuple[PyTree, PyTree]:
        """The inner family's."""
        return self.inner.moments()

    def marginal(self, columns: Any) -> Any:
        """The inner family's, of which nothing is held."""
        return self.inner.marginal(columns)

    def condition(self, values: Any) -> tuple[Float[Array, " k"], Any]:
        """The inner family's, of which nothing is held."""
        return self.inner.condition(values)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """The inner family's."""
        return self.inner.cdf(x)

    def ascend(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Float[Array, "n d"]:
        """The inner family's."""
        return self.inner.ascend(x, plan)

    @classmethod
    def initial(cls, x: PyTree, plan: Float[Array, "n k"], **options: Any) -> "Frozen":
        """None: an initialiser knows no parameters to keep.

        Raises:
            TypeError: always.
        """
        raise TypeError("Frozen components are a start of your own: Starts(initial=...)")

"""Products over parts of a row: columns of different kinds, independent given the component."""

from collections.abc import Collection, Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.tree import pytree, replace
from ..priors import Prior
from .coordinates import Frame, Parts
from .family import Description, Family, as_columns, describe


def _table(x: PyTree) -> PyTree:
    """A single column as a table of one."""
    # [n] would broadcast against components as if it were a row
    return x[:, None] if getattr(x, "ndim", 0) == 1 else x


@pytree
class Product(Family):
    """K components, each a product of one law for each part of the rows, which are a dict.

    Attributes:
        parts: a family by name, all of K components.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> low = np.arange(200) < 80
        >>> size, visits = rng.normal(np.where(low, 0, 4)), rng.poisson(np.where(low, 2, 9))
        >>> rows = {"size": size, "visits": visits}
        >>> family = om.families.Product.of(size="gaussian", visits="poisson")
        >>> weights = om.fit(rows, 2, family=family, key=0).mixture.weights
        >>> sorted(round(float(weight), 1) for weight in weights)
        [0.4, 0.6]
    """

    parts: dict[str, Any]
    priors = frozenset({"parts"})
    table = False

    @classmethod
    def of(cls, **parts: Hashable) -> Description:
        """A product over named parts: each a family's name, class or description.

        Parts that can do without some cells take NaN for a missing one.
        """
        # sorted: two orders of the same parts would be two programs
        named = sorted(parts.items())
        described = tuple((name, describe(part).or_incomplete()) for name, part in named)
        return Description(cls, (("parts", described),))

    @classmethod
    def incomplete(cls, parts: Any) -> Description:
        """See `Family.incomplete`; parts that need all cells go on refusing NaN."""
        return cls.of(**dict(parts))

    def described(self) -> Description:
        """See `Family.described`."""
        parts = tuple((name, part.described()) for name, part in sorted(self.parts.items()))
        return Description(type(self), (("parts", parts),))

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Whether that of every part is."""
        return all(part.exact_m_step for part in self.parts.values())

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """Any part."""
        return frozenset(self.parts)

    @property
    def n_components(self) -> int:
        """K."""
        return next(iter(self.parts.values())).n_components

    @property
    def n_parameters(self) -> int:
        """The parts' together."""
        return sum(part.n_parameters for part in self.parts.values())

    def cost(self, x: dict[str, PyTree]) -> Float[Array, "n k"]:
        """The parts' sum."""
        return sum(part.cost(_table(x[name])) for name, part in self.parts.items())  # type: ignore[return-value]

    def prepared_cost(self) -> Any:
        """The parts' prepared costs, summed."""
        return jax.tree_util.Partial(
            _summed, {name: part.prepared_cost() for name, part in self.parts.items()}
        )

    def statistics(self, x: dict[str, PyTree], plan: Float[Array, "n k"]) -> dict[str, PyTree]:
        """The parts' own."""
        return {name: part.statistics(_table(x[name]), plan) for name, part in self.parts.items()}

    def maximize(
        self,
        statistics: dict[str, PyTree],
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Product":
        """Each part for itself; a part in `held` stays."""
        own = (prior.parts if prior is not None else None) or {}
        moved = {
            name: part if name in held else part.maximize(statistics[name], mass, own.get(name))
            for name, part in self.parts.items()
        }
        return replace(self, parts=moved)

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the parts' together, where all have one."""
        each = [
            part.expected_cost(statistics[name], mass, at.parts[name])
            for name, part in self.parts.items()
        ]
        return None if any(one is None for one in each) else sum(each)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; part by part."""
        return {
            name: part.recentred(statistics[name], mass, onto.parts[name])
            for name, part in self.parts.items()
        }

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The parts' together."""
        own = (prior.parts if prior is not None else None) or {}
        return sum(part.penalty(own.get(name)) for name, part in self.parts.items())

    def constrain(self, coordinates: dict[str, Any]) -> "Product":
        """Part by part."""
        moved = {
            name: part.constrain(coordinates[name]) if name in coordinates else part
            for name, part in self.parts.items()
        }
        return replace(self, parts=moved)

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """Part by part."""
        return {n: part.unconstrained(origin.parts[n]) for n, part in self.parts.items()}

    def take(self, which: Any) -> "Product":
        """See `Family.take`."""
        return replace(self, parts={name: part.take(which) for name, part in self.parts.items()})

    def out_of(self, frame: Frame) -> "Product":
        """Part by part."""
        if not isinstance(frame, Parts):
            raise TypeError("Product is closed under a frame for each part alone")
        mapped = {name: part.out_of(frame.parts[name]) for name, part in self.parts.items()}
        return replace(self, parts=mapped)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> dict[str, PyTree]:
        """Part by part, each from its own key."""
        keys = jax.random.split(key, len(self.parts))
        own = given or {}
        return {
            name: part.sample(one, labels, own.get(name))
            for one, (name, part) in zip(keys, self.parts.items(), strict=True)
        }

    def impute(
        self, x: dict[str, PyTree], share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> dict[str, PyTree]:
        """See `Family.impute`; part by part."""
        keys = [None] * len(self.parts) if key is None else jax.random.split(key, len(self.parts))
        filled = {
            name: part.impute(_table(x[name]), share, one)
            for one, (name, part) in zip(keys, self.parts.items(), strict=True)
        }
        return jax.tree.map(lambda new, old: new.reshape(old.shape), filled, x)

    def moments(self) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """See `Answers.moments`; each part's own."""
        own = {name: part.moments() for name, part in self.parts.items()}
        return {n: mean for n, (mean, _) in own.items()}, {n: c for n, (_, c) in own.items()}

    def marginal(self, columns: Any) -> Any:
        """See `Answers.marginal`; of one part's name, that part itself.

        Raises:
            ValueError: for a name that is no part's.
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        self._check_names(names)
        return self.parts[columns] if isinstance(columns, str) else self._of(names)

    def condition(self, values: Any) -> tuple[Float[Array, " k"], Any]:
        """See `Answers.condition`; whole parts are given.

        Raises:
            ValueError: for a name that is no part's, or if none is left.
        """
        self._check_names(values)
        rest = [name for name in self.parts if name not in values]
        if not rest:
            raise ValueError("all parts are given: leave one out; log_prob is the density of all")
        row = {name: jax.tree.map(lambda v: jnp.asarray(v)[None], values[name]) for name in values}
        return -self._of(row).cost(row)[0], self._of(rest)

    def _of(self, names: Iterable[str]) -> "Product":
        return replace(self, parts={name: self.parts[name] for name in names})

    def _check_names(self, names: Collection[str]) -> None:
        unknown = [name for name in names if name not in self.parts]
        if unknown or not names:
            raise ValueError(f"name parts among {sorted(self.parts)}, not {unknown}")

    @classmethod
    def of_rows(cls, x: Any, parts: Any) -> Description:
        """Part by part."""
        return cls.of(**{name: part.of_rows(_table(x[name])) for name, part in parts})

    @classmethod
    def initial(cls, x: dict[str, PyTree], plan: Float[Array, "n k"], parts: Any) -> "Product":
        """Part by part, under the same plan."""
        return cls({name: part.initial(_table(x[name]), plan) for name, part in parts})

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, parts: Any = ()) -> Parts:
        """One for each part."""
        return Parts({name: part.frame(_table(x[name]), weight, begins) for name, part in parts})

    @classmethod
    def reals(cls, x: Any, parts: Any) -> Any:
        """Part by part."""
        return {name: part.reals(x[name]) for name, part in parts}

    @classmethod
    def check(cls, x: Any, parts: Any) -> None:
        """A dict with the parts' names, each within its part's support.

        Raises:
            ValueError: for missing names, or what a part refuses.
        """
        names = [name for name, _ in parts]
        if not isinstance(x, dict) or set(x) != set(names):
            have = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise ValueError(f"the rows must be a dict of {names}, not {have}")
        for name, part in parts:
            try:
                part.check(_table(x[name]))
            except ValueError as error:
                raise ValueError(f"part {name!r}: {error}") from None

    @classmethod
    def embed(cls, x: Any, parts: Any) -> Float[Array, "n e"]:
        """The parts' columns, side by side."""
        return as_columns([part.embed(_table(x[name])) for name, part in parts])

    @classmethod
    def weak_prior(cls, variance: Any, strength: Array, parts: Any) -> Prior | None:
        """Those of the parts that have one."""
        # a single column's variance is a scalar, where a table's is [d]
        found = {
            name: part.weak_prior(jnp.atleast_1d(variance[name]), strength) for name, part in parts
        }
        present = {name: prior for name, prior in found.items() if prior is not None}
        return Prior(parts=present) if present else None

    @classmethod
    def least(cls, dtype: Any, parts: Any) -> Prior | None:
        """Those of the parts that have one."""
        found = {name: part.least(dtype) for name, part in parts}
        present = {name: prior for name, prior in found.items() if prior is not None}
        return Prior(parts=present) if present else None

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """In any part."""
        own = (prior.parts if prior is not None else None) or {}
        parts = [p.spurious(own.get(name), weights, n_rows) for name, p in self.parts.items()]
        return jnp.any(jnp.stack(parts), axis=0)

    def imprecise(self) -> Bool[Array, " k"]:
        """In any part."""
        return jnp.any(jnp.stack([part.imprecise() for part in self.parts.values()]), axis=0)

    @classmethod
    def examples(cls) -> dict[str, "Product"]:
        """A Gaussian and a count."""
        from_name = {"size": describe("gaussian"), "visits": describe("poisson")}
        parts = {n: next(iter(d.family.examples().values())) for n, d in from_name.items()}
        return {"mixed": cls(parts)}


def _summed(costs: dict[str, Any], x: dict[str, PyTree]) -> Float[Array, "n k"]:
    return sum(cost(_table(x[name])) for name, cost in costs.items())  # type: ignore[return-value]

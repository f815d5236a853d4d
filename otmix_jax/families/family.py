"""The contract of a component family: a cost, a start, a draw; all else has a default."""

import abc
import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.registry import storable
from ..core.tree import is_float
from ..priors import Prior
from . import coordinates, em_gradient
from .answers import Answers
from .coordinates import Frame, Identity
from .forms import LinearForm, LocationForm
from .pivots import Pivots
from .shares import Shares


def as_columns(x: PyTree, **options: Any) -> Float[Array, "n e"]:
    """Every leaf of the rows as real columns, side by side."""
    del options
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(x)]
    dtype = jnp.result_type(float, *leaves) if len(leaves) > 1 else leaves[0].dtype
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    return jnp.concatenate([leaf.reshape(len(leaf), -1).astype(dtype) for leaf in leaves], axis=1)


class Family(Answers, Shares, Pivots, abc.ABC):
    """K components at once. The instance *is* the parameters; every array leaf is differentiable.

    A field declares its domain (`coordinates.parameter`); what is learned, how many degrees of
    freedom there are, and unconstrained coordinates follow from that. A field without a domain is
    a hyperparameter. A family knows nothing of loops, epsilon, weights pi or devices.

    Required: `cost`, `initial`, `sample`. By default the statistics are the gradient and the
    Hessian of the expected cost in each component's coordinates, and the M-step is a guarded
    Newton step on it (`em_gradient`).
    """

    exact_m_step: bool = False
    """Whether `maximize` gives the argmin, or surely lowers the expected cost; if not, EM takes
    shorter steps where one raised the objective."""
    priors: ClassVar[frozenset[str]] = frozenset()
    """Fields of `Prior` beside `weights` that `maximize` and `penalty` have a use for."""
    holds: ClassVar[frozenset[str]] = frozenset()
    """Fields that `maximize` itself can hold; others are held by `Frozen` with EM-gradient."""
    table: ClassVar[bool] = True
    """Whether rows are one table of numbers [n, d]; if not, a dict of columns."""
    beside: ClassVar[str] = ""
    """What rows may hold beside a table: {"x": [n, d], beside: [n] or [n, d]}."""
    n_features: Any = None
    """The width d of a row, where rows are one table; else None."""

    embed: Any = staticmethod(as_columns)
    """(x, **options) to columns [n, e] in which the distance of two rows means something, for
    seeds."""
    constrain = coordinates.constrain
    unconstrained = coordinates.unconstrained
    take = coordinates.take
    n_components: Any = property(coordinates.count_components)
    n_parameters: Any = property(coordinates.count_parameters)

    @classmethod
    def of(cls, *_: Any, **options: Any) -> "Description":
        """The family with its options: what a fit is of.

        Raises:
            TypeError: for an option that `initial` does not take.
        """
        known = [name for name in inspect.signature(cls.initial).parameters][2:]
        for name in set(options) - set(known):
            raise TypeError(f"{cls.__name__} has no option {name!r}; it has {known or 'none'}")
        return Description(cls, tuple(sorted(options.items())))

    def described(self) -> "Description":
        """What these components are of, as far as rows are concerned."""
        return Description(type(self))

    @classmethod
    def incomplete(cls, *_: Any, **options: Any) -> "Description":
        """The same law of rows whose cells may be missing: NaN, which is integrated out.

        Raises:
            TypeError: for a family that cannot.
        """
        del options
        raise TypeError(
            f"{cls.__name__} needs all cells of a row: drop or impute the rows that miss some"
        )

    def impute(
        self, x: PyTree, share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> PyTree:
        """Rows with numbers in the place of missing cells; by default none are missing.

        Args:
            x: the rows.
            share: [n, k] the components' shares in each row.
            key: None gives conditional means; else draws, of the component that has the whole row.
        """
        del share, key
        return x

    @classmethod
    def of_rows(cls, x: PyTree, *_: Any, **options: Any) -> "Description":
        """The description with what it leaves to the rows (NumPy), such as numbers of levels."""
        del x
        return Description(cls, tuple(options.items()))

    @abc.abstractmethod
    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """The note's cost matrix C_ij = -log p(x_i | theta_j), in nats; +inf off the support."""

    @classmethod
    @abc.abstractmethod
    def initial(cls, x: PyTree, plan: Float[Array, "n k"], *_: Any, **options: Any) -> "Family":
        """Safe starting parameters for rows assigned by a (hard or soft) plan of total mass 1."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """One row from component `labels[i]`, for each i; `given` is what a law conditions on."""

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> PyTree:
        """Sums over rows, weighted by the plan, that `maximize` needs; additive in rows.

        They may be taken about this instance's parameters (a pivot keeps the digits), so
        `maximize` must be called on the same instance.
        """
        return em_gradient.statistics(self, x, plan)

    def maximize(
        self,
        statistics: PyTree,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Family":
        """The M-step: argmin over theta of sum_ij P_ij C_ij + penalty, block 3 of the descent.

        A component of mass zero keeps its parameters, or what the prior says of them; one that
        cannot be estimated (a singular covariance) comes back as NaN: to the solver, a collapse.
        Fields in `held` stay.
        """
        del prior
        return em_gradient.maximize(self, statistics, mass, held)

    def numbers_per_row(self) -> int:
        """About how many numbers cost and statistics hold per row, which decides the tiles."""
        k, d = self.n_components, self.n_features or 1
        return 2 * k * d + 3 * k  # differences and whitened ones, and three per component

    def prepared_cost(self) -> Callable[[PyTree], Float[Array, "n k"]]:
        """`cost` as a PyTree to call, with what depends on no row computed. No parameter object:
        it cannot be moved, and so cannot go stale.
        """
        return Partial(type(self).cost, self)

    def linear_form(self) -> LinearForm | None:
        """The family in natural parameters, where its scores are linear in features; else None."""
        return None

    def location_form(self) -> LocationForm | None:
        """The family as whitened differences, where it is that; else None."""
        return None

    def location_statistics(
        self, mass: Float[Array, " k"], first: Float[Array, "k d"], second: Float[Array, "k d d"]
    ) -> PyTree:
        """`statistics` from moments about the pivots of `location_form`."""
        raise TypeError(f"{type(self).__name__} has no location form")

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """What a prior adds to the mean negative log-likelihood of a mixture; >= 0."""
        del prior
        return 0.0

    def out_of(self, frame: Frame) -> "Family":
        """The law of X, this being the law of `frame.into(X)`."""
        if isinstance(frame, Identity):
            return self
        raise TypeError(f"{type(self).__name__} is not closed under {type(frame).__name__} frames")

    @classmethod
    def frame(cls, x: PyTree, weight: Any, begins: Any = None, *_: Any, **options: Any) -> Frame:
        """The frame in which rows (NumPy) are fitted; with `begins`, one for each group of rows."""
        del x, weight, begins, options
        return Identity()

    @classmethod
    def check(cls, x: PyTree, *_: Any, **options: Any) -> None:
        """Refuses rows (NumPy) off the support: ValueError naming the row and the column."""
        del x, options

    @classmethod
    def reals(cls, x: PyTree, *_: Any, **options: Any) -> PyTree:
        """The rows with integers that are numbers, not codes, as floating ones."""
        del options
        return x

    @classmethod
    def weak_prior(cls, variance: PyTree, strength: Array, *_: Any, **options: Any) -> Prior | None:
        """A prior that keeps the likelihood bounded, from the columns' variance; or None.

        Only asked where `priors` has the covariance.
        """
        del variance, strength, options

    @classmethod
    def least(cls, dtype: Any, *_: Any, **options: Any) -> Prior | None:
        """Bounds at the rounding of rows in their frame, which cost a regular answer nothing."""
        del dtype, options

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """Which components win likelihood by being singular, or nearly so, on a few rows.

        Args:
            prior: the problem's; without bounds in it nothing is asked.
            weights: [k] proportions.
            n_rows: how many rows there are.
        """
        del prior, n_rows
        return jnp.zeros(weights.shape, bool)

    def imprecise(self) -> Bool[Array, " k"]:
        """Which components' parameters are off by more than a sixteenth of a standard deviation
        through rounding alone.
        """
        return jnp.zeros(self.n_components, bool)

    @classmethod
    def examples(cls) -> Mapping[str, "Family"]:
        """Small named instances, which feed the contract tests."""
        return {}


@storable
@dataclasses.dataclass(frozen=True)
class Description:
    """What a fit is of: a family and its options. Hashable: it decides the compiled program.

    Attributes:
        family: the class.
        options: (name, value) pairs, such as ("covariance", "tied").
    """

    family: type[Family]
    # pairs, not a dict: a static argument must be hashable
    options: tuple[tuple[str, Hashable], ...] = ()

    def __str__(self) -> str:
        return f"{self.family.__name__}({_spelled(self.options)})"

    @property
    def priors(self) -> frozenset[str]:
        """See `Family.priors`."""
        return self.family.priors

    @property
    def parts(self) -> dict[str, "Description"]:
        """The parts of a product by name; none of other families."""
        parts: Any = dict(self.options).get("parts", ())
        return dict(parts)

    @property
    def missing(self) -> bool:
        """Whether NaN marks a missing cell, in one of the parts at least."""
        own = bool(dict(self.options).get("missing", False))
        return own or any(part.missing for part in self.parts.values())

    def incomplete(self) -> "Description":
        """See `Family.incomplete`."""
        return self if self.missing else self.family.incomplete(**dict(self.options))

    def or_incomplete(self) -> "Description":
        """`incomplete` of a family that can, and else itself."""
        try:
            return self.incomplete()
        except TypeError:
            return self

    def may_miss(self, path: tuple[Any, ...]) -> bool:
        """Whether NaN marks a missing cell in a leaf of the rows: not in what stands beside them.

        Args:
            path: of JAX's keys.
        """
        names = [getattr(key, "key", "") for key in path]
        if names and names[0] in self.parts:
            return self.parts[names[0]].may_miss(path[1:])
        return self.missing and not self.parts and (not names or names[-1] == "x")

    def without_missing(self, x: PyTree) -> PyTree:
        """Rows with 0 for the cells that may be missing, and are: what is left must be finite."""

        def known(path: tuple[Any, ...], leaf: Any) -> Any:
            if not self.may_miss(path) or not is_float(leaf):
                return leaf
            module = jnp if isinstance(leaf, Array) else np
            return module.where(module.isnan(leaf), 0, leaf).astype(leaf.dtype)

        return jax.tree_util.tree_map_with_path(known, x) if self.missing else x

    @property
    def table(self) -> bool:
        """See `Family.table`; of a composed family, what its parts say."""
        own: Any = self.family.table
        named = dict(self.options).get("column") is not None
        parts = all(part.table for part in self.parts.values())
        return own if isinstance(own, bool) else parts and not named

    @property
    def exchangeable(self) -> bool:
        """See `Shares.exchangeable`; every part has to be."""
        return self.family.exchangeable and all(p.exchangeable for p in self.parts.values())

    def seats(self, n_components: int) -> list[int]:
        """See `Shares.seats`; all, where there would be none."""
        found = self.family.seats(n_components, **dict(self.options))
        return found or list(range(n_components))

    def of_rows(self, x: PyTree) -> "Description":
        """See `Family.of_rows`."""
        return self.family.of_rows(x, **dict(self.options))

    def initial(self, x: PyTree, plan: Float[Array, "n k"]) -> Family:
        """See `Family.initial`."""
        return self.family.initial(x, plan, **dict(self.options))

    def frame(self, x: PyTree, weight: Any, begins: Any = None) -> Frame:
        """See `Family.frame`."""
        return self.family.frame(x, weight, begins, **dict(self.options))

    def check(self, x: PyTree) -> None:
        """See `Family.check`."""
        self.family.check(x, **dict(self.options))

    def reals(self, x: PyTree) -> PyTree:
        """See `Family.reals`."""
        return self.family.reals(x, **dict(self.options))

    def embed(self, x: PyTree) -> Float[Array, "n e"]:
        """See `Family.embed`."""
        return self.family.embed(x, **dict(self.options))

    def weak_prior(self, variance: PyTree, strength: Array) -> Prior | None:
        """See `Family.weak_prior`."""
        return self.family.weak_prior(variance, strength, **dict(self.options))

    def least(self, dtype: Any) -> Prior | None:
        """See `Family.least`; none where the M-step has no use for it."""
        useful = self.priors & {"floor", "parts"}
        return self.family.least(dtype, **dict(self.options)) if useful else None


def _spelled(value: Any) -> str:
    """Options as they were written."""
    # of pairs, such as a product's parts; numbers of levels are a tuple too
    if isinstance(value, tuple) and all(isinstance(pair, tuple) for pair in value):
        return ", ".join(f"{name}={_spelled(one)}" for name, one in value)
    return value.__name__ if isinstance(value, type) else str(value)


FAMILIES: dict[str, type[Family]] = {}
"""Families by name; `families/__init__.py` fills it."""


def describe(family: Any = None, covariance: Any = None) -> Description:
    """What a fit is of, from what a user gave: a name, a class, a description, or a covariance.

    Args:
        family: None is Gaussian.
        covariance: the Gaussian's shorthand: `Gaussian.of(covariance)`.

    Raises:
        ValueError: for a name that is no family.
        TypeError: for what describes none, or two descriptions at once.
    """
    if isinstance(family, str) and family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    found = FAMILIES["gaussian"] if family is None else FAMILIES.get(family, family)
    if isinstance(found, Description):
        if covariance is not None:
            raise TypeError(f"give the covariance in the description: {found.family.__name__}.of")
        return found
    if not (isinstance(found, type) and issubclass(found, Family)):
        raise TypeError(f"family must be a name, a Family or its description, not {family!r}")
    return found.of() if covariance is None else found.of(covariance=covariance)

"""Proportions that depend on covariates: a multinomial logit of them, beside any family.

    p(x | z) = sum_j s_j(z) p(x | theta_j),        s(z) = softmax(0, G (1, z))

As a mixture its proportions are all alike, and held: the cost has them in it,

    C_ij = -log p(x_i | theta_j) - log s_j(z_i) - log K
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import matmul
from ..core.tree import is_float, parameter, pytree, replace
from ..core.typing import AnyArray
from ..priors import Prior
from . import coordinates, em_gradient
from .checks import check_columns
from .coordinates import NESTED, REAL, Affine, Frame, Parts
from .family import Description, Family, describe


@pytree
class Covariates(Affine):
    """The frame of what a law conditions on: it changes no density of the rows."""

    @property
    def log_volume(self) -> float:  # type: ignore[override]
        """Nothing."""
        return 0.0

    @property
    def inverse(self) -> "Covariates":
        """See `Frame.inverse`."""
        return Covariates(-self.origin / self.columns, 1 / self.unit)


@pytree
class Gate:
    """A multinomial logit, relative to the first component.

    Attributes:
        coefficients: [k - 1, 1 + p] log-odds of each further component against the first: the
            intercept, and the effects of the covariates.
    """

    coefficients: Array = parameter(REAL, axes=2, shared=True)
    constrain = coordinates.constrain
    unconstrained = coordinates.unconstrained
    n_parameters = property(coordinates.count_parameters)

    @property
    def n_components(self) -> int:
        """K."""
        return self.coefficients.shape[-2] + 1

    def cost(self, z: Float[Array, "n p"]) -> Float[Array, "n k"]:
        """-log of the proportions, in nats."""
        intercept, slopes = self.coefficients[:, 0], self.coefficients[:, 1:]
        logits = intercept + matmul(z.astype(slopes.dtype), slopes.T)
        return -jax.nn.log_softmax(jnp.pad(logits, ((0, 0), (1, 0))), axis=1)

    def take(self, which: Any) -> "Gate":
        """Some components, in another order; the first of them is what others are relative to."""
        whole = jnp.pad(self.coefficients, ((1, 0), (0, 0)))[which]
        return Gate(whole[1:] - whole[:1])

    def out_of(self, frame: Affine) -> "Gate":
        """The gate of Z, this being that of `frame.into(Z)`."""
        slopes = self.coefficients[:, 1:] / frame.columns
        intercept = self.coefficients[:, 0] - matmul(slopes, jnp.asarray(frame.origin))
        return Gate(jnp.concatenate([intercept[:, None], slopes], axis=1))


@pytree
class Gated(Family):
    """K components whose proportions depend on covariates, in rows {"rows": ..., "gate": [n, p]}.

    `proportions(z)` has the proportions; those of the mixture are 1 / K.

    Attributes:
        inner: the components, of `rows`.
        gate: the proportions given the covariates `gate`, to which an intercept is added.
        sizes: [k] the plan's sizes in the last M-step: mean proportions.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=300)
        >>> x = rng.normal(np.where(rng.random(300) < 1 / (1 + np.exp(-2 * z)), 4, 0))
        >>> family = om.families.Gated.of("gaussian")
        >>> found = om.fit({"rows": x[:, None], "gate": z}, 2, family=family, key=0)
        >>> shares = found.mixture.components.proportions(np.array([[-2.0], [2.0]]))
        >>> sorted(shares[1].round(1).tolist())
        [0.0, 1.0]

    Source: Dayton and Macready, J. Am. Stat. Assoc. 83 (1988); Grün and Leisch, J. Stat. Softw.
    28(4) (2008), concomitant variables.
    """

    inner: Any = parameter(NESTED)
    gate: Gate = parameter(NESTED)
    sizes: Array
    priors = frozenset({"parts"})
    table = False
    exchangeable = False
    gated = True

    @classmethod
    def of(cls, inner: Any = None) -> Description:
        """Components of a family, its name, class or description; None is Gaussian."""
        return Description(cls, (("parts", (("rows", describe(inner)),)),))

    def described(self) -> Description:
        """See `Family.described`."""
        return Description(type(self), (("parts", (("rows", self.inner.described()),)),))

    def reported(self) -> dict[str, Any]:
        """See `Answers.reported`: the sizes are no parameters."""
        return {"inner": self.inner, "gate": self.gate.coefficients}

    @property
    def parts(self) -> dict[str, Any]:
        """The components of the rows, by that name in priors."""
        return {"rows": self.inner}

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    def proportions(self, z: Float[AnyArray, "n p"] | Float[AnyArray, " n"]) -> Float[Array, "n k"]:
        """The proportions s(z) given covariates."""
        return jnp.exp(-self.gate.cost(_table(jnp.asarray(z))))

    def log_proportions(
        self, log_weights: Float[Array, " k"], given: PyTree
    ) -> Float[Array, "n k"]:
        """Those of the gate.

        Raises:
            ValueError: at trace time, where no covariates are given.
        """
        del log_weights
        return -self.gate.cost(_table(jnp.asarray(_given(given)["gate"])))

    def check_columns(self, x: PyTree) -> None:
        """Rows and covariates, as many as there are coefficients.

        Raises:
            ValueError: for other columns.
        """
        _check_names(x)
        check_columns(self.inner, x["rows"])
        have, wanted = _table(x["gate"]).shape[1], self.gate.coefficients.shape[-1] - 1
        if have != wanted:
            raise ValueError(f"gate has {have} columns, the mixture {wanted}")

    def cost(self, x: dict[str, PyTree]) -> Float[Array, "n k"]:
        """The components' costs and -log of their proportions, relative to equal ones."""
        return _cost(self.inner.cost, self.gate, x)

    def prepared_cost(self) -> Partial:
        """`cost`, with the components' prepared."""
        return Partial(_cost, self.inner.prepared_cost(), self.gate)

    def statistics(self, x: dict[str, PyTree], plan: Float[Array, "n k"]) -> tuple[PyTree, PyTree]:
        """The components' own, and the slopes of the gate's expected cost."""
        own = self.inner.statistics(x["rows"], plan)
        if self.n_components == 1:
            return own, None
        return own, em_gradient.statistics(self.gate, _table(x["gate"]), plan)

    def maximize(
        self,
        statistics: tuple[PyTree, PyTree],
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Gated":
        """The components' own M-step, and one of Newton's on the gate."""
        (own, slopes), inner, gate = statistics, self.inner, self.gate
        if "inner" not in held:
            inner = inner.maximize(own, mass, _own(prior))
        if "gate" not in held and slopes is not None:
            gate = em_gradient.maximize(gate, slopes, mass, frozenset())
        return Gated(inner, gate, mass)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; the components' and the gate's."""
        own, slopes = statistics
        own = self.inner.recentred(own, mass, onto.inner)
        return own, slopes and em_gradient.recentred(self.gate, slopes, onto.gate)

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The components'."""
        return self.inner.penalty(_own(prior))

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """The components', at the sizes that they have."""
        return self.inner.spurious(_own(prior), jnp.where(weights > 0, self.sizes, 0), n_rows)

    def imprecise(self) -> Bool[Array, " k"]:
        """The components'."""
        return self.inner.imprecise()

    def take(self, which: Any) -> "Gated":
        """See `Family.take`: the gate is then among these alone."""
        return Gated(self.inner.take(which), self.gate.take(which), self.sizes[which])

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None
    ) -> dict[str, PyTree]:
        """Rows of these components, and the covariates that are given.

        Raises:
            ValueError: at trace time, where none are.
        """
        known = _given(given)
        drawn = self.inner.sample(key, labels, known.get("rows"))
        return {"rows": drawn, "gate": known["gate"]}

    def out_of(self, frame: Frame) -> "Gated":
        """Rows and covariates, each out of its frame."""
        if not isinstance(frame, Parts) or "gate" not in frame.parts:
            return super().out_of(frame)  # type: ignore[return-value]
        inner, gate = self.inner.out_of(frame.parts["rows"]), self.gate.out_of(frame.parts["gate"])
        return replace(self, inner=inner, gate=gate)

    @classmethod
    def of_rows(cls, x: Any, parts: Any) -> Description:
        """The components'."""
        return cls.of(parts[0][1].of_rows(x["rows"]))

    @classmethod
    def reals(cls, x: Any, parts: Any) -> Any:
        """The components', and a table of theirs and covariates are numbers."""
        rows = parts[0][1].reals(x["rows"])
        rows = _real(rows) if parts[0][1].table and not isinstance(rows, dict) else rows
        return {"rows": rows, "gate": _real(x["gate"])}

    @classmethod
    def initial(cls, x: dict[str, PyTree], plan: Float[Array, "n k"], parts: Any) -> "Gated":
        """The components' start, at equal proportions."""
        shape = plan.shape[1] - 1, 1 + _table(x["gate"]).shape[1]
        gate = Gate(jnp.zeros(shape, plan.dtype))
        return cls(parts[0][1].initial(x["rows"], plan), gate, jnp.sum(plan, axis=0))

    @classmethod
    def seats(cls, n_components: int, parts: Any = ()) -> list[int]:
        """The components'."""
        return parts[0][1].seats(n_components)

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, parts: Any = ()) -> Parts:
        """The components' own, and covariates about their mean."""
        z = _real(_table(x["gate"]))
        gate = Covariates.of(z, weight)
        if begins is not None:
            gate = Covariates.of_groups(z, weight, begins)
        return Parts({"rows": parts[0][1].frame(x["rows"], weight, begins), "gate": gate})

    @classmethod
    def check(cls, x: Any, parts: Any) -> None:
        """Rows of the components, and covariates that vary.

        Raises:
            ValueError: for other columns, for a constant one, or what the components refuse.
        """
        _check_names(x)
        constant = np.flatnonzero(np.ptp(np.asarray(_table(x["gate"])), axis=0) == 0)
        if len(constant) and len(x["gate"]) > 1:
            raise ValueError(
                f"gate: column {constant[0]} never varies; an intercept is there without it"
            )
        parts[0][1].check(x["rows"])

    @classmethod
    def embed(cls, x: Any, parts: Any) -> Float[Array, "n e"]:
        """The components'."""
        return parts[0][1].embed(x["rows"])

    @classmethod
    def weak_prior(cls, variance: Any, strength: Array, parts: Any) -> Prior | None:
        """The components'."""
        found = parts[0][1].weak_prior(variance["rows"], strength)
        return None if found is None else Prior(parts={"rows": found})

    @classmethod
    def least(cls, dtype: Any, parts: Any) -> Prior | None:
        """The components'."""
        found = parts[0][1].least(dtype)
        return None if found is None else Prior(parts={"rows": found})


def _table(z: Any) -> Any:
    """A single column as a table of one."""
    return z[:, None] if z.ndim == 1 else z


def _real(z: Any) -> Any:
    return z if is_float(z) else z.astype(float)


def _own(prior: Prior | None) -> Prior | None:
    return ((prior.parts if prior is not None else None) or {}).get("rows")


def _given(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or "gate" not in given:
        raise ValueError('rows of Gated components are drawn given {"gate": covariates [n, p]}')
    return given


def _check_names(x: Any) -> None:
    if not isinstance(x, dict) or set(x) != {"rows", "gate"}:
        have = sorted(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"the rows must be a dict of ['gate', 'rows'], not {have}")


def _cost(cost: Any, gate: Gate, x: dict[str, PyTree]) -> Float[Array, "n k"]:
    shares = gate.cost(_table(x["gate"]))
    return cost(x["rows"]) + (shares - jnp.log(jnp.asarray(gate.n_components, shares.dtype)))

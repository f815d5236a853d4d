"""Counts with more zeros than their law has: each component with a share of its own."""

from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import matmul, safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .checks import check_columns
from .coordinates import NESTED, UNIT, learned
from .family import Description, Family, describe


@pytree
class ZeroInflated(Family):
    """K products of laws of counts, each column with a point mass at 0 of its own.

        p(0) = z + (1 - z) q(0),          p(y) = (1 - z) q(y) for y > 0

    Of one column alone, and more than one component, zeros do not say whose they are: only the sum
    of pi_j z_j is known. There one share is enough, a `Point` beside the counts (`OneOf`), or one
    that depends on covariates (`Gated`).

    Attributes:
        zero: [k, d] the shares z of zeros that are none of the law q.
        law: q, a family of counts whose columns are independent, or a regression of counts `y`.

    Source: Lambert, Technometrics 34 (1992).
    """

    zero: Array = parameter(UNIT)
    law: Any = parameter(NESTED)
    priors = frozenset({"parts"})
    holds = frozenset({"zero", "law"})
    scaled: ClassVar[bool] = True
    """The M-step surely lowers the expected cost: a latent indicator stands between."""

    @classmethod
    def of(cls, law: Any = "poisson") -> Description:
        """Zero-inflated components of a family of counts: its name, class or description.

        Raises:
            TypeError: for a table of columns that depend on each other.
        """
        described = describe(law)
        if described.table and not described.family.separable:
            raise TypeError(f"ZeroInflated needs independent columns, as {described} has not")
        return Description(cls, (("parts", (("law", described),)),))

    def described(self) -> Description:
        """See `Family.described`."""
        return Description(type(self), (("parts", (("law", self.law.described()),)),))

    @property
    def parts(self) -> dict[str, Any]:
        """The law, by that name in priors."""
        return {"law": self.law}

    @property
    def table(self) -> bool:  # type: ignore[override]
        """The law's."""
        return self.law.table

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Whether that of the law is."""
        return self.law.exact_m_step

    @property
    def n_features(self) -> int | None:
        """The law's."""
        return self.law.n_features

    def check_columns(self, x: PyTree) -> None:
        """Rows are the law's.

        Raises:
            ValueError: for what it cannot read.
        """
        check_columns(self.law, x)

    def _columns(self, x: PyTree) -> Iterator[tuple[Any, PyTree, Array, Array]]:
        """Column by column: the law and its rows, the shares [k], and where zeros are [n, 1]."""
        for a in range(self.zero.shape[-1]):
            law = self.law.marginal([a]) if self.table else self.law
            rows = x[:, a : a + 1] if self.table else x
            yield law, rows, self.zero[:, a], (_counts(rows) == 0).reshape(-1, 1)

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """The sum over columns of -log of the share of zeros and of the law, in nats."""
        return sum(_cost(*column) for column in self._columns(x))  # type: ignore[return-value]

    def statistics(
        self, x: PyTree, plan: Float[Array, "n k"]
    ) -> list[tuple[Float[Array, " k"], PyTree]]:
        """By column: the mass of the zeros that are none of the law, its statistics of the rest."""
        found = []
        for law, rows, zero, there in self._columns(x):
            share = jnp.exp(jnp.log(zero) + _cost(law, rows, zero, there))
            inflated = plan * jnp.where(there, share, 0)
            found.append((jnp.sum(inflated, axis=0), law.statistics(rows, plan - inflated)))
        return found

    def maximize(
        self,
        statistics: list[tuple[Array, PyTree]],
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "ZeroInflated":
        """The share of those zeros, and the law's own M-step: one step of EM within the step."""
        own = (prior.parts if prior is not None else None) or {}
        law, zero = self.law, self.zero
        if "law" not in held:
            columns = [self.law.marginal([a]) if self.table else law for a in range(zero.shape[-1])]
            moved = [
                one.maximize(sums, jnp.maximum(mass - inflated, 0), own.get("law"))
                for one, (inflated, sums) in zip(columns, statistics, strict=True)
            ]
            law = _joined(law, moved) if self.table else moved[0]
        if "zero" not in held:
            inflated = jnp.stack([mine for mine, _ in statistics], axis=-1)
            # off the border, where shares would shrink without end and win nothing
            eps, there = jnp.finfo(mass.dtype).eps, mass[:, None]
            share = jnp.clip(safe_divide(inflated, there), eps, 1 - eps)
            zero = jnp.where(there > 0, share, zero)
        return replace(self, zero=zero, law=law)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; column by column."""
        moved, table = [], self.table
        for a, (inflated, sums) in enumerate(statistics):
            law, new = (f.law.marginal([a]) if table else f.law for f in (self, onto))
            moved.append((inflated, law.recentred(sums, mass - inflated, new)))
        return moved

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The law's."""
        return self.law.penalty(((prior.parts if prior is not None else None) or {}).get("law"))

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """The law's."""
        own = (prior.parts if prior is not None else None) or {}
        return self.law.spurious(own.get("law"), weights, n_rows)

    def imprecise(self) -> Bool[Array, " k"]:
        """The law's."""
        return self.law.imprecise()

    def moments(self) -> tuple[PyTree, PyTree]:
        """See `Answers.moments`."""
        (mean, variance), zero = self.law.moments(), self.zero
        return (1 - zero) * mean, (1 - zero) * (variance + zero * mean**2)

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """Rows of the law, some of their counts set to 0."""
        own, other = jax.random.split(key)
        rows, zero = self.law.sample(own, labels, given), self.zero[labels]
        inflated = jax.random.uniform(other, zero.shape, zero.dtype) < zero
        if self.table:
            return jnp.where(inflated, 0, rows)
        return {**rows, "y": jnp.where(inflated[:, 0], 0, rows["y"])}

    @classmethod
    def of_rows(cls, x: Any, parts: Any) -> Description:
        """The law's."""
        return cls.of(parts[0][1].of_rows(x))

    @classmethod
    def initial(cls, x: PyTree, plan: Float[Array, "n k"], parts: Any) -> "ZeroInflated":
        """Half of each component's zeros are counted as none of the law's."""
        counts = _counts(x)
        there = (counts == 0).astype(plan.dtype).reshape(len(counts), -1)
        share = 0.5 * safe_divide(matmul(plan.T, there), jnp.sum(plan, axis=0)[:, None])
        return cls(jnp.clip(share, 0.01, 0.5), parts[0][1].initial(x, plan))

    @classmethod
    def check(cls, x: Any, parts: Any) -> None:
        """Rows of the law.

        Raises:
            ValueError: for what it refuses.
        """
        parts[0][1].check(x)

    @classmethod
    def embed(cls, x: Any, parts: Any) -> Float[Array, "n e"]:
        """The law's."""
        return parts[0][1].embed(x)

    @classmethod
    def examples(cls) -> dict[str, "ZeroInflated"]:
        """Three Poisson laws of two counts."""
        law = describe("poisson").family.examples()["counts"]
        return {"poisson": cls(jnp.array([[0.3, 0.2], [0.6, 0.1], [0.1, 0.4]]), law)}


def _counts(x: PyTree) -> Any:
    return x["y"] if isinstance(x, dict) else x


def _cost(law: Any, rows: PyTree, zero: Array, there: Array) -> Float[Array, "n k"]:
    counted = law.cost(rows) - jnp.log1p(-zero)
    return jnp.where(there, -jnp.logaddexp(jnp.log(zero), -counted), counted)


def _joined(law: Any, columns: list[Any]) -> Any:
    """The law of all columns, from that of each."""
    fields = {
        field.name: jnp.concatenate(
            [getattr(one, field.name) for one in columns], axis=-field.metadata["axes"]
        )
        for field in learned(law)
    }
    return replace(law, **fields)

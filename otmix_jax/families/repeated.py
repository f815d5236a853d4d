"""Repeated measurements: the rows of one unit come from one component."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import NESTED, Frame, Identity
from .family import Description, Family, describe


@pytree
class Repeated(Family):
    """K components of units, each of several rows that are independent given the component.

        C_uj = sum_m present_um C(x_um, theta_j)

    A row is a unit: {"rows": [n, m, ...] of each column, "present": [n, m]}, `present` being 1, a
    count, or 0 for what only fills a unit up to m rows and may hold any row of the support. So the
    plan, responsibilities and labels are the units', and n in a criterion counts units.
    `rows.repeated` makes such rows.

    Attributes:
        inner: the components of the rows.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> unit = np.repeat(np.arange(60), 5)
        >>> x = rng.normal(np.where(unit < 20, 0.0, 2.0), 1.0)[:, None]
        >>> rows = om.rows.repeated(x, unit)
        >>> solution = om.fit(rows, 2, family="gaussian", key=0)
        >>> np.bincount(solution.mixture.predict(rows)).tolist()
        [20, 40]

    Source: Gruen and Leisch (2008), J. Statistical Software 28(4), section 2.
    """

    inner: Any = parameter(NESTED)
    table = False
    # what else the inner family's prior may hold is per row, where the objective is per unit
    priors = frozenset({"floor"})

    @classmethod
    def of(cls, inner: Any) -> Description:
        """Units of rows of this family: a name, a class or a description."""
        return Description(cls, (("inner", describe(inner)),))

    def described(self) -> Description:
        """See `Family.described`."""
        return Repeated.of(self.inner.described())

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """The inner family's."""
        return self.inner.exact_m_step

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """The inner family as a whole; freeze fields of it within."""
        return frozenset({"inner"})

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    def cost(self, x: dict[str, PyTree]) -> Float[Array, "n k"]:
        """The sum over a unit's rows."""
        return _summed(self.inner.cost, x)

    def prepared_cost(self) -> Any:
        """The inner family's, summed."""
        return jax.tree_util.Partial(_summed, self.inner.prepared_cost())

    def expected(self, x: Any) -> Float[Array, "n m k"]:
        """The mean response of each row of each unit, where the inner family has one."""
        n, m = x["present"].shape
        return self.inner.expected(_rows(x)).reshape(n, m, -1)

    def statistics(self, x: dict[str, PyTree], plan: Float[Array, "n k"]) -> dict[str, PyTree]:
        """The inner family's, and the mass of rows, not of units."""
        each = _spread(x, plan)
        return {"inner": self.inner.statistics(_rows(x), each), "mass": jnp.sum(each, axis=0)}

    def maximize(
        self,
        statistics: dict[str, PyTree],
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Repeated":
        """The inner family's, of all rows."""
        if "inner" in held:
            return self
        mass = jnp.where(mass > 0, statistics["mass"], 0)
        return replace(self, inner=self.inner.maximize(statistics["inner"], mass, prior))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the inner family's, of rows."""
        return self.inner.expected_cost(statistics["inner"], statistics["mass"], at.inner)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; the inner family's, of rows."""
        own, rows = statistics["inner"], statistics["mass"]
        return {"inner": self.inner.recentred(own, rows, onto.inner), "mass": rows}

    def take(self, which: Any) -> "Repeated":
        """See `Family.take`."""
        return replace(self, inner=self.inner.take(which))

    def out_of(self, frame: Frame) -> "Repeated":
        """The inner family's."""
        if isinstance(frame, Identity):
            return self
        if not isinstance(frame, Units):
            raise TypeError("Repeated is closed under a frame of its rows alone")
        return replace(self, inner=self.inner.out_of(frame.rows))

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """The inner family's."""
        return self.inner.spurious(prior, weights, n_rows)

    def imprecise(self) -> Bool[Array, " k"]:
        """The inner family's."""
        return self.inner.imprecise()

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> dict[str, PyTree]:
        """Units of component labels_i; of two rows each without `given`."""
        present = jnp.ones((len(labels), 2)) if given is None else given["present"]
        n, m = present.shape
        rows = None if given is None else _rows(given)
        drawn = self.inner.sample(key, jnp.repeat(labels, m), rows)
        return {"rows": _units(drawn, n, m), "present": present}

    @classmethod
    def initial(cls, x: dict[str, PyTree], plan: Float[Array, "n k"], inner: Any = None) -> Any:
        """The inner family's, of all rows."""
        each = _spread(x, plan)
        return cls(inner.initial(_rows(x), safe_divide(each, jnp.sum(each))))

    @classmethod
    def embed(cls, x: Any, inner: Any) -> Float[Array, "n e"]:
        """The mean of a unit's rows, as the inner family sees them."""
        columns = inner.embed(jax.tree.map(jnp.asarray, _rows(x)))
        present = jnp.asarray(x["present"]).astype(columns.dtype)
        each = columns.reshape(*present.shape, -1)
        total = jnp.sum(present[..., None] * each, axis=1)
        return safe_divide(total, jnp.sum(present, axis=1)[:, None])

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, inner: Any = None) -> Any:
        """The inner family's, of all rows that are there."""
        count = np.asarray(x["present"], float)
        n, m = count.shape
        weight = np.ones(n) if weight is None else np.asarray(weight, float)
        each = (weight[:, None] * count).ravel()
        starts = None if begins is None else m * np.asarray(begins)
        found = inner.frame(jax.tree.map(np.asarray, _rows(x)), each, starts)
        if isinstance(found, Identity):
            return found
        groups = np.zeros(1, int) if begins is None else np.asarray(begins)
        per_unit = np.add.reduceat(each.reshape(n, m).sum(axis=1), groups)
        per_unit = per_unit / np.add.reduceat(weight, groups)
        return Units(found, per_unit[0] if begins is None else per_unit)

    @classmethod
    def reals(cls, x: Any, inner: Any) -> Any:
        """The inner family's."""
        n, m = x["present"].shape
        return {"rows": _units(inner.reals(_rows(x)), n, m), "present": x["present"].astype(float)}

    @classmethod
    def check(cls, x: Any, inner: Any) -> None:
        """Units of rows that the inner family takes.

        Raises:
            ValueError: for others.
        """
        if not is_units(x):
            have = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                "units of repeated measurements are a dict of 'rows' and 'present', as "
                f"rows.repeated makes them, not {have}"
            )
        count = np.asarray(x["present"])
        if count.ndim != 2 or any(
            np.shape(leaf)[:2] != count.shape for leaf in jax.tree.leaves(x["rows"])
        ):
            raise ValueError("'present' must have shape (n, m), and each column of 'rows' too")
        bad = (count < 0).any(axis=1) | (count.sum(axis=1) == 0)
        if bad.any():
            raise ValueError(
                f"'present' must be >= 0, and > 0 for a row of each unit; unit {np.argmax(bad)} "
                f"holds {count[np.argmax(bad)].tolist()}"
            )
        try:
            inner.check(jax.tree.map(np.asarray, _rows(x)))
        except ValueError as error:
            raise ValueError(f"{error} (rows counted through units of {count.shape[1]})") from None

    @classmethod
    def least(cls, dtype: Any, inner: Any) -> Prior | None:
        """The inner family's."""
        return inner.least(dtype)

    @classmethod
    def examples(cls) -> dict[str, "Repeated"]:
        """Pairs of counts."""
        return {"pairs": cls(next(iter(describe("poisson").family.examples().values())))}


@pytree
class Units(Frame):
    """The frame of the rows within units.

    Attributes:
        rows: the frame of a row.
        per_unit: rows of a unit, on average: by how much more a unit's density changes.
    """

    rows: Any
    per_unit: Any

    def into(self, x: Any) -> Any:
        """See `Frame.into`."""
        n, m = x["present"].shape
        # with a leading axis, one frame for each unit: one for each of its rows
        own = self.rows
        if np.ndim(self.per_unit):
            own = jax.tree.map(lambda leaf: leaf.repeat(m, axis=0), own)
        return dict(x) | {"rows": _units(own.into(_rows(x)), n, m)}

    @property
    def columns(self) -> Any:
        """The units of a row's columns."""
        return self.rows.columns  # type: ignore[attr-defined]

    @property
    def log_volume(self) -> Any:
        """That of all rows of a unit: right on average over units."""
        return self.per_unit * self.rows.log_volume

    @property
    def inverse(self) -> "Units":
        """See `Frame.inverse`."""
        return Units(self.rows.inverse, self.per_unit)


def is_units(x: Any) -> bool:
    """Whether rows are units of repeated measurements."""
    return isinstance(x, dict) and set(x) == {"rows", "present"}


def _rows(x: dict[str, PyTree]) -> PyTree:
    """All rows, behind one another."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), x["rows"])


def _units(rows: PyTree, n: int, m: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(n, m, *leaf.shape[1:]), rows)


def _spread(x: dict[str, PyTree], plan: Float[Array, "n k"]) -> Float[Array, "nm k"]:
    """The plan of the rows."""
    each = x["present"].astype(plan.dtype)[..., None] * plan[:, None]
    return each.reshape(-1, plan.shape[1])


def _summed(cost: Any, x: dict[str, PyTree]) -> Float[Array, "n k"]:
    present = x["present"]
    each = cost(_rows(x)).reshape(*present.shape, -1)
    counted = (present > 0)[..., None]
    # 0 * inf: what fills a unit up must not count
    return jnp.sum(
        jnp.where(counted, present.astype(each.dtype)[..., None] * jnp.where(counted, each, 0), 0),
        axis=1,
    )

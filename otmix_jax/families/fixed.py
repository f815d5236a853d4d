"""Components with nothing to learn: a background of constant density, and a point mass."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.tree import pytree, replace, static
from ..priors import Prior
from .coordinates import Affine, Frame
from .family import Description, Family


class Fixed(Family):
    """K laws without a free parameter: a start assigns no rows to them, and the M-step is none."""

    exact_m_step = True

    @classmethod
    def seats(cls, n_components: int, *_: Any, **options: Any) -> list[int]:
        """None: see `Family.seats`."""
        del n_components, options
        return []

    @classmethod
    def covers(cls, x: Any, *_: Any, **options: Any) -> np.ndarray:
        """[n] which rows (NumPy) have mass here, and so need none under others."""
        del options
        return np.zeros(len(x), bool)

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> Float[Array, " 0"]:
        """Nothing."""
        del x
        return jnp.zeros(0, plan.dtype)

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`: nothing moves."""
        del statistics, at
        return jnp.zeros((), mass.dtype)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`: there are none."""
        del mass, onto
        return statistics

    def maximize(
        self,
        statistics: PyTree,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Fixed":
        """The same laws."""
        del statistics, mass, prior, held
        return self


@pytree
class Uniform(Fixed):
    """K backgrounds of constant density, one over the volume of a box, inside and outside of it.

    As noise beside other components (`OneOf`): a row far from all of them costs log volume, and so
    no component has to reach for it. The constant goes on beyond the box, so that every row has a
    cost; draws are from the box. The box is no parameter, as it follows from the rows or is given.

    Attributes:
        low: [k, d] the box's lower corner, in the units of the rows.
        high: [k, d] its upper corner.

    Source: Banfield and Raftery, Biometrics 49 (1993), section 2.4; Fraley and Raftery (2002).
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, volume: float | None = None) -> Description:
        """A background over a given volume, or over the smallest box that holds the rows.

        Args:
            volume: in the units of the rows, of a hull for example; one over it is the density.

        Raises:
            ValueError: for a volume that is not finite and > 0.
        """
        if volume is None:
            return Description(cls)
        if not (math.isfinite(volume) and volume > 0):
            raise ValueError(f"volume must be finite and > 0, not {volume!r}")
        return Description(cls, (("volume", float(volume)),))

    @property
    def n_components(self) -> int:
        """K."""
        return self.low.shape[-2]

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.low.shape[-1]

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = log volume_j, in nats, of every row."""
        volume = jnp.sum(jnp.log(self.high - self.low), axis=-1)
        return jnp.broadcast_to(volume, (x.shape[0], self.n_components))

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Rows of the box."""
        del given
        low, high = self.low[labels], self.high[labels]
        return low + (high - low) * jax.random.uniform(key, low.shape, low.dtype)

    @classmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], volume: float | None = None
    ) -> "Uniform":
        """The box of the rows that the plan has, or a box of this volume about its centre."""
        present = jnp.sum(plan, axis=1)[:, None] > 0
        low = jnp.min(jnp.where(present, x, jnp.inf), axis=0)
        width = jnp.max(jnp.where(present, x, -jnp.inf), axis=0) - low
        # a column that never varies has no extent, and no rows have no box
        sound = jnp.isfinite(width) & (width > 0)
        low, width = jnp.where(jnp.isfinite(low), low, 0), jnp.where(sound, width, 1)
        centre, half = low + 0.5 * width, 0.5 * width
        if volume is not None:
            half *= jnp.exp((math.log(volume) - jnp.sum(jnp.log(width))) / width.shape[0])
        shape = plan.shape[1], width.shape[0]
        return cls(*(jnp.broadcast_to(edge, shape) for edge in (centre - half, centre + half)))

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, volume: float | None = None) -> Affine:
        """That of a Gaussian; where a volume is given, one that changes none."""
        whole = volume is not None
        if begins is None:
            frame = Affine.of(x, weight, one_unit=whole)
        else:
            frame = Affine.of_groups(x, weight, begins, one_unit=whole)
        return replace(frame, unit=np.ones_like(np.asarray(frame.unit))) if whole else frame

    def out_of(self, frame: Frame) -> "Uniform":
        """See `Family.out_of`."""
        if not isinstance(frame, Affine):
            return super().out_of(frame)  # type: ignore[return-value]
        unit = jnp.broadcast_to(frame.columns, self.low.shape[-1:])
        return Uniform(unit * self.low + frame.origin, unit * self.high + frame.origin)

    @classmethod
    def check(cls, x: Any, volume: float | None = None) -> None:
        """One table of real numbers.

        Raises:
            ValueError: for columns with names.
        """
        del volume
        if isinstance(x, dict) or np.ndim(x) != 2:
            raise ValueError("Uniform takes one table of real numbers (n, d) as its rows")


@pytree
class Point(Fixed):
    """K point masses: a row that holds the value in every column costs 0, all others infinity.

    Beside a family of counts (`OneOf`) it inflates the mixture by one value, most often 0.

    Attributes:
        value: [k, d]
        column: the rows' column that is read, where they are a dict; None where they are a table.
    """

    value: Array
    column: str | None = static(default=None)

    @classmethod
    def of(cls, value: float = 0.0, column: str | None = None) -> Description:
        """A point mass at a value, of all columns of a table, or of one column of a dict.

        Raises:
            ValueError: for a value that is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"value must be finite, not {value!r}")
        return Description(cls, (("column", column), ("value", float(value))))

    def described(self) -> Description:
        """See `Family.described`; the value is the components' own."""
        return Description(type(self), (("column", self.column),))

    @property
    def table(self) -> bool:  # type: ignore[override]
        """See `Family.table`."""
        return self.column is None

    @property
    def n_components(self) -> int:
        """K."""
        return self.value.shape[-2]

    @property
    def n_features(self) -> int | None:
        """The width d of a row, where rows are a table."""
        return self.value.shape[-1] if self.table else None

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """C_ij = 0 at the value, else infinity."""
        there = jnp.all(_columns(x, self.column)[:, None, :] == self.value, axis=-1)
        return jnp.where(there, 0, jnp.inf).astype(self.value.dtype)

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: PyTree = None) -> PyTree:
        """The value; in its column of what is given, where rows are a dict."""
        del key
        drawn = self.value[labels]
        return drawn if self.column is None else {**(given or {}), self.column: drawn[:, 0]}

    @classmethod
    def initial(
        cls, x: PyTree, plan: Float[Array, "n k"], value: float = 0.0, column: str | None = None
    ) -> "Point":
        """The value in every column."""
        shape = plan.shape[1], _columns(x, column).shape[1]
        return cls(jnp.full(shape, value, plan.dtype), column)

    @classmethod
    def check(cls, x: Any, value: float = 0.0, column: str | None = None) -> None:
        """A table, or a dict that has the column.

        Raises:
            ValueError: for other rows.
        """
        del value
        if isinstance(x, dict) != (column is not None):
            raise ValueError("Point.of(column=...) names the column that it reads of a dict's")
        if isinstance(x, dict) and column not in x:
            raise ValueError(f"Point reads column {column!r}, the rows have {sorted(x)}")

    @classmethod
    def covers(cls, x: Any, value: float = 0.0, column: str | None = None) -> np.ndarray:
        """See `Fixed.covers`: those at the value."""
        return (_columns(x, column) == value).all(axis=1)


def _columns(x: PyTree, column: str | None) -> Any:
    """[n, d] of a table, or of the one column that is read."""
    own = x if column is None else x[column]
    return own.reshape(len(own), -1)

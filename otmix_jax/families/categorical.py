"""Categorical components: coded items, latent class analysis."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, Shaped

from ..core.numerics import einsum, logsumexp, matmul, safe_divide, safe_log
from ..core.tree import is_float, parameter, pytree, replace, static
from ..priors import Prior
from .answers import read_columns
from .domains import SIMPLEX, simplex_basis
from .family import Description, Family
from .forms import LinearForm
from .independent import floored

MOST_LEVELS = 10_000
"""Codes from here on are taken for something else, where no levels are given."""
SHRUNK = 0.01
"""The share of equal probabilities in those of a start: none is 0."""


@pytree
class Categorical(Family):
    """K products of categorical laws over items, coded 0, 1, 2, ...

    Attributes:
        probability: [k, d, l] of each level, of sum 1; 0 for levels that an item does not have.
        levels: how many each item has; None: all have l.
        missing: whether NaN or a code below 0 marks a cell that is not there.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> yes = rng.random((400, 5)) < np.where(np.arange(400) < 150, 0.9, 0.2)[:, None]
        >>> solution = om.fit(yes, 2, family="categorical", key=0)
        >>> sorted(round(float(weight), 1) for weight in solution.mixture.weights)
        [0.4, 0.6]

    Source: Goodman (1974), Biometrika 61, Exploratory latent structure analysis.
    """

    probability: Array = parameter(SIMPLEX, axes=2)
    levels: tuple[int, ...] | None = static(default=None, kw_only=True)
    missing: bool = static(default=False, kw_only=True)
    exact_m_step = True
    separable = True
    holds = frozenset({"probability"})

    @classmethod
    def of(cls, levels: int | Sequence[int] | None = None, missing: bool = False) -> Description:
        """Items of this many levels each, or one number for all.

        Args:
            levels: by default those that the rows of a fit have: the largest code and 1.
            missing: whether cells may be NaN or below 0: these are integrated out.
        """
        return Description(cls, _options(levels, missing))

    @classmethod
    def incomplete(cls, levels: Any = None, missing: bool = True) -> Description:
        """See `Family.incomplete`."""
        del missing
        return cls.of(levels, missing=True)

    @classmethod
    def of_rows(cls, x: Any, levels: Any = None, missing: bool = False) -> Description:
        """See `Family.of_rows`; the levels up to the largest code of each item."""
        if levels is None:
            codes = np.asarray(x)
            codes = np.where(codes >= 0, codes, 0)  # NaN is not
            levels = tuple((codes.max(axis=0).astype(int) + 1).tolist())
        return cls.of(levels, missing)

    def described(self) -> Description:
        """See `Family.described`."""
        return type(self).of(self.levels or self.probability.shape[-1], self.missing)

    @property
    def n_features(self) -> int:
        """The number d of items."""
        return self.probability.shape[-2]

    @property
    def n_parameters(self) -> int:
        """One less than the levels of each item."""
        return self.n_components * (int(self._there.sum()) - self.n_features)

    @property
    def _there(self) -> Bool[np.ndarray, "d l"]:
        """The levels that an item has: constants of the program."""
        d, most = self.probability.shape[-2:]
        levels = np.full(d, most) if self.levels is None else np.array(self.levels)
        return np.arange(most) < levels[:, None]

    def _flat(self, values: Array) -> Float[Array, "*k f"]:
        """Levels side by side, without those that an item does not have."""
        if self.levels is None:
            return values.reshape(*values.shape[:-2], -1)
        return values[..., *np.nonzero(self._there)]

    def _padded(self, flat: Array, blank: float) -> Float[Array, "*k d l"]:
        """The way back."""
        if self.levels is None:
            return flat.reshape(*flat.shape[:-1], *self._there.shape)
        whole = jnp.full((*flat.shape[:-1], *self._there.shape), blank, flat.dtype)
        return whole.at[..., *np.nonzero(self._there)].set(flat)

    @property
    def _basis(self) -> np.ndarray:
        """[f, f - d] orthonormal directions that change no item's sum of logarithms."""
        blocks = [simplex_basis(int(count)) for count in self._there.sum(axis=1)]
        basis = np.zeros(tuple(np.sum([block.shape for block in blocks], axis=0)))
        row = column = 0
        for block in blocks:
            basis[row : row + len(block), column : column + block.shape[1]] = block
            row, column = row + len(block), column + block.shape[1]
        return basis

    def _logs(self) -> Float[Array, "k f"]:
        return jnp.log(floored(self._flat(self.probability)))

    def constrain(self, coordinates: dict[str, Any]) -> "Categorical":  # type: ignore[override]
        """See `Family.constrain`."""
        if "probability" not in coordinates:
            return self
        z = coordinates["probability"]
        moved = self._logs() + matmul(z, jnp.asarray(self._basis.T, z.dtype))
        moved = self._padded(moved, -jnp.inf)
        return replace(self, probability=jnp.exp(moved - logsumexp(moved, axis=-1)[..., None]))

    def unconstrained(self, origin: Any) -> dict[str, Any]:  # type: ignore[override]
        """See `Family.unconstrained`."""
        ratio = self._logs() - origin._logs()
        return {"probability": matmul(ratio, jnp.asarray(self._basis, ratio.dtype))}

    def cost(self, x: Shaped[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = -sum_a log probability of item a's level, in nats; +inf for no level."""
        return self.linear_form().costs(x)

    def indicators(self, x: Shaped[Array, "n d"]) -> Float[Array, "n f"]:
        """Whether an item has a level; a missing item has none."""
        d, most = self._there.shape
        dtype = self.probability.dtype
        if self.levels is None:
            return (x[:, :, None] == jnp.arange(most)).reshape(len(x), d * most).astype(dtype)
        item, level = np.nonzero(self._there)
        return (x[:, item] == level).astype(dtype)

    def statistics(self, x: Array, plan: Float[Array, "n k"]) -> Float[Array, "k d l"]:
        """How often each level occurs."""
        return self._padded(matmul(plan.T, self.indicators(x)), 0)

    def maximize(
        self,
        statistics: Array,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Categorical":
        """The share of each level among the component's rows."""
        del prior, mass
        if held:
            return self
        total = jnp.sum(statistics, axis=-1, keepdims=True)
        share = jnp.where(self._there, floored(safe_divide(statistics, total)), 0)
        return replace(self, probability=jnp.where(total > 0, share, self.probability))

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`: counts have no pivot."""
        del mass, onto
        return statistics

    def expected_cost(self, statistics: Array, mass: Float[Array, " k"], at: Any) -> Array:
        """See `Pivots.expected_cost`; the whole."""
        del mass
        # a level that does not occur counts nothing
        seen = statistics > 0
        return -jnp.sum(
            jnp.where(seen, statistics * jnp.log(jnp.where(seen, at.probability, 1)), 0)
        )

    def linear_form(self) -> "CategoricalForm":
        """T(x) = (1, one indicator for each item and level)."""
        logs = self._logs()
        # a constant of 0 must be there all the same: the linear kernel adds log pi to it
        parameters = jnp.concatenate([jnp.zeros_like(logs[:, :1]), logs], axis=1)
        return CategoricalForm(parameters, self)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Int[Array, "n d"]:
        """Codes."""
        del given
        return jax.random.categorical(key, safe_log(self.probability)[labels])

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; of the indicators, as `embed` lays them out."""
        mean = self._flat(self.probability)
        item = np.nonzero(self._there)[0]
        joint = jnp.eye(len(item), dtype=mean.dtype) * mean[:, None]
        alike = item[:, None] == item
        return mean, joint - jnp.where(alike, mean[:, :, None] * mean[:, None], 0)

    def marginal(self, columns: Iterable[Any]) -> Any:
        """See `Answers.marginal`."""
        columns = list(columns)
        kept = super().marginal(columns)
        if self.levels is None:
            return kept
        return replace(kept, levels=tuple(self.levels[a] for a in read_columns(self, columns)))

    @classmethod
    def initial(
        cls, x: Array, plan: Float[Array, "n k"], levels: Any = None, missing: bool = False
    ) -> "Categorical":
        """Shares among the assigned rows, drawn a little to equal ones.

        Raises:
            TypeError: where no levels are given: they cannot be found in rows that are traced.
        """
        blank = cls._blank(x.shape[1], levels, missing, plan)
        counts, there = blank.statistics(x, plan), jnp.asarray(blank._there, plan.dtype)
        equal = there / jnp.sum(there, axis=-1, keepdims=True)
        # 1e-6: an item without rows in a component gets equal shares, not 0 / 0
        added = SHRUNK * jnp.sum(plan, axis=0)[:, None, None] + 1e-6
        total = jnp.sum(counts, axis=-1, keepdims=True) + added
        return replace(blank, probability=(counts + added * equal) / total)

    @classmethod
    def _blank(cls, d: int, levels: Any, missing: bool, plan: Array) -> "Categorical":
        if levels is None:
            raise TypeError(
                "how many levels do the items have? Give family=Categorical.of(levels=...)"
            )
        each = (levels,) * d if isinstance(levels, int) else levels
        ragged = each if min(each) < max(each) else None
        probability = jnp.zeros((plan.shape[1], d, max(each)), plan.dtype)
        return cls(probability, levels=ragged, missing=missing)

    @classmethod
    def embed(cls, x: Array, levels: Any = None, missing: bool = False) -> Float[Array, "n e"]:
        """Indicators: two codes are equal or not, whatever their numbers.

        An item that is missing stands at the mean of the others.
        """
        x = jnp.asarray(x)
        like = jnp.zeros((1, 1), x.dtype if is_float(x) else float)
        blank = cls._blank(x.shape[1], levels, missing, like)
        hot = blank.indicators(x)
        if not missing:
            return hot
        there = blank.there(x)[:, np.nonzero(blank._there)[0]]
        mean = jnp.sum(hot, axis=0) / jnp.maximum(jnp.sum(there, axis=0), 1)
        return jnp.where(there, hot, mean)

    def there(self, x: Shaped[Array, "n d"]) -> Bool[Array, "n d"]:
        """Which cells are not missing."""
        # NaN is not at or above 0
        return x >= 0 if self.missing else jnp.ones(x.shape, bool)

    def impute(
        self, x: Array, share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> Array:
        """See `Family.impute`; without a key the level that is most probable."""
        if key is None:
            level = jnp.argmax(einsum("nk,kdl->ndl", share, self.probability), axis=-1)
        else:
            level = self.sample(key, jnp.argmax(share, axis=1))
        return jnp.where(self.there(x), x, level.astype(x.dtype))

    @classmethod
    def check(cls, x: Any, levels: Any = None, missing: bool = False) -> None:
        """Codes within the levels.

        Raises:
            ValueError: naming the first cell that is none.
        """
        x = np.asarray(x)
        most = np.asarray(MOST_LEVELS if levels is None else levels)
        if most.ndim and len(most) != x.shape[1]:
            raise ValueError(f"levels has {len(most)} numbers for {x.shape[1]} items")
        with np.errstate(invalid="ignore"):
            bad = ~((x >= 0) & (x < most) & (x == np.floor(x)))
            if missing:
                bad &= x >= 0
        if bad.any():
            row, column = np.argwhere(bad)[0]
            limit = int(np.broadcast_to(most, x.shape[1:])[column])
            raise ValueError(
                f"a Categorical family of {limit} levels needs codes 0 to {limit - 1}; row "
                f"{row}, column {column} holds {x[row, column]}"
                + ("; rows.codes makes codes of categories" if levels is None else "")
            )

    @classmethod
    def examples(cls) -> dict[str, "Categorical"]:
        """Three components of two items: of three levels each, and of two and three."""
        logits = jnp.sin(jnp.arange(18.0) ** 2).reshape(3, 2, 3)
        fewer = logits.at[:, 0, 2].set(-jnp.inf)
        return {
            "items": cls(jax.nn.softmax(2 * logits)),
            "ragged": cls(jax.nn.softmax(2 * fewer), levels=(2, 3), missing=True),
        }


def _options(levels: Any, missing: bool) -> tuple:
    """Numbers of levels that are all the same are one."""
    if levels is None:
        found: Any = ()
    else:
        each = [int(count) for count in np.atleast_1d(np.asarray(levels))]
        if min(each) < 1:
            raise ValueError(f"items need at least one level, not {levels}")
        found = each[0] if np.ndim(levels) == 0 else tuple(each)
        found = (("levels", found),)
    return (*found, ("missing", True)) if missing else found


@pytree
class CategoricalForm(LinearForm):
    """Categorical laws, linear in indicators."""

    natural_parameters: Array
    components: Any

    def sufficient_statistics(self, x: Array) -> Float[Array, "n f"]:
        """1 and the indicators."""
        hot = self.components.indicators(x)
        return jnp.concatenate([jnp.ones_like(hot[:, :1]), hot], axis=1)

    def log_base_measure(self, x: Array) -> Float[Array, " n"]:
        """0, and -inf for a row with a code that is no level."""
        known = jnp.sum(self.components.indicators(x), axis=1)
        return jnp.where(known == jnp.sum(self.components.there(x), axis=1), 0.0, -jnp.inf)

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Array:
        """How often each level occurs."""
        del total
        return self.components._padded(sums[:, 1:], 0)

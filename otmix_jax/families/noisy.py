"""Gaussian vectors that are seen through noise of each row's own: extreme deconvolution."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.noise import check_noise, check_noise_shapes
from ..core.numerics import matmul, safe_divide
from ..core.tree import parameter, pytree, replace
from ..core.triangular import inverse_triangle, multiply, regular_cholesky
from ..priors import Prior, Ridge
from . import geometry
from .coordinates import NESTED, Frame, Identity
from .elliptical import Gaussian
from .family import Description, Family, describe
from .incomplete import Incomplete
from .measured import Measured
from .noise import NARROW, Seen, costs, moments, pulls
from .quadratic import Moments
from .unblurred import least_noise, lifted, located, spread_out

ALIGNED = (geometry.axes, geometry.shared_axes, geometry.isotropic)


@pytree
class Noisy(Family):
    """K Gaussian components of vectors v_i that are seen as x_i = R_i v_i + noise, N(0, S_i).

        C_ij = -log N(x_i; R_i mu_j, R_i V_j R_i^T + S_i)

    A row is {"x": [n, m], "covariance": S [n, m, m], or [n, m] variances of independent cells,
    "projection": R [n, m, d], left out where it is the identity}, as `rows.noisy` makes them.
    Means, covariances and priors are the inner family's, of the vectors without noise, and
    `components.inner` is their law. With `Incomplete` inside, NaN in x is a missing cell.

    Attributes:
        inner: a `Gaussian` of any covariance structure, or an `Incomplete`.
        least_noise: [d] or one number: variances that the noise of every row has at least, in the
            directions of the vectors. A component that is thinner than that is no spike. `fit`
            takes it from the rows; no parameter.

    Example:
        >>> import jax.numpy as jnp, otmix_jax as om
        >>> from otmix_jax.families import Diagonal, Gaussian, Noisy
        >>> law = Noisy(Gaussian(jnp.zeros((1, 1)), Diagonal(jnp.ones((1, 1)))))
        >>> rows = om.rows.noisy([[2.0]], covariance=[[3.0]])
        >>> om.Mixture(jnp.zeros(1), law).impute(rows).tolist()  # shrunk by 1 / (1 + 3)
        [[0.5]]

    Source: Bovy, Hogg and Roweis (2011), Annals of Applied Statistics 5.
    """

    inner: Any = parameter(NESTED)
    least_noise: Any = dataclasses.field(
        default_factory=lambda: np.zeros(()), metadata={"shared": True}
    )
    table = False
    conditional = True
    priors = frozenset({"covariance", "floor", "mean"})
    holds = frozenset({"inner"})

    @classmethod
    def of(cls, inner: Any = None, covariance: Any = None) -> Description:
        """Such rows of a Gaussian: its name, class or description, or a covariance structure.

        Raises:
            TypeError: for another family.
        """
        law = describe(inner, covariance)
        if not issubclass(law.family, Gaussian):
            raise TypeError(
                f"Noisy takes a Gaussian, not {law}: only its moments have a closed form"
            )
        missing = (("missing", True),) if law.missing else ()
        return Description(cls, (("inner", law), *missing))

    @classmethod
    def incomplete(cls, inner: Description, **_: Any) -> Description:
        """See `Family.incomplete`."""
        return cls.of(inner.incomplete())

    def described(self) -> Description:
        """See `Family.described`."""
        return self.of(self.inner.described())

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """The inner family's: EM with the vectors as latent data lowers the expected cost."""
        return self.inner.exact_m_step

    @property
    def n_components(self) -> int:
        """K."""
        return self.inner.n_components

    @property
    def n_features(self) -> int:
        """The width d of the vectors."""
        return self.inner.n_features

    @property
    def mean(self) -> Float[Array, "k d"]:
        """Of the vectors."""
        return self.inner.mean

    @property
    def covariance(self) -> Any:
        """Of the vectors."""
        return self.inner.covariance

    def matrices(self) -> Float[Array, "k d d"]:
        """Of the vectors."""
        return self.inner.matrices()

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; of the vectors."""
        return self.inner.moments()

    def check_columns(self, x: Any) -> None:
        """Rows that see vectors of as many columns.

        Raises:
            ValueError: for others.
        """
        check_noise_shapes(x, self.n_features)

    def _seen(self, x: dict[str, Array]) -> Seen:
        return Seen.of(x, isinstance(self.inner, Incomplete))

    def _spread(self, x: dict[str, Array]) -> Array:
        """[k, d] variances where all columns are independent, else [k, d, d] matrices."""
        layout = self.covariance.geometry
        if layout in ALIGNED and x["covariance"].ndim == 2 and "projection" not in x:
            variances = layout.variances(self.covariance.factor, self.n_features)
            return jnp.broadcast_to(variances, self.mean.shape)
        return self.matrices()

    def numbers_per_row(self) -> int:
        """See `Family.numbers_per_row`: factors of all components, or of one and the row's own."""
        k, d = self.n_components, self.n_features
        return 4 * d * d * (k if d <= NARROW else 2) + super().numbers_per_row()

    def cost(self, x: dict[str, Array]) -> Float[Array, "n k"]:
        """C_ij in nats; 0 for a row all of whose cells are missing."""
        return costs(self.mean, self._spread(x), self._seen(x))

    def statistics(self, x: dict[str, Array], plan: Float[Array, "n k"]) -> Moments:
        """Moments about the current means, expected given the rows."""
        first, second = moments(self.mean, self._spread(x), self._seen(x), plan)
        return self.inner.location_statistics(jnp.sum(plan, axis=0), first, second)

    def maximize(
        self,
        statistics: Moments,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Noisy":
        """The inner family's."""
        if "inner" in held:
            return self
        return replace(self, inner=self.inner.maximize(statistics, mass, prior))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the inner family's, of the vectors."""
        return self.inner.expected_cost(statistics, mass, at.inner)

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; the inner family's."""
        return self.inner.recentred(statistics, mass, onto.inner)

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The inner family's."""
        return self.inner.penalty(prior)

    def out_of(self, frame: Frame) -> "Noisy":
        """The inner family's: a frame is one of the vectors."""
        if isinstance(frame, Identity):
            return self
        inner = self.inner.out_of(frame)  # refuses what is not affine
        least = self.least_noise * jnp.asarray(frame.columns) ** 2  # type: ignore[attr-defined]
        return replace(self, inner=inner, least_noise=jnp.broadcast_to(least, (self.n_features,)))

    def _unit(self) -> Array:
        """What means move by: deviations [k, d], or lower factors [k, d, d], with the least noise.

        By the deviations alone, a component without extent could not move.
        """
        layout, d = self.covariance.geometry, self.n_features
        least = jnp.broadcast_to(jnp.asarray(self.least_noise), (d,))
        if layout in ALIGNED:
            variances = layout.variances(self.covariance.factor, d) + least
            return jnp.broadcast_to(jnp.sqrt(variances), self.mean.shape)
        # a floor, so that rounding alone makes nothing singular
        none = jnp.zeros((), least.dtype)
        return regular_cholesky(self.matrices() + jnp.diag(least), none)

    def constrain(self, coordinates: dict[str, Any]) -> "Noisy":
        """As the inner family, but means move in units of what blurs them too."""
        if "inner" not in coordinates:
            return self
        own = dict(coordinates["inner"])
        step, unit = own.pop("mean", None), self._unit()
        inner = self.inner.constrain(own)
        if step is not None:
            move = unit * step if unit.ndim == 2 else multiply(unit, step[..., None])[..., 0]
            inner = replace(inner, mean=inner.mean + move)
        return replace(self, inner=inner)

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """The coordinates of this family about `origin`."""
        own, unit = self.inner.unconstrained(origin.inner), origin._unit()
        off = self.mean - origin.mean
        if unit.ndim == 2:
            return {"inner": own | {"mean": off / unit}}
        shift = multiply(inverse_triangle(unit), off[..., None])[..., 0]
        return {"inner": own | {"mean": shift}}

    def _blurred(self) -> tuple[Bool[Array, ""], Gaussian]:
        """Whether no row is exact, and the law of vectors with the least noise."""
        least = jnp.broadcast_to(jnp.asarray(self.least_noise), (self.n_features,))
        matrices = self.matrices() + jnp.diag(least)
        covariance = type(self.covariance).from_matrices(matrices)
        return jnp.all(least > 0), replace(self.inner, covariance=covariance)

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`. Noise bounds the likelihood: a component may have no extent."""
        bounded, blurred = self._blurred()
        own = self.inner.spurious(prior, weights, n_rows)
        return jnp.where(bounded, blurred.spurious(prior, weights, n_rows), own)

    def imprecise(self) -> Bool[Array, " k"]:
        """See `Family.imprecise`."""
        bounded, blurred = self._blurred()
        return jnp.where(bounded, blurred.imprecise(), self.inner.imprecise())

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None) -> Any:
        """Rows like those `given`, of component labels_i; without them, vectors without noise."""
        own, other = jax.random.split(key)
        v = self.inner.sample(own, labels)
        if given is None:
            return {"x": v, "covariance": jnp.zeros_like(v)}
        rows = {name: jnp.asarray(leaf, v.dtype) for name, leaf in given.items()}
        seen = Seen.of(rows, True)
        drawn = seen.through(v) + seen.draw(other)
        return rows | {"x": jnp.where(jnp.isnan(rows["x"]), jnp.nan, drawn)}

    def impute(
        self, x: dict[str, Array], share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "n d"]:
        """The vectors behind the rows: E[v | x], or draws given x; see `Family.impute`."""
        seen, spread = self._seen(x), self._spread(x)
        k, d = self.mean.shape
        if key is None:
            centres = jnp.broadcast_to(self.mean[:, None], (k, len(share), d))
        else:
            # a draw of v and of the noise, moved by what the row says: the conditional law
            own, other = jax.random.split(key)
            drawn = self.inner.sample(own, jnp.argmax(share, axis=1))
            seen = replace(seen, value=seen.value - seen.draw(other))
            centres = jnp.broadcast_to(drawn, (k, *drawn.shape))

        def one(total: Array, component: tuple[Array, Array, Array]) -> tuple[Array, None]:
            own, centre, part = component
            return total + part[:, None] * (centre + pulls(centre, own, seen)), None

        return jax.lax.scan(one, jnp.zeros_like(centres[0]), (spread, centres, share.T))[0]

    @classmethod
    def initial(
        cls, x: dict[str, Array], plan: Float[Array, "n k"], inner: Any = None, **_: Any
    ) -> "Noisy":
        """As the inner family's, of the vectors that the rows tell of."""
        seen = Seen.of(x, inner.missing)
        weight = jnp.sum(plan, axis=1)
        centre, variance = spread_out(seen, weight)
        means = located(seen, plan, centre, variance)
        share = safe_divide(plan, weight[:, None])
        # a row without a component tells of no vector: the centre will do
        middle = jnp.where(weight[:, None] > 0, matmul(share, means), centre)
        law = inner.initial(lifted(seen, middle, variance), plan)
        return cls(law, least_noise(seen, weight))

    @classmethod
    def embed(cls, x: Any, inner: Any, **_: Any) -> Float[Array, "n d"]:
        """What rows tell of their vectors: the noisier a row, the nearer to the centre."""
        seen = Seen.of(jax.tree.map(jnp.asarray, x), inner.missing)
        centre, variance = spread_out(seen, jnp.ones_like(seen.value[:, 0]))
        return lifted(seen, centre, variance)

    @classmethod
    def frame(
        cls, x: Any, weight: Any, begins: Any = None, inner: Any = None, **_: Any
    ) -> "Measured":
        """The inner family's, of the vectors."""
        if "projection" not in x:
            frame = inner.frame(x["x"], weight, begins)
            return Measured(frame.origin, frame.unit, getattr(frame, "share", None))
        told = np.asarray(x["projection"])
        value = np.asarray(x["x"])
        there = ~np.isnan(value)
        told = np.where(there[:, :, None], told, 0)
        # the shortest vectors that these cells could be of
        least = (np.linalg.pinv(told) @ np.where(there, value, 0)[..., None])[..., 0]
        frame = inner.frame(least, weight, begins)
        return Measured(frame.origin, frame.unit, projected=True)

    @classmethod
    def reals(cls, x: Any, **options: Any) -> Any:
        """All cells are numbers."""
        del options
        return {n: leaf if leaf.dtype.kind == "f" else leaf.astype(float) for n, leaf in x.items()}

    @classmethod
    def check(cls, x: Any, **options: Any) -> None:
        """Rows with noise that has a covariance.

        Raises:
            ValueError: for others, naming the row.
        """
        del options
        check_noise_shapes(x)
        check_noise(x)

    @classmethod
    def least(cls, dtype: Any, inner: Any = None, **_: Any) -> Prior | None:
        """The inner family's."""
        return inner.least(dtype)

    @classmethod
    def weak_prior(cls, variance: Any, strength: Array, inner: Any = None, **_: Any) -> Any:
        """The inner family's; of vectors behind a projection the frame's unit is all there is."""
        if "projection" not in variance:
            return inner.weak_prior(variance["x"], strength)
        ones = jnp.ones(variance["projection"].shape[-1], variance["projection"].dtype)
        return Prior(covariance=Ridge(strength, ones / 16))

    @classmethod
    def examples(cls) -> dict[str, "Noisy"]:
        """One of each way to take noise off."""
        every = Gaussian.examples()
        return {name: cls(every[name]) for name in ("full", "diagonal")}

"""Mixtures of regressions: a response whose law depends on features by a linear predictor.

    eta_ij = features_i . b_j + shared_i . c + offset_i        C_ij = -log p(y_i | eta_ij, phi_j)

A response says its law, the start of a fit and a draw (`responses`); the M-step follows.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.numerics import einsum, matmul, safe_divide
from ..core.tree import replace
from ..priors import Prior
from .chance import by_chance, log_ball
from .coordinates import Frame, Identity, learned
from .design import Standardised, check_columns, real_columns
from .family import Description, Family
from .frozen import Frozen
from .least_squares import NormalEquations, Slopes

LONGEST = 2.0
"""How far a step moves the logarithm of a dispersion parameter at most: a factor of e^2."""
REACH = 3.0
"""Standard deviations of the predictor's change over rows that a step counts with.

With R the largest change, the fraction log(1 + R) / R of Newton's step surely lowers a cost whose
third derivative in the predictor is at most the second, as of logarithmic and logistic links.
"""


class Regression(Family):
    """K regressions of one response law.

    Rows are a dict: `features` [n, p] and the response `y` [n]; where there are, `shared` [n, s]
    features whose effects all components have in common, an `offset` [n] of the predictor, and for
    a binomial response the `trials` [n].
    """

    coefficients: Any
    shared: Any
    table = False
    dispersion: ClassVar[str] = ""
    """The field of a parameter beside the predictor; learned, unless `of` fixes it."""
    tied: ClassVar[bool] = False
    """Whether all components share the dispersion parameter."""
    power: ClassVar[int] = 0
    """The power of that parameter by which the predictor's share of the cost is multiplied; 0 also
    where it is not, and the cross derivative is 0 on average."""
    residual: ClassVar[bool] = False
    """Whether the response is real, and the expected cost quadratic in the coefficients."""

    @classmethod
    def of(cls, **fixed: float) -> Description:
        """The family, its dispersion parameter learned, or fixed where a number is given.

        Raises:
            TypeError: for another name.
            ValueError: for a number that is not positive.
        """
        for name, value in fixed.items():
            if name != cls.dispersion:
                known = cls.dispersion or "none"
                raise TypeError(f"{cls.__name__} has no option {name!r}; it has {known}")
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a number > 0, not {value}")
        return Description(cls, tuple((name, float(value)) for name, value in fixed.items()))

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        """-log p(y | eta), entry by entry, +inf off the support."""
        raise NotImplementedError

    @staticmethod
    def response(eta: Array, trials: Array) -> Array:
        """The mean of y."""
        raise NotImplementedError

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        """The response on the scale of the predictor, and the weights for a start."""
        raise NotImplementedError

    @staticmethod
    def first(y: Array, eta: Array, weight: Array) -> Any:
        """The dispersion parameter for a start."""
        raise NotImplementedError

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        """One response for each predictor [n]."""
        raise NotImplementedError

    @staticmethod
    def refuse(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, str]:
        """Which responses are off the support, and what they should be."""
        raise NotImplementedError

    @property
    def spread(self) -> Array | None:
        """[k] the standard deviation of the response on the scale of the predictor, where the
        likelihood has no bound as it goes to 0; else None.
        """
        return None

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """All fields."""
        return frozenset(field.name for field in learned(self))

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Of a real response, unless components share effects and not their deviation."""
        return self.residual and self.shared.shape[-1] == 0

    @property
    def _dispersion(self) -> Any:
        return getattr(self, self.dispersion) if self.dispersion else None

    def predictor(self, x: dict[str, Array]) -> Float[Array, "n k"]:
        """eta: features . b + shared . c + offset.

        Raises:
            ValueError: at trace time, for another number of features.
        """
        eta = matmul(self._design(x, "features"), self.coefficients.T)
        if self.shared.shape[-1]:
            eta += matmul(self._design(x, "shared"), self.shared)[:, None]
        if "offset" in x:
            eta += x["offset"].astype(eta.dtype)[:, None]
        return eta

    def _design(self, x: dict[str, Array], name: str) -> Array:
        wanted = (self.coefficients if name == "features" else self.shared).shape[-1]
        if name not in x or x[name].ndim != 2 or x[name].shape[-1] != wanted:
            have = f"shape {x[name].shape}" if name in x else f"columns {sorted(x)}"
            raise ValueError(f"the rows need {name!r} of shape (n, {wanted}), and have {have}")
        return x[name].astype(self.coefficients.dtype)

    def _observed(self, x: dict[str, Array]) -> tuple[Array, Array]:
        y = x["y"].astype(self.coefficients.dtype)
        return y[:, None], _trials(x, y)[:, None]

    def cost(self, x: dict[str, Array]) -> Float[Array, "n k"]:
        """C_ij = -log p(y_i | eta_ij), in nats."""
        y, trials = self._observed(x)
        return self.law(y, self.predictor(x), self._dispersion, trials)

    def expected(self, x: Any) -> Float[Array, "n k"]:
        """The mean response of each component, given features; `y` is not read."""
        x = {name: jnp.asarray(leaf) for name, leaf in x.items()}
        eta = self.predictor(x)
        return self.response(eta, _trials(x, eta[:, 0])[:, None])

    def statistics(self, x: dict[str, Array], plan: Float[Array, "n k"]) -> Slopes:
        """Derivatives of the expected cost, at the current parameters."""
        y, trials = self._observed(x)
        present = plan > 0

        def total(eta: Array, z: Array) -> Array:
            moved = self._dispersion * jnp.exp(z) if self.dispersion else None
            return jnp.where(present, self.law(y, eta, moved, trials), 0)

        eta = self.predictor(x)
        z = jnp.zeros_like(plan)
        ones = jnp.ones_like(eta)

        def slopes(of: Any, at: Array) -> tuple[Array, Array]:
            # entry by entry: the gradient of the sum, and its derivative along ones
            return jax.jvp(jax.grad(lambda a: jnp.sum(of(a))), (at,), (ones,))

        first, second = slopes(lambda e: total(e, z), eta)
        first, second = (jnp.where(present, plan * d, 0) for d in (first, second))
        design = self._design(x, "features")
        if self.shared.shape[-1]:
            design = jnp.concatenate([design, self._design(x, "shared")], axis=1)
        gradient = matmul(first.T, design)
        gram = einsum("nk,na,nb->kab", second, design, design)
        curvature = jnp.sum(second, axis=0)
        slope, bend = self._dispersion_slopes(slopes, total, y, eta, plan)
        return Slopes(NormalEquations(gradient, gram), curvature, slope, bend)

    def _dispersion_slopes(
        self, slopes: Any, total: Any, y: Array, eta: Array, plan: Array
    ) -> tuple[Array, Array]:
        """Sums over rows in the logarithm of the dispersion parameter."""
        del y
        if not self.dispersion:
            return jnp.zeros_like(plan[0]), jnp.zeros_like(plan[0])
        found = slopes(lambda z: total(eta, z), jnp.zeros_like(eta))
        first, second = (jnp.sum(jnp.where(plan > 0, plan * d, 0), axis=0) for d in found)
        return first, second

    def maximize(
        self,
        statistics: Slopes,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> Any:
        """Least squares of a real response; else one shortened step of Newton's method.

        Source: Sun and Tran-Dinh (2019), Mathematical Programming 178, eq. (31), for the step.
        """
        equations, p = statistics.equations, self.coefficients.shape[-1]
        held_parts = ("coefficients" in held, "shared" in held)
        own, common = equations.solve(p, held_parts)
        whole = jnp.concatenate([own, jnp.broadcast_to(common, (len(own), len(common)))], axis=1)
        if not self.residual:
            # the root mean square change of the predictor, as the rows' curvature weighs it
            square = safe_divide(equations.length(whole), statistics.curvature)
            reach = REACH * jnp.sqrt(jnp.maximum(square, jnp.finfo(mass.dtype).tiny))
            shorter = jnp.log1p(reach) / reach
            # where responses are certain to rounding, as of separated ones, nothing is to be won
            certain = statistics.curvature <= 16 * jnp.finfo(mass.dtype).eps * mass
            alone = jnp.where(certain, 0, shorter)[:, None]
            whole *= jnp.min(jnp.where(certain, 1, shorter)) if len(common) else alone
        new = replace(self, coefficients=self.coefficients + whole[:, :p])
        if len(common):
            new = replace(new, shared=self.shared + whole[0, p:])
        if not self.dispersion or self.dispersion in held:
            return new
        moved = self._next_dispersion(statistics, mass, equations.change(whole), prior)
        return replace(new, **{self.dispersion: moved})

    def expected_cost(self, statistics: Slopes, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; what touches it."""
        return statistics.along(*self._step(mass, at), mass if self.residual else None)

    def recentred(self, statistics: Slopes, mass: Float[Array, " k"], onto: Any) -> Slopes:
        """See `Pivots.recentred`; exact of a real response."""
        return statistics.moved(*self._step(mass, onto), self.power, self.residual)

    def _step(self, mass: Array, onto: Any) -> tuple[Float[Array, "k q"], Float[Array, " k"]]:
        shared = jnp.broadcast_to(onto.shared - self.shared, (len(mass), self.shared.shape[-1]))
        step = jnp.concatenate([onto.coefficients - self.coefficients, shared], axis=1)
        ratio = onto._dispersion / self._dispersion if self.dispersion else jnp.ones_like(mass)
        ratio = jnp.broadcast_to(ratio, mass.shape)
        # an absent component may hold anything
        return jnp.where(mass[:, None] > 0, step, 0), jnp.where(mass > 0, ratio, 1)

    def _next_dispersion(
        self, statistics: Slopes, mass: Array, change: Array, prior: Prior | None
    ) -> Array:
        """A step of Newton's method in the logarithm, if need be uphill and shortened."""
        del mass, change, prior
        steep = jnp.abs(statistics.slope) / LONGEST
        step = -safe_divide(statistics.slope, jnp.maximum(jnp.abs(statistics.bend), steep))
        return self._dispersion * jnp.exp(step)

    @classmethod
    def initial(cls, x: dict[str, Array], plan: Float[Array, "n k"], **fixed: float) -> Any:
        """Least squares of the response on the scale of the predictor, drawn a little to all rows.

        A dispersion parameter starts as that of all components together.
        """
        dtype = plan.dtype
        y, features = x["y"].astype(dtype), x["features"].astype(dtype)
        trials, p = _trials(x, y), features.shape[1]
        target, weight = cls.working(y, trials)
        target -= x["offset"].astype(dtype) if "offset" in x else 0
        parts = [features, x["shared"].astype(dtype)] if "shared" in x else [features]
        design, row = jnp.concatenate(parts, axis=1), jnp.sum(plan, axis=1)
        # as many rows as there are coefficients, spread as all rows are
        drawn = p * jnp.sum(row**2)
        share = (plan + drawn * row[:, None]) * weight[:, None]
        right = einsum("nk,n,na->ka", share, target, design)
        gram = einsum("nk,na,nb->kab", share, design, design)
        own, common = NormalEquations(-right, gram).solve(p)
        blank = jnp.ones(() if cls.tied else plan.shape[1], dtype)
        made: Any = cls
        start = made(own, common, *[blank] * bool(cls.dispersion))
        if not cls.dispersion:
            return start
        given = fixed.get(cls.dispersion)
        if given is None:
            given = cls.first(y[:, None], start.predictor(x), plan)
        found = jnp.full_like(start._dispersion, given)
        start = replace(start, **{cls.dispersion: found})
        return Frozen(start, cls.dispersion) if fixed else start

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> dict[str, Array]:
        """Rows with responses drawn from component labels_i, given features, offset and trials.

        Without `given`, the first feature is 1 and the others standard normal, of 10 trials.
        """
        design, noise = jax.random.split(key)
        rows = self._made_up(design, labels) if given is None else dict(given)
        rows = {name: jnp.asarray(leaf) for name, leaf in rows.items()}
        own = jnp.take_along_axis(self.predictor(rows), labels[:, None], axis=1)[:, 0]
        phi = self._dispersion
        phi = jnp.broadcast_to(phi, (self.n_components,))[labels] if self.dispersion else None
        return rows | {"y": self.draw(noise, own, phi, _trials(rows, own)).astype(own.dtype)}

    def _made_up(self, key: PRNGKeyArray, labels: Array) -> dict[str, Array]:
        n, p, s = len(labels), self.coefficients.shape[-1], self.shared.shape[-1]
        drawn = jax.random.normal(key, (n, p + s), self.coefficients.dtype)
        rows = {"features": drawn[:, :p].at[:, 0].set(1)}
        return rows | ({"shared": drawn[:, p:]} if s else {})

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """Components on the floor; and narrow ones through about as many rows as coefficients.

        A band holds at most as many of the others' rows as if all lay about the same line.
        """
        if prior is None or prior.floor is None or self.spread is None:
            return jnp.zeros(self.n_components, bool)
        present = weights > 0
        spread = jnp.where(present, self.spread, 1)
        tight = jnp.sum(jnp.where(present, weights * spread**2, 0)) > 101 * spread**2
        # as if all lay about one line: no two are farther apart than that
        costs = jnp.broadcast_to(jnp.log(spread) + 0.5 * math.log(2 * math.pi), (len(spread),) * 2)
        volume = log_ball(1) + jnp.log(spread)
        chance = by_chance(weights, costs, volume, self.coefficients.shape[-1], n_rows)
        held = spread**2 <= 1.01 * jnp.max(prior.floor)
        return present & (held | (tight & chance))

    @classmethod
    def least(cls, dtype: Any, **options: Any) -> Prior:
        """A floor of the squared spread, at the rounding of responses of order one."""
        del options
        return Prior(floor=jnp.asarray((4 * jnp.finfo(dtype).eps) ** 2, dtype))

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, **options: Any) -> Standardised:
        """Features without correlation; a real response about its common fit."""
        del options
        return Standardised.of(x, weight, begins, cls.residual)

    def out_of(self, frame: Frame) -> Any:
        """See `Family.out_of`."""
        if isinstance(frame, Identity):
            return self
        if not isinstance(frame, Standardised):
            raise TypeError(
                f"{type(self).__name__} is closed under linear frames of features alone"
            )
        unit = frame.columns
        own = unit * matmul(self.coefficients, frame.features.T)
        shared = self.shared if frame.shared is None else unit * matmul(frame.shared, self.shared)
        if frame.origin is None:
            return replace(self, coefficients=own, shared=shared)
        deviation = {self.dispersion: unit * self._dispersion}
        return replace(self, coefficients=own + frame.origin, shared=shared, **deviation)

    @classmethod
    def embed(cls, x: Any, **options: Any) -> Float[Array, "n e"]:
        """Features and response, and what each row says of the coefficients of a common fit."""
        del options
        real = {name: jnp.asarray(leaf).astype(float) for name, leaf in x.items()}
        y, features = real["y"], real["features"]
        target, weight = cls.working(y, _trials(real, y))
        target = target - real.get("offset", 0)
        parts = [features, *([real["shared"]] if "shared" in real else [])]
        design = jnp.concatenate(parts, axis=1)
        gram = einsum("n,na,nb->ab", weight, design, design)
        right = einsum("n,n,na->a", weight, target, design)
        common = NormalEquations(-right[None], gram[None]).solve(design.shape[1])[0][0]
        left = (target - matmul(design, common)) * jnp.sqrt(weight)
        return jnp.concatenate([features, target[:, None], left[:, None] * features], axis=1)

    @classmethod
    def reals(cls, x: Any, **options: Any) -> Any:
        """All columns are numbers."""
        del options
        return real_columns(x)

    @classmethod
    def check(cls, x: Any, **options: Any) -> None:
        """The columns there should be, of the right shapes, and responses on the support.

        Raises:
            ValueError: for others, naming the row; for features that follow from others.
        """
        del options
        check_columns(x, cls.__name__)
        y = np.asarray(x["y"])
        trials = np.asarray(x.get("trials", np.ones(len(y))))
        bad, wanted = cls.refuse(y, trials)
        if bad.any():
            row = int(np.argmax(bad))
            of = f" of {trials[row]} trials" if "trials" in x else ""
            raise ValueError(
                f"{cls.__name__} needs responses that are {wanted}; row {row}, column 'y' holds "
                f"{y[row]}{of}"
            )


def _trials(x: dict[str, Array], like: Array) -> Array:
    """[n] the trials; 1 where they are not given."""
    return x["trials"].astype(like.dtype) if "trials" in x else jnp.ones_like(like)

"""Every row of docs/inputs.md, by its number, at every face that it concerns."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from fuzz import Fuzzer
from helpers import assert_same_mixture
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import otmix_jax as om
from otmix_jax.engine import Dense, Engine, Reference, Tiled
from otmix_jax.families import Full, Gaussian
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed

# without the suite's own type checks, as users call them
fit, fit_batch, select, plan, certificate, likelihood = map(
    inspect.unwrap,
    (om.fit, om.fit_batch, om.select, om.plan, om.certificate, om.negative_log_likelihood),
)
FEW: dict[str, Any] = {"starts": om.Starts(n_init=1)}
LIMITS = om.Limits(tolerance=1e-8)
DTYPES = (np.float64, np.float32)
LABELS = np.repeat([0, 1], 30)


def two_groups() -> np.ndarray:
    """Thirty rows about (0, 0), and thirty about (4, 3), which every fit below finds."""
    x = np.random.default_rng(0).normal(size=(60, 2)) @ [[1.0, 0.4], [0.0, 0.6]]
    return x + LABELS[:, None] * [4.0, 3.0]


X = two_groups()
WEIGHT = np.linspace(0.5, 1.5, 60)


def gaussians(mean=((0.0, 0.0), (4.0, 3.0)), factor=None, weights=(0.5, 0.5)) -> om.Mixture:
    """A start near the groups; or one with something wrong in it."""
    mean = np.asarray(mean, float)
    factor = np.stack([np.eye(mean.shape[1])] * 2) if factor is None else factor
    with np.errstate(divide="ignore", invalid="ignore"):
        log_weights = np.log(np.asarray(weights, float))
    components = Gaussian(jnp.asarray(mean), Full(jnp.asarray(factor, float)))
    return om.Mixture(jnp.asarray(log_weights), components)


START = gaussians()


# faces: rows, K and options in, one answer out


def by_fit(x, k=2, **options):
    return fit(x, k, key=0, **{**FEW, **options})


def by_batch(x, k=2, sample_weight=None, **options):
    weights = None if sample_weight is None else [sample_weight]
    return fit_batch([x], k, key=0, sample_weight=weights, **{**FEW, **options})[0]


def by_select(x, k=2, **options):
    return select(x, [k], key=0, **{"covariance": "full", **FEW, **options}).best


def by_solve(x, start=START, limits=LIMITS, sample_weight=None, **options):
    problem = om.Problem(x, sample_weight, **options)
    return om.solve(problem, start, tolerance=limits.tolerance, max_steps=limits.max_steps)


FACES = {"fit": by_fit, "batch": by_batch, "select": by_select, "solve": by_solve}
FITS = ["fit", "batch", "select"]
EVERYWHERE = [*FITS, "solve"]
SCORES: dict[str, Callable[..., Any]] = {
    "log_prob": lambda x, m=START: m.log_prob(x),
    "responsibilities": lambda x, m=START: m.responsibilities(x),
    "predict": lambda x, m=START: m.predict(x),
    "negative_log_likelihood": lambda x, m=START: likelihood(m, x),
    "plan": lambda x, m=START: plan(m, x).value,
}


# outcomes


def is_finite(mixture: om.Mixture) -> bool:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mixture.components)]
    return (
        all(np.isfinite(leaf).all() for leaf in leaves) and not np.isnan(mixture.log_weights).any()
    )


@dataclasses.dataclass(frozen=True)
class Raises:
    """An error with these words; a `FitError` holds finite parameters."""

    words: str
    kind: type[Exception] = ValueError

    def check(self, call: Callable[[], Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with pytest.raises(self.kind, match=self.words) as caught:
                call()
        if isinstance(caught.value, om.FitError):
            assert is_finite(caught.value.solution.mixture)


@dataclasses.dataclass(frozen=True)
class Ends:
    """One of these statuses, finite parameters, and warnings with these words, or none at all."""

    status: str
    warns: str = ""
    finite: bool = True

    def check(self, call: Callable[[], Any]) -> Any:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            answer = call()
        said = " ".join(str(one.message) for one in heard)
        assert om.Status(int(answer.status)).name in self.status.split("|"), said
        assert is_finite(answer.mixture) == self.finite
        assert all(issubclass(one.category, UserWarning) for one in heard), said
        assert re.search(self.warns, said) if self.warns else not said, said
        return answer


def bad(status: str, words: str = "") -> Ends:
    """A status that `fit` warns of by name, with its remedy."""
    return Ends(status, f"{status}.*{words}")


FINE = Ends("CONVERGED")
UNREAD = Ends("NON_FINITE", "1 NON_FINITE; the first is problem 0", finite=False)
UNFITTED = Ends("EMPTY_COMPONENT", "1 EMPTY_COMPONENT; the first is problem 0", finite=False)
LOST = Raises("COLLAPSED in every candidate", om.FitError)

CASES: list = []


def known(reason: str) -> Any:
    """Marks where the package falls short of the page; fails once it no longer does."""
    return pytest.mark.xfail(strict=True, reason=reason)


def case(name: str, x: Any, faces: str, outcome: Any, marks: Any = (), **options: Any) -> None:
    """One input at several faces; `marks` says that the package falls short of it."""
    for face in faces.split():
        values = (face, x, outcome, options)
        CASES.append(pytest.param(*values, id=f"{name}-{face}", marks=marks))


def typed(name: str, x: np.ndarray, faces: str, outcome: Any, **options: Any) -> None:
    """The same in both precisions; a fit that goes well compiles anew for the second."""
    for dtype in DTYPES:
        twice = dtype == np.float32 and not isinstance(outcome, Raises)
        marks = pytest.mark.slow if twice else ()
        case(f"{name}-{np.dtype(dtype)}", x.astype(dtype), faces, outcome, marks, **options)


def changed(value: float, row: int = 4, column: Any = 1) -> np.ndarray:
    """The rows with another number in one cell."""
    x = X.copy()
    x[row, column] = value
    return x


for value in (np.nan, np.inf, -np.inf):
    words = "x holds 1 NaN or infinite cells, the first at row 4, column 1; drop or impute"
    typed(f"01-{value}", changed(value), "fit select", Raises(words))
    typed(f"01-{value}", changed(value), "batch", UNREAD)
    typed(f"01-{value}", changed(value), "solve", Ends("NON_FINITE"))

HOLES = np.where(np.random.default_rng(2).random((60, 2)) < 0.1, np.nan, X)
HOLES[7] = np.nan
typed("48-missing", HOLES, "fit batch select", FINE, missing="ignore")
NOTHING = Raises("all cells of x are missing: column 1; leave that column out")
case("48-no-column", X * [1, np.nan], "fit select", NOTHING, missing="ignore")
case("48-no-column", X * [1, np.nan], "batch", UNREAD, missing="ignore")
INFINITE = Raises("1 infinite cells, the first at row 4, column 1; where that means missing")
case("48-infinity", changed(np.inf), "fit select", INFINITE, missing="ignore")
case("48-infinity", changed(np.inf), "batch", UNREAD, missing="ignore")

for name, x, words in (
    ("no-columns", X[:, :0], "empty|60, 0|0 columns"),
    ("vector", X[:, 0], r"x\[(0\]\[)?:, None\]"),
    ("three-axes", X[None], r"\(n, d\).*shape \(1, 60, 2\)"),
    ("scalar", 3.0, r"\(n, d\).*shape \(\)"),
    ("none", None, "real numbers.*not None"),
    ("ragged", [[1.0], [1.0, 2.0]], "ragged"),
    ("dict", {"a": X[:, 0]}, r"a dict of \['a'\]"),
    ("set", {1, 2}, "not a set"),
    ("generator", iter(X), "make it a list"),
):
    case(f"02-{name}", x, "fit batch select solve", Raises(words))
case("02-no-rows", X[:0], "fit select", Raises("x is empty"))
case("02-no-rows", X[:0], "batch", UNFITTED)
case("02-no-rows", X[:0], "solve", Ends("EMPTY_COMPONENT"))

case("03-n-below-K", X[:1], "fit select", Raises("n_components=2 exceeds the 1 rows"))
case("03-n-below-K", X[:1], "batch", UNFITTED)
case("03-n-below-K", X[:1], "solve", Ends("COLLAPSED"))

case("04-n-equals-K", X[:2], "solve", Ends("COLLAPSED"))
case("04-n-equals-K", X[:3], "fit", bad("COLLAPSED", "fewer components"), k=3)
case("04-two-rows", X[:2], "fit", Ends("COLLAPSED", "^COLLAPSED"))

WIDE = np.random.default_rng(1).normal(size=(4, 6))
case("05-n-below-d", WIDE, "fit", bad("COLLAPSED", "simpler covariance"), k=1)

case("05-n-below-d", WIDE, "solve", Ends("COLLAPSED"), start=gaussians(np.eye(2, 6)))

SAME = np.full((60, 2), 1.5)
typed("06-identical-K1", SAME, "fit", bad("COLLAPSED", "equal values"), k=1)
case("06-identical-K1", SAME, "batch", bad("COLLAPSED", "equal values"), k=1)
typed("06-identical-K3", SAME, "fit", bad("EMPTY_COMPONENT", "lower n_components"), k=3)
case("06-identical-K3", SAME, "batch", bad("EMPTY_COMPONENT", "lower n_components"), k=3)
typed("06-identical-K2", SAME, "solve", Ends("COLLAPSED|EMPTY_COMPONENT"))
case("06-identical-K2", SAME, "select", LOST)

PAIR = np.repeat([[0.5, 0.25], [1.0, 2.0]], 30, axis=0)
typed("07-two-distinct-K3", PAIR, "fit", bad("EMPTY_COMPONENT", "lower n_components"), k=3)
case("07-two-distinct-K3", PAIR, "batch", bad("EMPTY_COMPONENT", "lower n_components"), k=3)
case("07-names-the-empty", PAIR, "fit", bad("EMPTY_COMPONENT", "Component 2"), k=3)
typed("07-two-distinct-K2", PAIR, "solve", Ends("COLLAPSED|EMPTY_COMPONENT"))

SUM = np.c_[X, X @ [1.0, 2.0] + 3]
for name, column, words in (
    ("constant", np.full(60, 7.0), "is constant"),
    ("two-values", LABELS, "takes two values only"),
    ("collinear", SUM[:, 2], "follows from 0, 1"),
):
    left_out = Ends("CONVERGED", f"column 2 {words}: left out of the fit")
    typed(f"09-{name}", np.c_[X, column], "fit", left_out)
    case(f"09-{name}", np.c_[X, column], "batch select", left_out)
case("09-collinear", SUM, "solve", Ends("COLLAPSED"), start=gaussians([[0, 0, 3], [4, 3, 13]]))

LINE = X[:, :1] * [1.0, 2.0]
PLAIN = om.Goal(ridge=0.0)
case("10-no-ridge", LINE, "fit", Raises("COLLAPSED in every.*ridge", om.FitError), goal=PLAIN)
case("10-no-ridge", LINE, "batch", bad("COLLAPSED", "simpler covariance"), goal=PLAIN)
case("10-no-ridge", LINE, "select", LOST, goal=PLAIN)
case("10-no-ridge", LINE, "solve", Ends("COLLAPSED"))

typed("16-far-outlier", changed(1e6), "solve", Ends("COLLAPSED"))
typed("16-far-outlier", changed(1e6), "fit batch", bad("COLLAPSED", "fewer components"))
case("16-far-outlier-1e150", changed(1e150), "fit batch", bad("COLLAPSED", "fewer components"))

FAR = changed(1e6, column=slice(None)).astype(np.float32)
case("16-far-row-float32", FAR, "fit", Ends("COLLAPSED", "^COLLAPSED"))

for name, x, words in (
    ("18-complex", X + 1j, "real and imaginary parts"),
    ("18-strings", np.array([["a", "b"]] * 60), "code categories by rows.codes"),
    ("18-objects", np.array([["a", 1.0]] * 60, object), "such as 'a' among them"),
    ("19-numeric-strings", X.astype(str), "cast strings of digits"),
    ("19-dates", np.zeros((60, 2), "datetime64[s]"), "subtract an origin"),
    ("20-masked", np.ma.masked_array(X, X[3, 1] == X), "1 masked cells, the first at row 3, col"),
):
    case(name, x, "fit batch select solve", Raises(words))
SPARSE = scipy.sparse.csr_array(X)
case("21-sparse", SPARSE, "fit batch select solve", Raises(r"x\.toarray\(\)", TypeError))

for name, k, words in (
    ("zero", 0, "must be >= 1, not 0"),
    ("negative", -1, "must be >= 1, not -1"),
    ("float", 2.0, "pass 2, not 2.0"),
    ("string", "2", "an integer >= 1, such as 3, not '2'"),
    ("true", True, "an integer >= 1, such as 3, not True"),
    ("none", None, "an integer >= 1, such as 3, not None"),
):
    case(f"25-K-{name}", X, "fit batch select", Raises(words), k=k)
case("26-forty-of-sixty-rows", X, "fit", bad("COLLAPSED", "fewer components"), k=40)


def option(kind: type, **values: Any) -> Any:
    """Options without the suite's own type checks."""
    instance = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(instance, field.name, values.get(field.name, field.default))
    return instance


for name, limits, words in (
    ("tolerance-nan", om.Limits(np.nan), "tolerance must be a finite number >= 0, not nan"),
    ("tolerance-negative", om.Limits(-1.0), "tolerance must be a finite number >= 0, not -1.0"),
    ("tolerance-inf", om.Limits(np.inf), "tolerance must be a finite number >= 0, not inf"),
    ("max-steps-negative", om.Limits(1e-8, -1), "max_steps must be >= 0, not -1"),
):
    case(f"28-{name}", X, "fit batch select", Raises(words), limits=limits)
    if name in ("tolerance-nan", "tolerance-negative"):
        case(f"28-{name}", X, "solve", Ends("STALLED"), limits=limits)
for ridge in (np.nan, np.inf, -1.0):
    words = f"ridge must be a finite number >= 0, not {ridge}"
    case(f"28-ridge-{ridge}", X, "fit batch select", Raises(words), goal=om.Goal(ridge=ridge))

typed("29-tolerance-0", X, "fit batch", bad("STALLED", "raise tolerance"), limits=om.Limits(0.0))
typed("29-tolerance-0", X, "solve", Ends("STALLED"), limits=om.Limits(0.0))
for steps in (0, 1):
    limits = om.Limits(1e-8, steps)
    typed(f"29-{steps}-steps", X, "fit batch", bad("MAX_STEPS", "raise max_steps"), limits=limits)
    typed(f"29-{steps}-steps", X, "solve", Ends("MAX_STEPS"), limits=limits)
    case(f"29-{steps}-steps", X, "select", Ends("MAX_STEPS"), limits=limits)

for epsilon in (-1.0, np.nan, np.inf):
    goal = option(om.Goal, epsilon=epsilon)
    words = f"epsilon must be a finite number >= 0, not {epsilon}"
    case(f"30-epsilon-{epsilon}", X, "fit batch select", Raises(words), goal=goal)
    case(f"30-epsilon-{epsilon}", X, "solve", Ends("NON_FINITE"), epsilon=epsilon)
for epsilon in (0.0, 1e-30):
    case(f"30-epsilon-{epsilon}", X, "fit", FINE, goal=om.Goal(epsilon=epsilon))
    case(f"30-epsilon-{epsilon}", X, "solve", FINE, epsilon=epsilon)
apart = Ends("CONVERGED", r"epsilon=1e\+30 > 1 .*draws components together")
case("30-epsilon-1e30", X, "fit", apart, goal=om.Goal(epsilon=1e30))
case("30-epsilon-1e30", X, "solve", FINE, epsilon=1e30)
for coupling in (Balanced(), Penalized(1.0)):
    goal, name = om.Goal(epsilon=0.0, coupling=coupling), type(coupling).__name__
    case(f"30-hard-{name}", X, "fit batch select", Raises("epsilon=0.*small epsilon"), goal=goal)

for rho in (-1.0, np.nan):
    goal = om.Goal(coupling=option(Penalized, rho=rho))
    words = f"rho must be a.* number >= 0, not {rho}"
    case(f"31-rho-{rho}", X, "fit batch select", Raises(words), goal=goal)
    case(f"31-rho-{rho}", X, "solve", Ends("NON_FINITE"), coupling=goal.coupling)
goal = om.Goal(coupling=Penalized(np.inf))
case("31-rho-inf", X, "fit batch select", Raises("rho must be a finite number"), goal=goal)
for rho in (0.0, 1e-30, 1e30, np.inf):
    case(f"31-rho-{rho}", X, "solve", FINE, coupling=Penalized(rho))

STARTS = {
    "32-negative": (gaussians(weights=[-0.5, 1.5]), "proportions.*>= 0 and of sum 1"),
    "32-sum-2": (gaussians(weights=[1, 1]), r"proportions \[1. 1.\].*of sum 1.*from_weights"),
    "32-zero-sum": (gaussians(weights=[0, 0]), r"proportions \[0. 0.\].*of sum 1"),
    "32-wrong-length": (gaussians(weights=[0.2, 0.3, 0.5]), "initial.* 3"),
    "34-shape": (gaussians([[0, 0, 0], [1, 1, 1]], np.stack([np.eye(2)] * 2)), r"\(2, 3\)"),
    "34-nan": (gaussians([[0, 0], [np.nan, 0]]), "mean of component 1 must be finite"),
    "36-not-definite": (gaussians(factor=[[[1, 0], [0, 1]], [[1, 0], [2, 0]]]), "component 1.*def"),
    "36-a-matrix": (gaussians(factor=[[[1, 0.5], [0.2, 1]], [[1, 0], [0, 1]]]), "lower-triangular"),
}
for name, (start, words) in STARTS.items():
    case(name, X, "fit", Raises(words), starts=om.Starts(initial=start))
    case(name, X, "select", Raises(words), starts=om.Starts(initial=[start]))
for name in ("32-negative", "34-nan", "36-not-definite"):
    finite = name == "36-not-definite"
    start = STARTS[name][0]
    case(name, X, "solve", Ends("NON_FINITE", finite=finite), start=start)
case("32-zero-sum", X, "solve", Ends("NON_FINITE"), start=STARTS["32-zero-sum"][0])
short = known("it ends as STALLED, above the optimum")
case("32-sum-2", X, "solve", Ends("CONVERGED|NON_FINITE"), short, start=STARTS["32-sum-2"][0])
three = STARTS["32-wrong-length"][0]
case("32-wrong-length", X, "solve", Raises(r"shape \(3,\)"), start=three)
case("34-shape", X, "solve", Raises("2 columns, the mixture 3"), start=STARTS["34-shape"][0])

SYMMETRIC = om.Starts(initial=gaussians([[1.0, 1.0]] * 2))
case("34-identical", X, "fit", Ends("CONVERGED", "alike"), starts=SYMMETRIC)

for name, start in (
    ("33-weight-0", gaussians(weights=[1, 0])),
    ("35-far-1e6", gaussians([[0, 0], [1e6, 0]])),
    ("35-far-1e300", gaussians([[0, 0], [1e300, 0]])),
):
    empty, starts = bad("EMPTY_COMPONENT", "n_components"), om.Starts(initial=start)
    case(name, X, "fit", empty, starts=starts)
    case(name, X, "solve", Ends("EMPTY_COMPONENT"), start=start)
    leading = om.Starts(initial=jax.tree.map(lambda leaf: leaf[None], start))
    case(name, X, "batch", empty, starts=leading)

for name, weight, words in (
    ("negative", np.where(LABELS, -2.0, 1.0), r"30 are not, the first \(-2.0\) at row 30"),
    ("nan", np.where(LABELS, np.nan, 1.0), r"30 are not, the first \(nan\) at row 30"),
    ("zero", np.zeros(60), "zero for every row"),
):
    case(f"37-{name}", X, "fit select", Raises(words), sample_weight=weight)
case("37-nan", X, "batch", UNREAD, sample_weight=np.where(LABELS, np.nan, 1.0))
case("37-nan", X, "solve", Ends("NON_FINITE"), sample_weight=np.where(LABELS, np.nan, 1.0))
case("37-negative", X, "batch", UNREAD, sample_weight=-WEIGHT)
short = known("divided by their sum, they are positive")
case("37-negative", X, "solve", Ends("NON_FINITE"), short, sample_weight=-WEIGHT)
case("37-zero", X, "batch", UNFITTED, sample_weight=np.zeros(60))
case("37-zero", X, "solve", Ends("EMPTY_COMPONENT"), sample_weight=np.zeros(60))
for name, weight in (("short", np.ones(3)), ("2d", np.ones((60, 1))), ("scalar", 1.0)):
    words = "must be 60 numbers, one per row of x"
    case(f"37-{name}", X, "fit batch select", Raises(words), sample_weight=weight)
    if name != "scalar":
        case(f"37-{name}", X, "solve", Raises(words), sample_weight=weight)

alone = (np.arange(60) == 5) * 3.0
case("38-one-row-K1", X, "fit", bad("COLLAPSED"), k=1, sample_weight=alone)
case("38-one-row-K2", X, "fit select", Raises("exceeds the 1 rows"), sample_weight=alone)
case("38-one-row-K2", X, "solve", Ends("COLLAPSED"), sample_weight=alone)


def spread_out(dtype: Any, rows: str) -> np.ndarray:
    """Both signs of the largest number, in all rows or one: their distance is no number."""
    largest = np.finfo(dtype).max
    x = X.astype(dtype)
    if rows == "all":
        return (X / np.abs(X).max()).astype(dtype) * largest
    x[3] = largest * np.array([1, -1])
    return x


WIDEST = Raises("spans more than its precision holds.*rescale")
case("13-largest-float32", spread_out(np.float32, "one"), "fit select", WIDEST)
case("13-largest-float32-rows", spread_out(np.float32, "all"), "fit select", WIDEST)
case("13-largest-float64-rows", spread_out(np.float64, "all"), "fit", WIDEST)
case("13-largest-float64", spread_out(np.float64, "one"), "fit select", WIDEST)
case(
    "13-largest-float32",
    spread_out(np.float32, "one"),
    "batch",
    Ends("IMPRECISE", "1 IMPRECISE", finite=False),
)


@pytest.mark.parametrize(("face", "x", "outcome", "options"), CASES)
def test_each_input_at_each_face(face, x, outcome, options):
    """An error that says what to do, or a status with finite parameters; and `x` unchanged."""
    before = x.copy() if isinstance(x, np.ndarray) else None
    outcome.check(lambda: FACES[face](x, **options))
    if before is not None:
        np.testing.assert_array_equal(x, before)


# what must come out beside a status


def by_mean(mixture: om.Mixture) -> om.Mixture:
    """The same, components by their first mean."""
    return mixture.take(np.argsort(np.asarray(mixture.components.mean[:, 0])))


def assert_agrees(ours: Any, theirs: Any, rtol: float, unit: Any = 1.0, shift: float = 0.0) -> None:
    """Answers for rows x * unit + shift and for rows x."""
    assert int(ours.status) == int(theirs.status) == 0
    volume = np.sum(np.log(np.broadcast_to(unit, 2)))
    np.testing.assert_allclose(ours.value, theirs.value + volume, rtol=rtol, atol=rtol)
    a, b = by_mean(ours.mixture), by_mean(theirs.mixture)
    np.testing.assert_allclose(a.weights, b.weights, rtol=10 * rtol)
    mean = np.asarray(b.components.mean, float) * unit + shift
    digits = 100 * np.finfo(ours.value.dtype).eps * shift
    np.testing.assert_allclose(a.components.mean, mean, rtol=100 * rtol, atol=digits)


@pytest.fixture(scope="module", params=DTYPES, ids=["float64", "float32"])
def plain(request):
    """Each face's answer for the rows as they are, and the digits that it has."""
    x, rtol = X.astype(request.param), 1e-9 if request.param is np.float64 else 1e-4
    return {face: FACES[face](x) for face in FITS}, request.param, rtol


@pytest.mark.slow
@pytest.mark.parametrize("face", FITS)
@pytest.mark.parametrize(
    ("unit", "shift"),
    [
        pytest.param(1e-6, 0.0, id="11-scale-1e-6"),
        pytest.param(2.0**-90, 0.0, id="12-scale-1e-27"),
        pytest.param(2.0**90, 0.0, id="12-scale-1e27"),
        pytest.param(np.array([1e12, 1e-12]), 0.0, id="14-columns-1e12-1e-12"),
        pytest.param(1.0, 1e4, id="15-shift-1e4"),
    ],
)
def test_units_and_origin_do_not_matter(plain, face, unit, shift):
    answers, dtype, rtol = plain
    ours = FACES[face]((X * unit + shift).astype(dtype))
    assert_agrees(ours, answers[face], max(rtol, 1e-8 * shift), unit, shift)


@pytest.mark.parametrize("face", FITS)
@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(1e-150, id="12-scale-1e-150"),
        pytest.param(1e150, id="12-scale-1e150"),
        pytest.param(1e160, id="13-scale-1e160"),
        pytest.param(1e306, id="13-scale-1e306"),
    ],
)
def test_float64_has_the_whole_range(face, unit):
    assert_agrees(FACES[face](X * unit), FACES[face](X), 1e-9, unit)


@pytest.mark.parametrize("face", FITS)
@pytest.mark.parametrize("unit", [pytest.param(1e-42, id="12-subnormal-float32")])
def test_the_smallest_numbers(face, unit):
    """Those that have lost their digits are refused, or end with a status that says so."""
    x = (X * unit).astype(np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", om.ConvergenceWarning)
            answer = FACES[face](x)
    except (ValueError, om.FitError):
        return
    assert np.isfinite(answer.value) or not om.Status(int(answer.status)).healthy


@pytest.mark.parametrize("unit", [pytest.param(10.0**p, id=f"13-solve-1e{p}") for p in (160, -160)])
def test_where_squares_leave_the_floats_solve_has_a_status(unit):
    start = gaussians(unit * START.components.mean, unit * START.components.covariance.factor)
    Ends("CONVERGED|STALLED|COLLAPSED|NON_FINITE").check(lambda: by_solve(X * unit, start))


@pytest.mark.parametrize("face", FITS)
@pytest.mark.parametrize(
    ("shift", "wide"),
    [pytest.param(1e8, True, id="15-float64-1e8"), pytest.param(1e4, False, id="15-float32-1e4")],
)
def test_float64_rows_far_from_0(face, shift, wide):
    """Without 64 bits too they are centred in float64, and lose no digits."""
    with jax.enable_x64(wide):
        answer = FINE.check(lambda: FACES[face](X + shift))
    np.testing.assert_allclose(answer.value, by_fit(X).value, rtol=1e-5)


@pytest.mark.parametrize("face", [pytest.param(face, id=f"15-float32-1e8-{face}") for face in FITS])
def test_means_that_float32_cannot_tell(face):
    """The fit is right inside; its means, rounded, are not."""
    refused = Raises("IMPRECISE.*Subtract an offset", om.FitError)
    with jax.enable_x64(False):
        (bad("IMPRECISE") if face == "batch" else refused).check(lambda: FACES[face](X + 1e8))


LEAN = np.random.default_rng(0).normal(size=(60, 1)) + 6 * LABELS[:, None]


@pytest.mark.parametrize("offset", [pytest.param(1e5, id="15-float32-nearly-a-line")])
def test_a_healthy_value_is_that_of_the_mixture(offset):
    """Two columns a thousandth apart, one of them far off: float32 means miss the line."""
    noise = 1e-3 * np.random.default_rng(1).normal(size=(60, 1))
    x = np.c_[LEAN + offset, LEAN + noise].astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            answer = by_fit(x)
        except om.FitError:
            return
    np.testing.assert_allclose(answer.value, -answer.mixture.log_prob(x).mean(), atol=1e-2)


@pytest.mark.parametrize(
    "order",
    [pytest.param([0, 1], id="09-far-column-first"), pytest.param([1, 0], id="09-far-column-last")],
)
def test_a_column_is_found_in_any_order(order):
    """One follows from the other, which is too far off to be more exact."""
    x = np.c_[LEAN + 1.4e9, 30 * LEAN][:, order]
    Ends("CONVERGED", "column 1 follows from 0").check(lambda: by_fit(x))


@pytest.mark.parametrize("offset", [pytest.param(1e9, id="09-error-has-all-columns")])
def test_the_solution_in_an_error_has_the_columns_of_the_rows(offset):
    x = np.c_[1e-6 * X + offset, np.full(60, 7.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(om.FitError, match="IMPRECISE") as caught:
            by_fit(x)
    assert caught.value.solution.mixture.components.mean.shape == (2, 3)


@pytest.mark.parametrize("offset", [pytest.param(1e8, id="15-constant-column-without-x64")])
def test_a_constant_column_changes_no_other(offset):
    x = np.c_[X + offset, np.full(60, 7.0)]
    with jax.enable_x64(False):
        Raises("IMPRECISE", om.FitError).check(lambda: by_fit(x))


NUMBERS = {
    "float16": (np.float16, np.float64),
    "bfloat16": (ml_dtypes.bfloat16, np.float64),
    "float32": (np.float32, np.float32),
    "longdouble": (np.longdouble, np.float64),
    "int8": (np.int8, np.float64),
    "int64": (np.int64, np.float64),
}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"17-{kind}") for kind in NUMBERS])
def test_numbers_of_any_kind_are_read(kind):
    """Float32 is fitted in float32, all else in float64."""
    given, fitted = NUMBERS[kind]
    x = np.round(10 * X).astype(given)
    for face in ("fit", "batch", "solve"):
        answer = FINE.check(lambda face=face: FACES[face](x))
        assert answer.value.dtype == fitted
        same = FACES[face](x.astype(fitted))
        np.testing.assert_array_equal(answer.mixture.weights, same.mixture.weights)


@pytest.mark.parametrize(
    "wide", [pytest.param(True, id="17-x64"), pytest.param(False, id="17-x32")]
)
def test_large_integers_are_never_wrapped(wide):
    """Up to 2^64 - 1, and beyond 2^31 where JAX has 32 bits."""
    steps = np.round(10 * X).astype(np.int64) - 500
    top = np.uint64(2**64 - 1) - (-steps).astype(np.uint64) * np.uint64(2**50)
    with jax.enable_x64(wide):
        for x, unit in ((top, 2.0**50), (steps * 2**33, 2.0**33)):
            answer = by_fit(x)
            same = by_fit(steps.astype(float))
            volume = 2 * np.log(unit)
            np.testing.assert_allclose(answer.value, same.value + volume, rtol=1e-5)


@pytest.mark.parametrize("face", ["fit", "batch"])
@pytest.mark.parametrize("kind", [pytest.param(bool, id="17-bool")])
def test_booleans_are_zeros_and_ones(face, kind):
    """Two values in each column: every component has singular rows."""
    bad("COLLAPSED").check(lambda: FACES[face]((X > 1).astype(kind)))


@pytest.mark.parametrize("face", [pytest.param(face, id=f"08-{face}") for face in EVERYWHERE])
def test_three_times_is_weight_3(face):
    """Rows repeated in place, and one row of weight 3 with two absent ones behind it."""
    x, first = np.repeat(X[::3], 3, axis=0), np.arange(60) % 3 == 0
    repeated = FACES[face](x, sample_weight=np.ones(60))
    weighted = FACES[face](np.where(first[:, None], x, 99.0), sample_weight=3.0 * first)
    assert repeated.status == weighted.status
    assert_same_mixture(repeated.mixture, weighted.mixture, rtol=1e-7, atol=1e-9)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1].copy()[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "lists": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
}


@pytest.mark.parametrize("layout", [pytest.param(layout, id=f"22-{layout}") for layout in LAYOUTS])
def test_a_layout_changes_nothing(layout):
    x = LAYOUTS[layout](X)
    for face in EVERYWHERE:
        ours, theirs = FACES[face](x), FACES[face](X)
        assert_same_mixture(ours.mixture, theirs.mixture)
    np.testing.assert_array_equal(START.log_prob(x), START.log_prob(X))
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("mode", [pytest.param("r", id="22-memmap")])
def test_a_mapped_file_is_rows(tmp_path, mode):
    X.tofile(tmp_path / "rows")
    x = np.memmap(tmp_path / "rows", np.float64, mode, shape=X.shape)
    for face in EVERYWHERE:
        assert_same_mixture(FACES[face](x).mixture, FACES[face](X).mixture)


@pytest.mark.parametrize(
    "library", [pytest.param(name, id=f"23-{name}") for name in ("pandas", "polars")]
)
def test_a_frame_is_its_table(library):
    """Columns are named in warnings; missing cells and categories are refused by name."""
    frames = pytest.importorskip(library)
    columns = {"a": X[:, 0], "b": X[:, 1]}
    for face in EVERYWHERE:
        answer = FACES[face](frames.DataFrame(columns))
        assert_same_mixture(answer.mixture, FACES[face](X).mixture)
    np.testing.assert_array_equal(START.predict(frames.DataFrame(columns)), START.predict(X))
    flat = frames.DataFrame(columns | {"c": np.full(60, 7.0)})
    Ends("CONVERGED", "column 'c' is constant").check(lambda: by_fit(flat))
    missing = frames.Series(
        [None if i == 3 else 1.0 * i for i in range(60)], dtype=_nullable(frames)
    )
    text = ["u", "v"] * 30
    wrong = {
        "'b' has 1 missing cells, the first at row 3": missing,
        "'b' must hold numbers, not categories": frames.Series(text, dtype=_category(frames)),
        "'b' must hold numbers": frames.Series(text),
    }
    for words, column in wrong.items():
        frame = frames.DataFrame({"a": X[:, 0], "b": column})
        for face in EVERYWHERE:
            Raises(words).check(lambda face=face, frame=frame: FACES[face](frame))


def _nullable(frames: Any) -> Any:
    return frames.Float64 if hasattr(frames, "Enum") else "Float64"


def _category(frames: Any) -> Any:
    return frames.Categorical if hasattr(frames, "Enum") else "category"


@pytest.mark.parametrize(
    "axis",
    [
        pytest.param(None, id="24-jax-array"),
        pytest.param(AxisType.Auto, id="24-sharded"),
        pytest.param(
            AxisType.Explicit,
            id="24-sharded-explicitly",
            marks=known("JAX asks for the sharding of products"),
        ),
    ],
)
def test_rows_on_a_device(axis):
    x = jnp.asarray(X)
    if axis is not None:
        mesh = jax.make_mesh((1,), ("rows",), axis_types=(axis,))
        x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("rows")))
    for face in ("fit", "solve"):
        theirs = FACES[face](X)
        assert_same_mixture(FACES[face](x).mixture, theirs.mixture, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("face", [pytest.param(face, id=f"24-tracer-{face}") for face in FITS])
def test_tracers_are_sent_to_solve(face):
    with pytest.raises(TypeError, match=r"cannot be traced.*otmix_jax\.solve"):
        jax.jit(lambda x: FACES[face](x).value)(X)
    inside = jax.jit(lambda x: by_solve(x).mixture)(X)
    assert_same_mixture(inside, by_solve(X).mixture, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [pytest.param(10**9, id="27-beyond-memory")])
def test_rows_beyond_memory_are_read_in_tiles(n):
    """The engine follows from the shape; and tiles are the same fit."""
    assert isinstance(om.engine.choose(START.components, n, jnp.float32).execution, Tiled)
    whole, tiles = (
        om.solve(om.Problem(X), START, engine=Engine(Reference, e)) for e in (Dense(), Tiled(16))
    )
    assert_same_mixture(whole.mixture, tiles.mixture, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("coupling", "epsilon"),
    [
        pytest.param(coupling, epsilon, id=f"30-{type(coupling).__name__}-{epsilon}")
        for coupling in (SemiRelaxed(), Penalized(1.0), Balanced())
        for epsilon in (1e-30, 1e30)
    ],
)
def test_plans_at_extreme_entropies_are_finite(coupling, epsilon):
    """Rows sum to a, and the value is a number, however small or large epsilon is."""
    found = plan(START, X, epsilon=epsilon, coupling=coupling)
    assert np.isfinite(found.value)
    assert float(found.gap) >= -1e-12
    np.testing.assert_allclose(found.matrix.sum(axis=1), 1 / 60, rtol=1e-12)


@pytest.mark.parametrize("epsilon", [pytest.param(0.0, id="30-epsilon-0")])
def test_without_entropy_the_plan_is_hard(epsilon):
    found = np.asarray(plan(START, X, epsilon=epsilon).matrix)
    cost = np.asarray(START.components.cost(jnp.asarray(X)))
    np.testing.assert_array_equal(found, np.eye(2)[cost.argmin(axis=1)] / 60)
    for coupling in (Balanced(), Penalized(1.0)):
        with pytest.raises(ValueError, match="linear program"):
            plan(START, X, epsilon=epsilon, coupling=coupling)


@pytest.mark.parametrize(
    ("rho", "end"),
    [pytest.param(0.0, None, id="31-rho-0"), pytest.param(np.inf, Balanced(), id="31-rho-inf")],
)
def test_the_ends_of_rho_are_exact(rho, end):
    ours = plan(START, X, coupling=Penalized(rho))
    theirs = plan(START, X, coupling=end or SemiRelaxed())
    np.testing.assert_allclose(ours.matrix, theirs.matrix, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)


@pytest.mark.parametrize("weights", [pytest.param([1.0, 0.0], id="33-gradient")])
def test_an_absent_component_has_finite_derivatives(weights):
    def loss(w):
        return om.negative_log_likelihood(om.Mixture.from_weights(w, START.components), X)

    assert np.isfinite(jax.grad(loss)(jnp.array(weights))).all()


@pytest.mark.parametrize("starts", [pytest.param(SYMMETRIC, id="34-identical")])
def test_a_symmetric_start_stays_symmetric(starts):
    """Nothing tells the components apart, so that nothing moves them apart: one, twice."""
    with pytest.warns(UserWarning, match="all alike"):
        answer = by_fit(X, starts=starts)
    np.testing.assert_allclose(answer.mixture.components.mean, [X.mean(0)] * 2, rtol=1e-6)
    np.testing.assert_allclose(answer.mixture.weights, 0.5)


@pytest.mark.parametrize("face", EVERYWHERE)
@pytest.mark.parametrize("unit", [pytest.param(10.0**p, id=f"38-1e{p}") for p in (-300, 300)])
def test_the_unit_of_weights_does_not_matter(face, unit):
    ours, theirs = (FACES[face](X, sample_weight=w) for w in (WEIGHT * unit, WEIGHT))
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)
    assert_same_mixture(ours.mixture, theirs.mixture, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [pytest.param(10.0**p, id=f"38-float32-1e{p}") for p in (-40, 40)])
@pytest.mark.parametrize("face", ["fit", "solve"])
def test_the_unit_of_float64_weights_on_float32_rows(face, unit):
    x = X.astype(np.float32)
    ours, theirs = (FACES[face](x, sample_weight=w) for w in (WEIGHT * unit, WEIGHT))
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-6)


@pytest.mark.parametrize("face", EVERYWHERE)
@pytest.mark.parametrize("value", [pytest.param(v, id=f"39-{v}") for v in (np.nan, np.inf)])
def test_a_row_of_weight_0_is_absent(face, value):
    """Whatever it holds: the same as any other numbers in it."""
    weight = WEIGHT * (np.arange(60) != 4)
    ours, theirs = (FACES[face](x, sample_weight=weight) for x in (changed(value), X))
    assert_same_mixture(ours.mixture, theirs.mixture, rtol=1e-10, atol=1e-10)
    for one in (
        lambda x: likelihood(START, x, weight),
        lambda x: plan(START, x, sample_weight=weight).value,
    ):
        np.testing.assert_allclose(one(changed(value)), one(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "held"),
    [
        pytest.param(np.float64, 1e200, id="39-1e200"),
        pytest.param(np.float32, 1e30, id="39-float32-1e30"),
    ],
)
def test_a_row_of_weight_0_may_be_far(dtype, held):
    x, weight = X.astype(dtype), WEIGHT * (np.arange(60) != 4)
    far = changed(held).astype(dtype)
    ours, theirs = (by_fit(one, sample_weight=weight) for one in (far, x))
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-5)


@pytest.mark.parametrize("lane", [pytest.param(i, id=f"40-{n}") for i, n in enumerate("abcde")])
def test_a_batch_is_its_lanes(lane, ragged):
    """Ragged ones as alone; a NaN and a masked one have a status, and nobody else has it."""
    sets, weights, batch = ragged
    names = ["CONVERGED", "CONVERGED", "NON_FINITE", "EMPTY_COMPONENT", "EMPTY_COMPONENT"]
    assert om.Status(int(batch[lane].status)).name == names[lane]
    if lane < 2:
        key = jax.random.fold_in(jax.random.key(0), lane)
        alone = fit(sets[lane], 2, key=key, sample_weight=weights[lane], **FEW)
        assert_same_mixture(batch[lane].mixture, alone.mixture, rtol=1e-7, atol=1e-7)
    else:
        assert np.isnan(batch[lane].value)


@pytest.fixture(scope="module")
def ragged():
    sets = [X, X[10:50], changed(np.nan), X[:1], X]
    weights = [np.ones(len(one)) for one in sets]
    weights[-1] = np.zeros(60)
    with pytest.warns(om.ConvergenceWarning, match="3 of 5.*2 EMPTY_COMPONENT, 1 NON_FINITE"):
        return sets, weights, fit_batch(sets, 2, key=0, sample_weight=weights, **FEW)


@pytest.mark.parametrize(
    "x", [pytest.param([], id="40-no-sets"), pytest.param(np.zeros((0, 60, 2)), id="40-shape-0")]
)
def test_no_data_sets_are_an_empty_batch(x):
    batch = fit_batch(x, 2, key=0, **FEW)
    assert len(batch) == 0
    width = 2 if isinstance(x, np.ndarray) else 1
    assert batch.mixture.components.mean.shape == (0, 2, width)


@pytest.mark.parametrize("vmapped", [pytest.param(True, id="40-vmap")])
def test_lanes_of_solve_have_their_own_status(vmapped):
    x = np.stack([X, changed(np.nan), X])
    weight = np.stack([WEIGHT, WEIGHT, 0 * WEIGHT])
    lanes = jax.vmap(lambda x, w: om.solve(om.Problem(x, w), START), out_axes=0)(x, weight)
    assert [om.Status(int(s)).name for s in lanes.status] == [
        "CONVERGED",
        "NON_FINITE",
        "EMPTY_COMPONENT",
    ]
    first = jax.tree.map(lambda leaf: leaf[0], lanes.mixture)
    assert_same_mixture(first, by_solve(X, sample_weight=WEIGHT).mixture, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("score", [pytest.param(score, id=f"41-{score}") for score in SCORES])
def test_scores_refuse_what_is_no_rows(score):
    for x, words in (
        (np.c_[X, X], "rows have 4 columns, the mixture 2"),
        (X[:, :1], "rows have 1 columns, the mixture 2"),
        (X[0], r"for one row x\[None, :\]"),
        (None, "real numbers.*not None"),
        (X.astype(str), "real numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            SCORES[score](x)


@pytest.mark.parametrize("score", [pytest.param(s, id=f"41-no-rows-{s}") for s in list(SCORES)[:3]])
def test_no_rows_have_no_scores(score):
    assert len(SCORES[score](X[:0])) == 0


@pytest.mark.parametrize("value", [pytest.param(v, id=f"01-scores-{v}") for v in (np.nan, np.inf)])
def test_a_bad_row_spoils_no_other(value):
    """It has no density: NaN, or -inf at infinity; the value of all rows says so."""
    rest = np.arange(60) != 4
    for score in ("log_prob", "responsibilities", "predict"):
        ours, theirs = (np.asarray(SCORES[score](x)) for x in (changed(value), X))
        np.testing.assert_array_equal(ours[rest], theirs[rest])
    log_prob = float(START.log_prob(changed(value))[4])
    assert np.isnan(log_prob) if np.isnan(value) else log_prob == -np.inf
    assert not np.isfinite(likelihood(START, changed(value)))
    assert not np.isfinite(plan(START, changed(value)).value)


@pytest.mark.parametrize(
    ("dtype", "far"),
    [
        pytest.param(np.float64, 1e200, id="42-float64-1e200"),
        pytest.param(np.float64, -1e308, id="42-float64-1e308"),
        pytest.param(np.float32, 1e20, id="42-float32-1e20"),
        pytest.param(np.float32, 3e38, id="42-float32-3e38"),
        pytest.param(np.float64, 1e200, id="43-log-prob-at-1e200"),
    ],
)
def test_rows_out_of_reach_follow_the_proportions(dtype, far):
    """Finite responsibilities that sum to 1, and a density of 0, without a warning."""
    model = jax.tree.map(lambda leaf: leaf.astype(dtype), START)
    x = np.array([[far, far], [far, 0], [0, far], [1, 1]], dtype)
    shares = np.asarray(model.responsibilities(x))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares[0], model.weights, rtol=1e-6)
    assert np.isneginf(model.log_prob(x)[:3]).all()
    assert np.isfinite(model.log_prob(x)[3])


@pytest.mark.parametrize(
    "unit", [pytest.param(1e200, id="42-x32-1e200", marks=known("the cast makes it infinite"))]
)
def test_rows_that_no_float32_holds_follow_the_proportions(unit):
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = jax.tree.map(lambda leaf: leaf.astype(np.float32), START)
        np.testing.assert_allclose(model.responsibilities(X[:3] * unit), 0.5)


@pytest.mark.parametrize("score", [pytest.param("plan", id="41-no-rows-plan")])
@known("a ZeroDivisionError from inside JAX")
def test_no_rows_have_an_empty_plan(score):
    assert SCORES[score](X[:0]) == 0


@pytest.mark.parametrize("n", [pytest.param(0, id="44-sample-0")])
def test_no_draws_are_an_empty_table(n):
    assert START.sample(jax.random.key(0), n).shape == (0, 2)


@pytest.mark.parametrize("face", [pytest.param(face, id=f"47-{face}") for face in EVERYWHERE])
def test_the_same_seed_is_the_same_answer(face):
    """To the bit."""
    for one, other in zip(*(jax.tree.leaves(FACES[face](X)) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


WORKER = """
import sys; sys.path.insert(0, {tests!r})
import numpy as np, conftest, test_inputs
print(np.asarray(test_inputs.by_fit(test_inputs.X).mixture.components.mean).tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", [pytest.param("process", id="47-another-process")])
def test_another_process_gives_the_same_answer(place):
    code = WORKER.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        bytes.fromhex(done.stdout.strip())
        == np.asarray(by_fit(X).mixture.components.mean).tobytes()
    )


@pytest.mark.slow
def test_thirty_adversarial_data_sets():
    """The first of `make fuzz`, in one shape: none ends in silence, or in what contradicts it."""
    cases = Fuzzer(shapes=((60, 2, 2),), starts=om.Starts(n_init=1)).run(range(30))
    assert len(cases) == 120
    assert not [str(case) for case in cases if case.faults]


# the page


def test_every_row_of_the_page_has_a_test():
    """Each number in docs/inputs.md is that of a test here; 45 and 46 wait for files."""
    page = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text()
    numbers = {int(found) for found in re.findall(r"^\| (\d+) \|", page, re.M)}
    ids = re.findall(r'["\'](\d\d)-', Path(__file__).read_text())
    assert numbers == set(range(1, 49))
    assert numbers - {45, 46} == set(map(int, ids))

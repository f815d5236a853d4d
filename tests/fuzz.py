"""Random adversarial data sets through `fit` and `fit_batch`, in both precisions: `make fuzz`.

Each ends with a status and finite parameters, or with a documented error. Where the status is
healthy, the value is that of the mixture's own densities, and both faces agree. None takes above
ten times the median. Counts are printed, then the violations, each with its seed, and
`python tests/fuzz.py --first 17 --count 1` is the data set of seed 17 alone.
"""

import argparse
import collections
import dataclasses
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

import otmix_jax as om

SHAPES = ((60, 2, 2), (60, 3, 3))
"""Rows, columns and components: few, so that few programs are compiled."""
DTYPES = (np.float64, np.float32)
DIGITS = {np.float64: 1e-6, np.float32: 1e-3}
MOST = 4e-3
"""What rounding may cost before an answer is IMPRECISE, in nats: half the square of a sixteenth of
a standard deviation, in two columns or three."""
REFUSALS = ("NaN or infinite cells", "rescale")
"""What a `ValueError` may say of rows that are finite numbers: they are not, in their precision."""
HEALTHY, SLOW = om.Status.STALLED, 10

Rng = np.random.Generator


# what is done to the rows of some groups, in any order


def scaled(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x * 10.0 ** rng.uniform(-12, 12)


def in_units(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x * 10.0 ** rng.uniform(-9, 9, x.shape[1])


def shifted(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x + x.std() * 10.0 ** rng.uniform(0, 9, x.shape[1]) * rng.choice([-1, 1])


def repeated(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x[rng.integers(0, rng.choice([2, 5, 20]), len(x))]


def low_rank(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x[:, :1] * rng.normal(size=x.shape[1]) + rng.normal(size=x.shape[1])


def nearly_low_rank(rng: Rng, x: np.ndarray) -> np.ndarray:
    return low_rank(rng, x) + x.std() * 10.0 ** rng.uniform(-12, -2) * rng.normal(size=x.shape)


def heavy_tailed(rng: Rng, x: np.ndarray) -> np.ndarray:
    return x + x.std() * rng.standard_t(rng.choice([0.5, 1, 2]), x.shape)


def with_outliers(rng: Rng, x: np.ndarray) -> np.ndarray:
    x, rows = x.copy(), rng.choice(len(x), rng.integers(1, 4), replace=False)
    columns = rng.choice([0, slice(None)])
    x[rows, columns] += x.std() * 10.0 ** rng.uniform(1, 12) * rng.choice([-1, 1])
    return x


def whole(rng: Rng, x: np.ndarray) -> np.ndarray:
    return np.round(x / x.std() * rng.choice([0.5, 2, 10]))


def one_hot(rng: Rng, x: np.ndarray) -> np.ndarray:
    return np.eye(x.shape[1])[rng.integers(0, x.shape[1], len(x))]


def constant(rng: Rng, x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.shape[1]) == rng.integers(x.shape[1]), rng.normal(), x)


def two_valued(rng: Rng, x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.shape[1]) == rng.integers(x.shape[1]), x > np.median(x), x)


def tight(rng: Rng, x: np.ndarray) -> np.ndarray:
    far = 10.0 ** rng.uniform(1, 9) * rng.normal(size=(3, x.shape[1]))
    return x + x.std() * far[rng.integers(0, 3, len(x))]


def close_pairs(rng: Rng, x: np.ndarray) -> np.ndarray:
    near = x.std() * 10.0 ** rng.uniform(-15, -3) * rng.normal(size=x.shape)
    return np.where(np.arange(len(x))[:, None] < rng.integers(2, 20), x[0] + near, x)


CHANGES: tuple[Callable[[Rng, np.ndarray], np.ndarray], ...] = (
    scaled, in_units, shifted, repeated, low_rank, nearly_low_rank, heavy_tailed, with_outliers,
    whole, one_hot, constant, two_valued, tight, close_pairs,
)  # fmt: skip


def data_set(seed: int, shapes: tuple = SHAPES) -> tuple[np.ndarray, int, str]:
    """Rows, K, and what was done to some groups: one to three of the changes."""
    rng = np.random.default_rng(seed)
    n, d, k = shapes[seed % len(shapes)]
    x = rng.normal(size=(n, d)) + 4 * rng.normal(size=(k, d))[rng.integers(0, k, n)]
    done = rng.choice(len(CHANGES), rng.integers(1, 4), replace=False)
    for number in done:
        x = CHANGES[number](rng, x)
    return x, k, ", ".join(CHANGES[number].__name__ for number in done)


@dataclasses.dataclass
class Case:
    """One data set at one face."""

    seed: int
    dtype: Any
    face: str
    outcome: str = ""
    seconds: float = 0.0
    value: float = np.nan
    digits: float = 0.0
    faults: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        faults = "; ".join(self.faults)
        return f"seed {self.seed}, {np.dtype(self.dtype)}, {self.face}, {self.outcome}: {faults}"


@dataclasses.dataclass(frozen=True)
class Fuzzer:
    """How data sets are drawn and fitted."""

    shapes: tuple = SHAPES
    starts: om.Starts = om.Starts(n_init=2)
    limits: om.Limits = om.Limits(max_steps=500)

    def run(self, seeds: Iterable[int]) -> list[Case]:
        """Every data set in both precisions at both faces."""
        return [case for seed in seeds for dtype in DTYPES for case in self.pair(seed, dtype)]

    def pair(self, seed: int, dtype: Any) -> list[Case]:
        """The same fit alone and in a batch."""
        cases = [self.one(seed, dtype, face) for face in ("fit", "fit_batch")]
        alone, batched = cases
        converged = alone.outcome == batched.outcome == "CONVERGED"
        if converged and not _agree(batched.value, alone.value, alone.digits):
            batched.faults.append(f"value {batched.value:.9g}, by fit {alone.value:.9g}")
        return cases

    def one(self, seed: int, dtype: Any, face: str) -> Case:
        """One data set at one face, with all that is wrong with the answer."""
        case, (x, k, _) = Case(seed, dtype, face), data_set(seed, self.shapes)
        with np.errstate(over="ignore"):
            x = x.astype(dtype)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            begin = time.perf_counter()
            solution = self._answer(case, x, k)
            case.seconds = time.perf_counter() - begin
        kinds = {
            one.category.__name__ for one in heard if not issubclass(one.category, UserWarning)
        }
        case.faults += [f"warns of {kind.__name__}" for kind in kinds]
        if solution is not None:
            case.value = float(solution.value)
            if solution.mixture.components.mean.shape[-1] != x.shape[1]:
                case.faults.append("the components have other columns than the rows")
                return case
            case.digits = max(DIGITS[dtype], min(_rounding(solution.mixture, x), MOST))
            case.faults += _faults(solution, x, case.digits)
        return case

    def _answer(self, case: Case, x: np.ndarray, k: int) -> om.Solution | None:
        key, options = jax.random.key(case.seed), {"starts": self.starts, "limits": self.limits}
        try:
            if case.face == "fit":
                found = om.fit(x, k, key=jax.random.fold_in(key, 0), **options)
            else:
                found = om.fit_batch([x], k, key=key, **options)[0]
        except om.FitError as error:
            case.outcome = om.Status(int(error.solution.status)).name + " (error)"
            return error.solution
        except ValueError as error:
            case.outcome = "refused"
            if not re.search("|".join(REFUSALS), str(error)):
                case.faults.append(f"{error}")
            return None
        except Exception as error:
            case.outcome = "crashed"
            case.faults.append(f"{type(error).__name__}: {error}")
            return None
        jax.block_until_ready(found)
        case.outcome = om.Status(int(found.status)).name
        return found

    def slow(self, cases: list[Case]) -> None:
        """Times again, when all is compiled, what took too long; then it counts."""
        for dtype in DTYPES:
            for face in ("fit", "fit_batch"):
                mine = [case for case in cases if (case.dtype, case.face) == (dtype, face)]
                median = float(np.median([case.seconds for case in mine]))
                for case in mine:
                    if case.seconds > SLOW * median:
                        again = [self.one(case.seed, dtype, face).seconds for _ in range(3)]
                        case.seconds = min(again)
                    if case.seconds > SLOW * median:
                        case.faults.append(f"{case.seconds:.3f} s, the median is {median:.3f} s")


def _agree(one: float, other: float, digits: float) -> bool:
    return abs(one - other) <= digits * max(1, abs(other))


def _rounding(mixture: om.Mixture, x: np.ndarray) -> float:
    """What rounding costs, in nats: a step of the rows in standard deviations, and what a scatter
    matrix leaves of a variance given the columns before it."""
    components = mixture.components
    rows = x[:, list(getattr(components, "kept", range(x.shape[1])))]
    factor = np.asarray(getattr(components, "inner", components).covariance.factor, float)
    if not np.linalg.det(factor).all():
        return np.inf
    eps = np.finfo(x.dtype).eps
    step = np.abs(np.linalg.inv(factor)) @ (eps * np.abs(rows).max(axis=0))
    ratio = np.sum(factor**2, axis=2) / np.diagonal(factor, axis1=1, axis2=2) ** 2
    return float(max(np.max(step), eps * np.max(ratio)))


def _faults(solution: om.Solution, x: np.ndarray, digits: float) -> list[str]:
    """What contradicts itself in an answer."""
    mixture, faults = solution.mixture, []
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mixture.components)]
    if not all(np.isfinite(leaf).all() for leaf in leaves) or np.isnan(mixture.log_weights).any():
        faults.append("parameters are not finite")
    if abs(float(mixture.weights.sum()) - 1) > 1e-5:
        faults.append(f"proportions sum to {float(mixture.weights.sum())}")
    if int(solution.status) <= HEALTHY:
        direct = -float(np.mean(np.asarray(mixture.log_prob(x), np.float64)))
        if not _agree(float(solution.value), direct, digits):
            faults.append(f"value {float(solution.value):.9g}, densities say {direct:.9g}")
    return faults


def table(cases: list[Case]) -> str:
    """Counts by precision, face and outcome, with the median time."""
    lines = ["| dtype | face | outcome | data sets | median ms |", "|---|---|---|---|---|"]
    groups = collections.defaultdict(list)
    for case in cases:
        groups[str(np.dtype(case.dtype)), case.face, case.outcome].append(case.seconds)
    for name, seconds in sorted(groups.items()):
        lines.append(f"| {' | '.join(name)} | {len(seconds)} | {1e3 * np.median(seconds):.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many data sets")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    fuzzer = Fuzzer()
    cases = fuzzer.run(range(options.first, options.first + options.count))
    fuzzer.slow(cases)
    print(table(cases))
    wrong = [case for case in cases if case.faults]
    for case in wrong:
        print(f"{case}  [{data_set(case.seed)[2]}]")
    print(f"{options.count} data sets, {len(cases)} fits, {len(wrong)} violations")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

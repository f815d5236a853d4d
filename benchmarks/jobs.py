"""Jobs of a person, in CPU and wall seconds, and how often `fit` finds the best optimum known.

CPU seconds are user and system time of all threads, on the first two cores of this process. cold:
the first call in a fresh interpreter without any cache; cached: the same with JAX's persistent
cache, filled by an earlier run; warm: the fastest of up to three calls after it, in the same
process. x64 is on. What comes "then" is in the process of the row before.
"""

import functools
import itertools
import json
import math
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import otmix_jax as om

from .harness import HERE, groups, in_subprocess

OPTIMA = HERE.parent / "tests" / "data" / "optima"
NEAR = 0.05
"""Nats of the total log-likelihood within which an optimum counts as reached."""
CHILD = """
import os, sys, time
began = time.perf_counter()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from benchmarks import jobs
jobs.child(*sys.argv[1:], began=began)
"""


def clock() -> np.ndarray:
    """CPU and wall seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([used.ru_utime + used.ru_stime, time.perf_counter()])


class Session:
    """What a person does in one interpreter, one step after another.

    Attributes:
        began: CPU and wall seconds when the process began.
        steps: a record of each step.
    """

    def __init__(self, began: float):
        self.began, self.steps = np.array([0.0, began]), []

    def step(self, job: str, run: Callable[[], Any], *, importing: bool = False) -> Any:
        """Times the first call, with all that was before it if `importing`, and later ones."""
        first, result = _timed(run, self.began if importing else None)
        self.steps.append({"job": job, "first": first, "warm": warm(run)})
        return result


def _timed(run: Callable[[], Any], begin: np.ndarray | None = None) -> tuple[list[float], Any]:
    begin = clock() if begin is None else begin
    result = jax.block_until_ready(run())
    return (clock() - begin).tolist(), result


def warm(run: Callable[[], Any]) -> list[float]:
    """The least CPU and wall seconds of three calls, or of fewer if they are long."""
    times = [_timed(run)[0]]
    while len(times) < 3 and sum(wall for _, wall in times) < 2:
        times.append(_timed(run)[0])
    return np.min(times, axis=0).tolist()


def child(name: str, quick: str, *, began: float) -> None:
    """Runs a session in this interpreter, and prints its steps as JSON."""
    warnings.simplefilter("ignore")
    session = Session(began)
    SESSIONS[name](session, quick == "quick")
    print(json.dumps({"steps": session.steps}))


def run_session(name: str, quick: bool, cache: str = "") -> list[dict]:
    """The steps of a session in a fresh interpreter."""
    environment = {
        "JAX_ENABLE_X64": "1",
        "OTMIX_JAX_CACHE": "0",
        "JAX_ENABLE_COMPILATION_CACHE": "true" if cache else "false",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return in_subprocess(CHILD, name, "quick" if quick else "", **environment)[0]["steps"]


def cached_and_cold(name: str, quick: bool) -> tuple[list[dict], list[dict]]:
    """The steps of a session with JAX's cache filled, and without it."""
    with tempfile.TemporaryDirectory() as folder:
        run_session(name, quick, folder)  # byte code and the disk's cache, too
        cached = run_session(name, quick, folder)
    return cached, run_session(name, quick)


def rows_of(cold: list[dict], cached: list[dict] | None = None) -> list[dict]:
    """Rows of the table."""
    rows = []
    for position, step in enumerate(cold):
        times = {"cold": step["first"], "warm": step["warm"]}
        if cached is not None:
            times = {"cold": step["first"], "cached": cached[position]["first"], **times}
        named = {
            f"{which} {unit}": seconds
            for which, pair in times.items()
            for unit, seconds in zip(("CPU", "wall"), pair, strict=True)
        }
        extra = {name: step[name] for name in step if name not in {"job", "first", "warm"}}
        rows.append({"job": step["job"], **named, **extra})
    return rows


def table(quick: bool) -> list[dict]:
    """All jobs, seconds; x: scikit-learn's seconds over ours; nats: our log-likelihood less its."""
    rows = []
    for name in ("faithful", "choice"):
        cached, cold = cached_and_cold(name, quick)
        rows += rows_of(cold, cached)
    for name in ("choices", "defaults"):
        rows += rows_of(run_session(name, quick))
    of_sets = [row for row in rows if row["job"].startswith("data set")]
    mean = {"job": f"geometric mean of {len(of_sets)} data sets"}
    for name in ("x CPU", "x wall"):
        mean[name] = math.exp(statistics.fmean(math.log(row[name]) for row in of_sets))
    return [*rows, mean]


def _faithful(session: Session, quick: bool) -> None:
    x, replications = om.datasets.old_faithful().x, 99 if quick else 999
    n = len(x)

    def fit(rows: np.ndarray, k: int) -> Callable[[], om.Solution]:
        return lambda: om.fit(rows, k, key=0)

    three = session.step("import, fit Old Faithful, K = 3", fit(x, 3), importing=True)
    session.step("then one row less", fit(x[:-1], 3))
    session.step("then 250 rows", fit(x[:250], 3))
    session.step("then K = 4", fit(x, 4))
    mixture = session.step("then K = 2", fit(x, 2)).mixture
    session.step("then K = 6", fit(x, 6))
    session.step("then standard errors, K = 3", lambda: om.standard_errors(three, x))
    bootstrap = functools.partial(
        om.inference.parametric_bootstrap, jax.random.key(0), mixture, n, replications
    )
    session.step(f"then {replications} bootstrap fits, K = 2", bootstrap)


def _choice(session: Session, quick: bool) -> None:
    x, last = om.datasets.old_faithful().x, 3 if quick else 9
    for rows, name in (x, f"import, select 1..{last}, 4 structures"), (x[:-1], "then one row less"):
        select = functools.partial(om.select, rows, range(1, last + 1), key=0)
        session.step(name, select, importing=rows is x)


def data_sets() -> dict[str, np.ndarray]:
    """The rows in the folder of optima; where it is missing, four small data sets."""
    files = sorted(OPTIMA.glob("*.csv"))
    if files:
        return {f.stem: np.loadtxt(f, delimiter=",", skiprows=1, ndmin=2) for f in files}
    from sklearn.datasets import load_iris, load_wine

    return {
        "galaxies": om.datasets.galaxies().x,
        "iris": load_iris().data,
        "old_faithful": om.datasets.old_faithful().x,
        "wine": load_wine().data,
    }


def _choices(session: Session, quick: bool) -> None:
    sets, last = data_sets(), 3 if quick else 9
    sets = dict(list(sets.items())[:2]) if quick else sets

    def select_all() -> None:
        for x in sets.values():
            try:
                om.select(x, range(1, last + 1), key=0)
            except om.FitError:  # no candidate of these rows is regular
                continue

    session.step(f"select 1..{last}, 4 structures, {len(sets)} data sets in turn", select_all)


def blobs(quick: bool) -> Iterator[tuple[str, np.ndarray, int]]:
    """Two large jobs: name, rows, K."""
    rng, n = np.random.default_rng(0), 1000 if quick else 10_000
    x = rng.normal(size=(n, 8))
    x[n // 2 :, 0] += 4
    yield "two blobs", x, 4
    rng, n = np.random.default_rng(0), 2000 if quick else 50_000
    centres = 5 * rng.normal(size=(12, 4))
    yield "twelve blobs", rng.normal(size=(n, 4)) + centres[rng.integers(12, size=n)], 12


def several(quick: bool) -> Iterator[tuple[str, np.ndarray, int, str]]:
    """Ten data sets: name, rows, K, covariance structure."""
    from sklearn import datasets

    faithful = om.datasets.old_faithful().x
    yield "iris", datasets.load_iris().data, 3, "full"
    yield "wine", datasets.load_wine().data, 3, "full"
    yield "Old Faithful", faithful, 2, "full"
    yield "Old Faithful", faithful, 3, "full"
    if quick:
        return
    yield "breast cancer", datasets.load_breast_cancer().data, 2, "diagonal"
    digits = datasets.load_digits().data
    digits = digits - digits.mean(axis=0)
    yield "digits", digits @ np.linalg.svd(digits, full_matrices=False)[2][:8].T, 10, "full"
    for n, d, k in (2000, 4, 5), (10_000, 8, 4), (20_000, 16, 8), (50_000, 4, 12):
        yield "groups", groups(n, d, k), k, "full"


def _defaults(session: Session, quick: bool) -> None:
    """Both with their defaults: scikit-learn's are one start and a tolerance of 1e-3.

    Its threads spin while they wait, on small data for most of the time, so that one thread may
    take less of either kind of second: the less of both counts.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    jobs = [(name, x, k, "full") for name, x, k in blobs(quick)]
    jobs += [(f"data set {name}", *rest) for name, *rest in several(quick)]
    for name, x, k, covariance in jobs:
        short = "diag" if covariance == "diagonal" else covariance
        model = GaussianMixture(k, covariance_type=short, random_state=0)
        size = f"({len(x)}, {x.shape[1]}, {k})"
        job = f"{name} {size}{'' if covariance == 'full' else f' {covariance}'}"
        fit = functools.partial(om.fit, x, k, covariance=covariance, key=0)
        solution = session.step(job, fit)
        model.fit(x)
        theirs, step = warm(functools.partial(model.fit, x)), session.steps[-1]
        with threadpool_limits(1):
            theirs = np.minimum(theirs, warm(functools.partial(model.fit, x))).tolist()
        pairs = zip(("CPU", "wall"), theirs, step["warm"], strict=True)
        for unit, seconds, ours in pairs:
            step |= {f"sklearn {unit}": seconds, f"x {unit}": seconds / ours}
        ours, their_value = float(solution.log_likelihood(len(x))), len(x) * model.score(x)
        step |= {"log-lik.": ours, "sklearn log-lik.": their_value, "nats": ours - their_value}
        step["status"] = om.Status(int(solution.status)).name


def optima(quick: bool) -> list[dict]:
    """For each cell, what `fit` with its defaults came to from several keys.

    An answer reaches the optimum if its status is healthy and its log-likelihood at most `NEAR`
    nats lower. "short" is the largest shortfall of healthy answers. "spikes" are healthy answers
    with a spurious component. "above" lists healthy answers above the optimum by more than `NEAR`,
    as key: nats; they may be spikes, or new optima.
    """
    if not (OPTIMA / "optima.json").exists():
        print("\nno optima.json: no cells")
        return []
    rows = run_session("optima", quick)
    fits = sum(row["fits"] for row in rows)

    def total(name: str) -> Any:
        return sum(row[name] for row in rows)

    everything = {
        "data": "all",
        "fits": fits,
        "reached": total("reached"),
        "short": max(row["short"] or 0.0 for row in rows),
        **{name: total(name) for name in ("collapsed", "other", "spikes")},
        "above": f"{sum(bool(row['above']) for row in rows)} cells",
        "share": total("reached") / fits,
        "first CPU": total("first CPU"),
        "CPU": statistics.fmean(row["CPU"] for row in rows),
    }
    return [*rows, everything]


def _optima(session: Session, quick: bool) -> None:
    cells, sets = json.loads((OPTIMA / "optima.json").read_text())["cells"], data_sets()
    if quick:
        few = list(sets)[:3]
        cells = [cell for cell in cells if cell["data"] in few and cell["n_components"] <= 3]
    keys = range(2 if quick else 5)
    for name, own in itertools.groupby(cells, lambda cell: cell["data"]):
        session.steps += [_cell(cell, sets[name], keys) for cell in own]
        jax.clear_caches()  # every cell is another program: together they take gigabytes


def _cell(cell: dict, x: np.ndarray, keys: range) -> dict:
    """One row: the fits of one cell."""
    best, k = cell["log_likelihood"], cell["n_components"]
    gains, times, statuses, spikes = {}, [], [], 0

    def fit(key: int) -> om.Solution:
        try:
            return om.fit(x, k, covariance=cell["structure"], key=key)
        except om.FitError as error:
            return error.solution

    for key in keys:
        (used, _), solution = _timed(functools.partial(fit, key))
        times.append(used)
        statuses.append(om.Status(int(solution.status)))
        if statuses[-1].healthy:
            gains[key] = float(solution.log_likelihood(len(x))) - best
            spikes += bool(np.any(solution.certificate.spurious))
    reached, collapsed = sum(gain >= -NEAR for gain in gains.values()), om.Status.COLLAPSED
    other = len(statuses) - statuses.count(om.Status.CONVERGED) - statuses.count(collapsed)
    return {
        "data": cell["data"],
        "structure": cell["structure"],
        "K": k,
        "best": best,
        "fits": len(keys),
        "reached": reached,
        "short": max(0.0, -min(gains.values())) if gains else "",
        "collapsed": statuses.count(collapsed),
        "other": other,
        "spikes": spikes,
        "above": ", ".join(f"{key}: {gain:.3g}" for key, gain in gains.items() if gain > NEAR),
        "share": reached / len(keys),
        "first CPU": times[0],
        "CPU": statistics.fmean(times[1:]),
    }


SESSIONS = {
    "faithful": _faithful,
    "choice": _choice,
    "choices": _choices,
    "defaults": _defaults,
    "optima": _optima,
}

"""Best known healthy maximum-likelihood optima of Gaussian mixtures on small real data.

    python -m benchmarks.optima [--starts 10000] [--only NAME ...] [--below SHARE] [--seed N]

Brute force that shares nothing with the library's fitting: plain NumPy, many EM runs at once. Every
cell (data, structure, K) gets starts of five kinds. All take 10 EM passes; the best of them, and a
random sample, run on to convergence. Optima are read from the best down to the first that the
library's own rule calls free of spurious components; the sample tells how often one start finds it.
About the best optima, components are moved to random rows until that gains nothing more.
A cell of the record changes only for a higher optimum, or the same one after as many starts.

A lane is one run. The lanes of a cell are the last axis of every array, so that an E-step is two
matrix products and an exp for all. theta [f, K, lanes] = (weight, mean, entries of the covariance).
"""

import argparse
import functools
import json
import math
import time
import warnings
from datetime import date
from pathlib import Path

import jax
import numpy as np

DATA = Path(__file__).parent.parent / "tests" / "data" / "optima"
RECORD = DATA / "optima.json"
CELLS = {
    "old_faithful": "full 2 3 4 5, tied 2 3 4 5, diagonal 2 3 4, spherical 2 3 4",
    "galaxies": "full 2 3 4 5, tied 3 4 6",
    "acidity": "full 2 3 4, tied 3",
    "iris": "full 2 3 4, tied 3 4 5, diagonal 3 5, spherical 3 6",
    "geyser": "full 2 3 4, tied 4 8, diagonal 3 4, spherical 4",
    "ais": "full 2 3, tied 3, diagonal 3",
    "euro_unemployment": "full 2, tied 3, diagonal 2, spherical 3",
    "diabetes": "full 2 3 4, tied 5, diagonal 3 5, spherical 5",
    "thyroid": "full 2 3, tied 4, diagonal 2 3 4, spherical 3",
    "breast_cancer": "full 2 3, tied 3, diagonal 3 5, spherical 4",
    "penguins": "full 2 3, tied 3 4 6, diagonal 4, spherical 4",
    "crabs": "full 2 3, tied 3 4 8, diagonal 4",
    "banknote": "full 2, tied 2 3 4, diagonal 3 4, spherical 3",
    "wine": "full 2, tied 2 3, diagonal 2 3, spherical 3 4",
}
SHORT, LONG = 10, 4000
"""EM passes of a short run, and at most of a long one."""
THIN = 1e-6
"""The least variance of a healthy component in any direction; the data's own is 1."""
REACHED, DISTINCT = 0.05, 1e-3
"""Nats of the total within which a run found an optimum, and beyond which two are different."""
BLOCK = 150_000
"""Log-densities in a block of lanes: they stay in the cache."""
KINDS = ("rows", "plus", "plus stretched", "means", "means stretched")


class Layout:
    """How the covariances of a structure in d dimensions lie in theta, and their features."""

    def __init__(self, structure, d):
        self.structure, self.d = structure, d
        self.matrix = structure in {"full", "tied"}
        self.upper = np.triu_indices(d)
        self.at = np.zeros((d, d), int)
        self.at[self.upper] = np.arange(len(self.upper[0]))
        self.at = np.maximum(self.at, self.at.T)

    def features(self, z):
        """[f, n]: 1, the columns, and their products, squares or half square."""
        if self.matrix:
            return np.vstack([np.ones(len(z)), z.T, z.T[self.upper[0]] * z.T[self.upper[1]]])
        squares = z.T**2
        if self.structure == "spherical":
            squares = squares.sum(0, keepdims=True)
        return np.vstack([np.ones(len(z)), z.T, squares])

    def maximize(self, moments):
        """The M-step: mean features under the responsibilities [f, K, lanes] -> theta."""
        mass, d = np.maximum(moments[0], 1e-30), self.d
        mean, second = moments[1 : 1 + d] / mass, moments[1 + d :] / mass
        if self.matrix:
            spread = second - mean[self.upper[0]] * mean[self.upper[1]]
        elif self.structure == "diagonal":
            spread = second - mean**2
        else:
            spread = (second - (mean**2).sum(0)) / d
        if self.structure == "tied":
            pooled = (spread * mass).sum(1, keepdims=True) / mass.sum(0)
            spread = np.broadcast_to(pooled, spread.shape)
        return np.concatenate([mass[None], mean, spread])

    def coefficients(self, theta):
        """[f, K, lanes] of log(weight * density), linear in the features; least pivots [lanes]."""
        mean, spread, d = theta[1 : 1 + self.d], theta[1 + self.d :], self.d
        if self.matrix:
            some = spread[:, :1] if self.structure == "tied" else spread
            inverse, log_det, least = swept(some[self.at])
            linear = (inverse * mean).sum(1)
            off_diagonal = (self.upper[0] != self.upper[1])[:, None, None]
            quadratic = -0.5 * inverse[self.upper] * (1 + off_diagonal)
            quadratic = np.broadcast_to(quadratic, spread.shape)
        else:
            least = spread.min((0, 1))
            variance = np.maximum(spread, 1e-12)
            linear, quadratic = mean / variance, -0.5 / variance
            log_det = np.log(variance).sum(0) * (d if self.structure == "spherical" else 1)
        constant = np.log(np.maximum(theta[0], 1e-300)) - 0.5 * (linear * mean).sum(0)
        constant = constant - 0.5 * (log_det + d * math.log(2 * math.pi))
        return np.concatenate([constant[None], linear, quadratic]), least

    def matrices(self, theta):
        """The covariances [K, d, d] of one lane's theta [f, K]."""
        spread, d = theta[1 + self.d :], self.d
        if self.matrix:
            return np.moveaxis(spread[self.at], 2, 0)
        spread = np.broadcast_to(spread, (d, spread.shape[1]))
        return np.eye(d) * spread.T[:, None, :]


def swept(matrix):
    """Inverse, log-determinant and least pivot of symmetric [d, d, K, lanes], by d sweeps."""
    d, log_det, least = len(matrix), 0.0, np.inf
    for j in range(d):
        pivot = matrix[j, j].copy()
        least = np.minimum(least, pivot.min(0))
        pivot = np.maximum(pivot, 1e-12)
        log_det = log_det + np.log(pivot)
        column = matrix[:, j].copy()
        row = column / pivot
        matrix -= column[:, None] * row
        matrix[:, j], matrix[j] = row, row
        matrix[j, j] = -1 / pivot
    return -matrix, log_det, least


class Race:
    """EM for many lanes on rows z [n, d]."""

    def __init__(self, z, structure):
        self.z, self.layout = z, Layout(structure, z.shape[1])
        self.features = self.layout.features(z)
        self.means = np.ascontiguousarray(self.features.T) / len(z)

    def em(self, theta):
        """One EM map: the next theta, the log-likelihood at this one, whether it is regular."""
        size = max(1, BLOCK // (theta.shape[1] * len(self.z)))
        # an irregular lane may overflow; its pivots or its value then tell
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts = [self._em(theta[..., i : i + size]) for i in range(0, theta.shape[2], size)]
        return tuple(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))

    def _em(self, theta):
        coefficients, least = self.layout.coefficients(theta)
        log_p = coefficients.reshape(len(theta), -1).T @ self.features
        log_p = log_p.reshape(*theta.shape[1:], -1)
        top = log_p.max(0)
        p = np.exp(np.subtract(log_p, top, out=log_p), out=log_p)
        total = p.sum(0)
        value = (np.log(total) + top).sum(-1)
        p /= total
        moments = (p.reshape(-1, len(self.z)) @ self.means).T.reshape(theta.shape)
        weight = np.minimum(theta[0].min(0), moments[0].min(0))
        sound = (least > THIN) & (weight > 1e-8) & np.isfinite(value)
        return self.layout.maximize(moments), np.where(sound, value, -np.inf), sound

    def passes(self, theta, count):
        """`count` plain EM maps -> theta, and the log-likelihood before the last; -inf: failed."""
        for _ in range(count):
            ahead, value, sound = self.em(theta)
            theta = np.where(sound, ahead, theta)
        return theta, value

    def converge(self, theta, tolerance, budget=LONG):
        """SQUAREM until less than `tolerance` nats are left -> theta, value, whether converged."""
        lanes = theta.shape[2]
        out, value, fine = theta.copy(), np.full(lanes, -np.inf), np.zeros(lanes, bool)
        who, safe, floor = np.arange(lanes), theta, np.full(lanes, -np.inf)
        stride = np.full(lanes, 4.0)
        for _ in range(budget // 2):
            theta, safe, floor, stride, done, sound = self._cycle(
                theta, safe, floor, stride, tolerance
            )
            if done.any():
                out[..., who[done]], value[who[done]] = safe[..., done], floor[done]
                fine[who[done]] = sound[done]
                theta, safe, floor = theta[..., ~done], safe[..., ~done], floor[~done]
                who, stride = who[~done], stride[~done]
            if not len(who):
                break
        out[..., who], value[who] = safe, floor
        return out, value, fine

    def _cycle(self, theta, safe, floor, stride, tolerance):
        """Two EM maps and an extrapolation; a lane that it led astray goes back to `safe`."""
        once, first, sound = self.em(theta)
        twice, second, sound_too = self.em(once)
        back = ~(sound & (first >= floor - 1e-9)) & np.isfinite(floor)
        sound = back | (sound & sound_too)
        step, last = once - theta, twice - once
        bend = last - step
        squares = [(a**2).sum((0, 1)) for a in (step, bend, last)]
        raw = np.sqrt(squares[0] / np.maximum(squares[1], 1e-300))
        length = np.clip(raw, 1, stride)
        rate = np.clip(squares[2] / np.maximum(squares[0], 1e-300), 0, 0.9998)
        with np.errstate(invalid="ignore"):
            left = (second - first) * rate / (1 - rate)
        done = ~back & (~sound | (left < tolerance))
        ahead = theta + 2 * length * step + length**2 * bend
        longer = np.where((raw >= stride) & (stride > 1), 4 * stride, stride)
        stride = np.where(back, np.maximum(stride / 2, 1), longer)
        ahead = np.where(back, safe, ahead)
        # a lane that went back may repeat its own plain steps: no floor for the next cycle
        floor = np.where(back & done, floor, np.where(back, -np.inf, second))
        return ahead, np.where(back, safe, twice), floor, stride, done, sound


def starts(race, k, count, kind, rng):
    """Lanes [f, K, count] of starts of one kind."""
    if kind == "rows":
        return from_rows(race, k, count, rng)
    z = race.z
    size = max(1, 4 * BLOCK // z.size)
    parts = []
    for first in range(0, count, size):
        lanes = min(size, count - first)
        u = np.broadcast_to(z, (lanes, *z.shape))
        if kind.endswith("stretched"):
            u = stretched(z, lanes, rng)
        label, centres = plus_plus(u, k, rng)
        if kind.startswith("means"):
            label = lloyd(u, centres)
        parts.append(from_labels(race, label, k))
    return np.concatenate(parts, axis=2)


def from_rows(race, k, count, rng):
    """Random rows as means; the data's covariance, shrunk by a random factor."""
    n, d = race.z.shape
    means = race.z[np.argsort(rng.random((count, n)), axis=1)[:, :k]]
    whole = race.layout.maximize(race.means.sum(0)[:, None, None])
    shrink = np.exp(rng.uniform(math.log(0.03), 0, count))
    theta = np.repeat(np.repeat(whole, k, axis=1), count, axis=2)
    theta[0], theta[1 : 1 + d] = 1 / k, means.transpose(2, 1, 0)
    theta[1 + d :] *= shrink
    return theta


def stretched(z, lanes, rng):
    """Rows [lanes, n, d] in coordinates turned and stretched at random."""
    d = z.shape[1]
    turn = np.linalg.qr(rng.normal(size=(lanes, d, d)))[0]
    return z @ (turn * np.exp(rng.normal(size=(lanes, 1, d))))


def plus_plus(u, k, rng):
    """k-means++ of [lanes, n, d]: labels [lanes, n] and centres [lanes, k, d]."""
    lanes, n, _ = u.shape
    each = np.arange(lanes)
    centres = [u[each, rng.integers(n, size=lanes)]]
    nearest, label = squared(u, centres[0]), np.zeros((lanes, n), int)
    for j in range(1, k):
        below = nearest.cumsum(1)
        chosen = (below < rng.random((lanes, 1)) * below[:, -1:]).sum(1).clip(0, n - 1)
        centres.append(u[each, chosen])
        distance = squared(u, centres[-1])
        label = np.where(distance < nearest, j, label)
        nearest = np.minimum(distance, nearest)
    return label, np.stack(centres, axis=1)


def squared(u, centre):
    """Squared distances [lanes, n] to one centre [lanes, d] of each lane."""
    difference = u - centre[:, None]
    return np.einsum("lnd,lnd->ln", difference, difference)


def lloyd(u, centres, passes=8):
    """Labels [lanes, n] after a few passes of k-means."""
    for _ in range(passes):
        distance = np.stack([squared(u, centres[:, j]) for j in range(centres.shape[1])])
        label = distance.argmin(0)
        held = label == np.arange(centres.shape[1])[:, None, None]
        mass = held.sum(2).T[..., None]
        means = (held.transpose(1, 0, 2) @ u) / np.maximum(mass, 1)
        centres = np.where(mass > 0, means, centres)
    return label


def from_labels(race, label, k, share=0.05):
    """Lanes from labels [lanes, n]; a share of the whole data keeps every component regular."""
    hard = np.stack([label == j for j in range(k)]).reshape(-1, label.shape[1]).astype(float)
    moments = (hard @ race.means).T.reshape(-1, k, len(label))
    whole = race.means.sum(0)[:, None, None] / k
    return race.layout.maximize((1 - share) * moments + share * whole)


class Cell:
    """One search: the data in coordinates of unit deviation, and what is needed to go back."""

    def __init__(self, x, structure, k):
        self.x, self.structure, self.k = x, structure, k
        self.origin = x.mean(0)
        covariance = np.cov(x.T, bias=True).reshape(x.shape[1], -1)
        if structure in {"full", "tied"}:
            self.factor = np.linalg.cholesky(covariance)
        elif structure == "diagonal":
            self.factor = np.diag(np.sqrt(np.diag(covariance)))
        else:
            self.factor = math.sqrt(np.trace(covariance) / x.shape[1]) * np.eye(x.shape[1])
        self.race = Race(np.linalg.solve(self.factor, (x - self.origin).T).T, structure)
        self.log_volume = len(x) * np.linalg.slogdet(self.factor)[1]

    def mixture(self, theta):
        """Weights, means and covariances of one lane, in the units of the data."""
        d = self.x.shape[1]
        mean = theta[1 : 1 + d].T @ self.factor.T + self.origin
        matrices = self.factor @ self.race.layout.matrices(theta) @ self.factor.T
        return theta[0] / theta[0].sum(), mean, matrices

    def thick(self, theta):
        """Whether every component spreads in every direction of the coordinates."""
        return bool(np.linalg.eigvalsh(self.race.layout.matrices(theta)).min() > THIN)

    def healthy(self, theta):
        """Whether the library's rule finds no spurious component."""
        if not self.thick(theta):
            return False
        weight, mean, matrices = self.mixture(theta)
        unit = self.x.std(0)
        if self.structure == "spherical":
            unit = np.full_like(unit, unit.max())
        mean, matrices = (mean - self.origin) / unit, matrices / (unit[:, None] * unit)
        return not rule(self.structure)(weight, mean, matrices, float(len(self.x))).any()

    def many_rows(self, theta):
        """Whether every component holds more rows than its covariance takes, and one more."""
        least = self.x.shape[1] + 2 if self.structure == "full" else 3
        return self.structure == "tied" or theta[0].min() * len(self.x) >= least


@functools.cache
def rule(structure):
    """The library's `spurious`, compiled once for each structure and shape."""
    import otmix_jax as om

    kind = om.families.STRUCTURES[structure]

    def spurious(weight, mean, matrices, n_rows):
        family = om.families.Gaussian(mean, kind.from_matrices(matrices))
        model = om.Mixture.from_weights(weight, family)
        least = om.families.Gaussian.least(mean.dtype)
        return model.components.spurious(least, model.weights, n_rows)

    return jax.jit(spurious)


def log_likelihood(x, weight, mean, matrices):
    """The total, by differences from the means: the plain formula, digit for digit."""
    log_p = []
    for w, m, matrix in zip(weight, mean, matrices, strict=True):
        factor = np.linalg.cholesky(matrix)
        white = np.linalg.solve(factor, (x - m).T)
        log_det = np.log(np.diag(factor)).sum() + 0.5 * x.shape[1] * math.log(2 * math.pi)
        log_p.append(math.log(w) - log_det - 0.5 * (white**2).sum(0))
    return float(np.logaddexp.reduce(log_p, axis=0).sum())


def peer(x, structure, weight, mean, matrices):
    """The total at which scikit-learn ends from here."""
    from sklearn.mixture import GaussianMixture

    inverse = np.linalg.inv(matrices)
    precision = {
        "full": lambda: inverse,
        "tied": lambda: inverse[0],
        "diagonal": lambda: np.diagonal(inverse, axis1=1, axis2=2),
        "spherical": lambda: inverse[:, 0, 0],
    }[structure]()
    name = {"diagonal": "diag"}.get(structure, structure)
    model = GaussianMixture(
        len(weight), covariance_type=name, reg_covar=0, tol=1e-12, max_iter=1000,
        weights_init=weight, means_init=mean, precisions_init=precision,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(model.fit(x).score(x) * len(x))


def short_runs(race, k, count, rng, size=1000):
    """All starts after a short run: theta, values, and which are a fair sample of the kinds."""
    thetas, values, sample = [], [], []
    for first in range(0, count, size):
        part = min(size, count - first) // len(KINDS)
        theta = np.concatenate([starts(race, k, part, kind, rng) for kind in KINDS], axis=2)
        theta, value = race.passes(theta, SHORT)
        thetas.append(theta)
        values.append(value)
        sample.append(np.arange(len(value)) % part < max(1, part // 10))
    return np.concatenate(thetas, axis=2), np.concatenate(values), np.concatenate(sample)


def suspicious(cell, theta):
    """Which lanes hold a component of hardly any rows, or far tighter than the pooled one."""
    layout, d = cell.race.layout, cell.x.shape[1]
    if cell.structure == "tied":
        return np.zeros(theta.shape[2], bool)
    few = theta[0].min(0) * len(cell.x) < (d + 2 if layout.matrix else 3)
    pooled = (theta[0] * theta[1 + d :]).sum(1, keepdims=True)
    if layout.matrix:
        tight = (swept(theta[1 + d :][layout.at])[0] * pooled[layout.at]).sum((0, 1))
    else:
        ratio = (pooled / np.maximum(theta[1 + d :], 1e-12)).sum(0)
        tight = ratio * (d if cell.structure == "spherical" else 1)
    return few | (tight.max(0) > 100 + d)


def promising(cell, theta, value, quota):
    """Which lanes to run on: the best, and the best of those that are not suspicious."""
    ranked = np.argsort(-value)
    calm = ranked[~suspicious(cell, theta[..., ranked])]
    chosen = np.zeros(len(value), bool)
    chosen[ranked[:quota]] = chosen[calm[:quota]] = True
    return chosen


def improved(cell, theta, value, rng, count=800, rounds=6):
    """Lanes and values, and those of random swaps about the best healthy ones while they gain."""
    best = -np.inf
    for _ in range(rounds):
        lanes = [i for i in optima(value, 60) if cell.healthy(theta[..., i])][:8]
        if not lanes or value[lanes[0]] < best + DISTINCT:
            break
        best = value[lanes[0]]
        more, start = cell.race.passes(swapped(cell, theta[..., lanes], count, rng), SHORT)
        more = more[..., promising(cell, more, start, 100)]
        more, end, fine = cell.race.converge(more, 1e-6)
        theta = np.concatenate([theta, more[..., fine]], axis=2)
        value = np.concatenate([value, end[fine]])
    return theta, value


def swapped(cell, theta, count, rng):
    """Copies of lanes in which one component begins anew, at a random row."""
    d, (_, k, lanes) = cell.x.shape[1], theta.shape
    theta = theta[..., rng.integers(lanes, size=count)]
    each, j = np.arange(count), rng.integers(k, size=count)
    if cell.structure != "tied":
        pooled = (theta[0] * theta[1 + d :]).sum(1)
        theta[1 + d :, j, each] = pooled * np.exp(rng.uniform(math.log(0.05), 0, count))
    theta[1 : 1 + d, j, each] = cell.race.z[rng.integers(len(cell.x), size=count)].T
    theta[0, j, each] = 1 / k
    theta[0] /= theta[0].sum(0)
    return theta


def optima(value, most=400):
    """Lanes from the best down, one for each distinct optimum."""
    last = np.inf
    for lane in np.argsort(-value):
        if np.isfinite(value[lane]) and value[lane] < last - DISTINCT and most > 0:
            last, most = value[lane], most - 1
            yield lane


def polished(cell, theta):
    """One lane to 1e-9 nats; the last steps are plain EM."""
    theta = cell.race.converge(theta[..., None], 1e-9, 40_000)[0]
    theta, _ = cell.race.passes(theta, 50)
    return theta[..., 0]


def best(cell, theta, value, accepts):
    """The best accepted optimum, polished, and how many better ones were refused."""
    for refused, lane in enumerate(optima(value)):
        if accepts(theta[..., lane]):
            fine = polished(cell, theta[..., lane])
            if accepts(fine):
                return fine, refused
    return None, None


def search(name, structure, k, count, seed=0):
    """The record of one cell."""
    begin = time.perf_counter()
    x = np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
    cell = Cell(x, structure, k)
    theta, value, sample = short_runs(cell.race, k, count, np.random.default_rng([seed, k, count]))
    n_starts = len(value)
    chosen = sample | promising(cell, theta, value, max(100, count // 20))
    theta, value, fine = cell.race.converge(theta[..., chosen], 1e-6)
    value, sample = np.where(fine, value, -np.inf), sample[chosen] & fine
    singles = value[sample]
    theta, value = improved(cell, theta, value, np.random.default_rng([seed, 1]))
    found, refused = best(cell, theta, value, cell.healthy)
    record = {"data": name, "structure": structure, "n_components": k}
    if found is None:
        return {**record, "log_likelihood": None, "starts": n_starts}
    parts = cell.mixture(found)
    total = log_likelihood(x, *parts)
    top = total + cell.log_volume
    record |= {
        "log_likelihood": total,
        "found": round(float(np.mean(np.abs(singles - top) < REACHED)), 4),
        "converged": len(singles),
        "starts": n_starts,
        "least_rows": round(float(parts[0].min() * len(x)), 2),
        "unhealthy_above": refused,
        "peer_gap": float(f"{peer(x, structure, *parts) / total - 1:.1e}"),
    }
    if not cell.many_rows(found):
        both = functools.partial(strict, cell)
        other, _ = best(cell, theta, value, both)
        if other is not None:
            record["of_many_rows"] = log_likelihood(x, *cell.mixture(other))
    return {**record, "seconds": round(time.perf_counter() - begin, 1)}


def strict(cell, theta):
    """Healthy, and with more rows in every component than its covariance takes."""
    return cell.healthy(theta) and cell.many_rows(theta)


def cells(only=()):
    """(data, structure, K) of every cell."""
    for name, text in CELLS.items():
        for part in text.split(", "):
            structure, *numbers = part.split()
            if not only or name in only:
                yield from ((name, structure, int(k)) for k in numbers)


def kept(old, new):
    """The better of two records of a cell: the higher optimum, then the one of more starts."""
    if old is None or old.get("log_likelihood") is None:
        return new
    if new["log_likelihood"] is None:
        return old
    gain = new["log_likelihood"] - old["log_likelihood"]
    if abs(gain) > 1e-6:
        return new if gain > 0 else old
    return new if new["starts"] >= old["starts"] else old


def save(records, command):
    """Write the record, a line for each cell."""
    header = {"date": date.today().isoformat(), "command": command, "numpy": np.__version__}
    lines = ",\n".join(f"  {json.dumps(record)}" for record in records)
    head = json.dumps(header, indent=1)[:-2]
    RECORD.write_text(f'{head},\n "cells": [\n{lines}\n ]\n}}\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=(), help="names of data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--below", type=float, default=2, help="cells found by fewer so far")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    known = json.loads(RECORD.read_text())["cells"] if RECORD.exists() else []
    key = ("data", "structure", "n_components")
    known = {tuple(record[name] for name in key): record for record in known}
    found = {cell: known.get(cell, {}).get("found", 0) for cell in cells(arguments.only)}
    for cell in sorted(found, key=found.get):
        if found[cell] >= arguments.below:
            break
        record = search(*cell, arguments.starts, arguments.seed)
        print(json.dumps(record), flush=True)
        known[cell] = kept(known.get(cell), record)
        records = [known[one] for one in cells() if one in known]
        save(records, f"python -m benchmarks.optima --starts {arguments.starts}")


if __name__ == "__main__":
    main()

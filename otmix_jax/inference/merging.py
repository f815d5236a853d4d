"""Components merged into clusters, by the entropy of the rows' memberships."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int, PyTree

from ..model import Mixture


@dataclasses.dataclass(frozen=True)
class Merges:
    """Clusters of components, from one up to K of them.

    Attributes:
        entropy: [k] in nats, of all rows: entropy[m - 1] is that of m clusters.
        groups: [k, k] groups[m - 1][j] is component j's cluster among m, numbered in the order of
            components; -1 of an absent component.
        labels: [k, n] labels[m - 1] are the rows' most probable clusters among m.
    """

    entropy: Float[np.ndarray, " k"]
    groups: Int[np.ndarray, "k k"]
    labels: Int[np.ndarray, "k n"]


def merge(mixture: Mixture, x: PyTree, sample_weight: Any = None) -> Merges:
    """Merges components two by two, each time those that lower the entropy of the rows most.

    With t_im the probability that row i is of cluster m, the entropy is -sum_im a_i t_im log t_im,
    and the density of the rows stays what it is. A bend in the entropies says how many clusters
    there are.

    Args:
        mixture: the fit, of as many components as the density wants (by BIC).
        x: [n, d] rows.
        sample_weight: [n], or None for 1 each.

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.

    Source: Baudry, Raftery, Celeux, Lo and Gottardo (2010), J. Comput. Graph. Statist. 19.
    """
    share = np.asarray(mixture.responsibilities(x), float)
    weight = np.ones(len(share)) if sample_weight is None else np.asarray(sample_weight, float)
    present = np.flatnonzero(np.asarray(mixture.log_weights) > -np.inf)
    members = [[j] for j in present.tolist()]
    columns = [share[:, j] for j in present]
    k, count = share.shape[1], len(present)
    entropy, groups = np.full(k, np.nan), np.full((k, k), -1)
    labels = np.full((k, len(share)), -1)
    own = [_entropy(column, weight) for column in columns]
    each = range(count)
    gain = np.array([[_gain(columns, own, weight, i, j) for j in each] for i in each])
    while True:
        m = len(columns)
        entropy[m - 1], labels[m - 1] = sum(own), np.argmax(np.stack(columns), axis=0)
        for number, group in enumerate(members):
            groups[m - 1, group] = number
        if m == 1:
            return Merges(entropy, groups, labels)
        i, j = np.unravel_index(np.argmax(gain), gain.shape)
        i, j = int(min(i, j)), int(max(i, j))
        columns[i], members[i] = columns[i] + columns[j], members[i] + members[j]
        own[i] = _entropy(columns[i], weight)
        del columns[j], members[j], own[j]
        gain = np.delete(np.delete(gain, j, 0), j, 1)
        row = [_gain(columns, own, weight, i, other) for other in range(m - 1)]
        gain[i], gain[:, i] = row, row


def _entropy(share: np.ndarray, weight: np.ndarray) -> float:
    return -float(weight @ (share * np.log(np.where(share > 0, share, 1))))


def _gain(columns: list, own: list, weight: np.ndarray, i: int, j: int) -> float:
    """By how much merging two clusters lowers the entropy; -inf of one with itself."""
    if i == j:
        return -np.inf
    return own[i] + own[j] - _entropy(columns[i] + columns[j], weight)

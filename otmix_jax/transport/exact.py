"""Optimal transport between a few atoms, exactly: shortest augmenting paths, on the host."""

import numpy as np
from jaxtyping import Float


def exact_plan(
    cost: Float[np.ndarray, "k l"], a: Float[np.ndarray, " k"], b: Float[np.ndarray, " l"]
) -> tuple[Float[np.ndarray, "k l"], Float[np.ndarray, " k"], Float[np.ndarray, " l"]]:
    """The least <C, P> over plans of margins a and b, and the potentials that prove it.

    u_i + v_j <= C_ij, with equality where P_ij > 0: so <C, P> = a.u + b.v, which no plan
    undercuts. Between equal masses the plan is a permutation, by the Hungarian method.

    Args:
        cost: [k, l]; that of a row or column without mass is not read for the plan.
        a: [k] masses >= 0.
        b: [l] masses >= 0 of the same sum, up to rounding.

    Returns:
        The plan, u and v; NaN where costs of atoms with mass are not finite.

    Source: Ahuja, Magnanti and Orlin (1993), Network Flows, section 9.7.
    """
    present = (a > 0)[:, None] & (b > 0)
    if not np.all(np.isfinite(cost[present])):
        return np.full(cost.shape, np.nan), np.full(len(a), np.nan), np.full(len(b), np.nan)
    c = np.where(present, cost, 0.0).astype(float)
    supply, demand, plan = a.astype(float), b.astype(float), np.zeros(c.shape)
    u, v = c.min(axis=1, initial=np.inf), np.zeros(len(b))
    # what is left of margins whose sums differ in the last digits
    least = len(a) * np.finfo(a.dtype).eps * max(supply.sum(), demand.sum())
    for row in np.flatnonzero(supply).tolist():
        while supply[row] > least and demand.max() > 0:
            _augment(row, c, u, v, plan, supply, demand)
    # of atoms without mass: what one would pay there
    full = np.where(np.isfinite(cost), cost, np.inf)
    u = np.where(a > 0, u, np.min(full - np.where(b > 0, v, -np.inf), axis=1))
    return plan, u, np.where(b > 0, v, np.min(full - np.where(a > 0, u, -np.inf)[:, None], axis=0))


def _augment(
    row: int,
    c: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    plan: np.ndarray,
    supply: np.ndarray,
    demand: np.ndarray,
) -> None:
    """Sends what fits from a row along the cheapest path, back over the plan where that pays."""
    distance, source = c[row] - u[row] - v, np.full(len(v), row)
    done, reached, came = np.zeros(len(v), bool), {row: 0.0}, {row: -1}
    while True:
        column = int(np.argmin(np.where(done, np.inf, distance)))
        length = distance[column]
        if demand[column] > 0:
            break
        done[column] = True
        for other in np.flatnonzero(plan[:, column]).tolist():
            if other not in reached:
                reached[other], came[other] = length, column
                further = length + c[other] - u[other] - v
                source = np.where(further < distance, other, source)
                distance = np.minimum(distance, further)
    for other, begun in reached.items():
        u[other] += length - begun
    v[done] -= length - distance[done]
    path, end = [], column
    while end >= 0:
        path.append((source[end], end))
        end = came[source[end]]
    # a row that the path came to by way of a column gives that column up
    back = [(i, came[i]) for i, _ in path[:-1]]
    amount = min([supply[row], demand[column], *(plan[edge] for edge in back)])
    for edge in path:
        plan[edge] += amount
    for edge in back:
        plan[edge] -= amount
    supply[row] -= amount
    demand[column] -= amount

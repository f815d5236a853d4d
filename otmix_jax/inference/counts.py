"""The rows as inference counts them, and the programs that they are worth."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from ..core.buckets import MOST, on_host, padded
from ..core.compiling import is_staged, is_traced
from ..core.reading import numbers
from ..engine import Engine, Reference, Tiled
from ..engine.engine import tile_size
from ..model import Mixture, Problem
from ..model.mixtures import rows_for

WORK = 2**24
"""Rows x columns x components x parameters up to which a Hessian is made in less time than a
program for it is made fast."""


def counted(
    mixture: Mixture, x: PyTree, sample_weight: Any = None, learn_weights: bool | None = None
) -> tuple[Problem, Array | float]:
    """The checked problem, and the total weight, which says how much information there is.

    Rows of the host go up to their bucket by absent ones, so that another number of rows is no
    other program.

    Raises:
        ValueError: for rows or weights that are not the mixture's, or not as many.
    """
    x = rows_for(mixture, x, sample_weight)
    given, n = sample_weight, jax.tree.leaves(x)[0].shape[0]
    if not (given is None or isinstance(given, Array)):
        # counted here: in a narrower type a problem's weights are in another unit
        given = np.asarray(numbers(given, "sample_weight"), float)
    if on_host(x) and n <= MOST and not is_traced((mixture, given)):
        weight = np.ones(n) if given is None else np.asarray(given, float)
        if weight.shape == (n,):  # others are refused below
            x, given = padded(x, weight)
    problem = Problem(x, given, learn_weights=learn_weights).checked(mixture)
    if given is None:
        return problem, float(n)
    return problem, float(given.sum()) if isinstance(given, np.ndarray) else jnp.sum(given)


def engine_of(mixture: Mixture, problem: Problem) -> Engine | None:
    """The engine whose program compiles soonest, where compiling takes longer than what is
    compiled; None where it does not, or where this is part of another program.
    """
    columns = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(problem.x))
    work = problem.n_rows * columns * mixture.n_components * mixture.n_parameters
    if work > WORK or is_traced((mixture, problem)) or is_staged():
        return None
    return Engine(Reference, Tiled(tile_size(Reference, mixture.components, problem.dtype)))

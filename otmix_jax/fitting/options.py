"""The options that `fit`, `fit_batch` and `select` share."""

import dataclasses
from collections.abc import Callable
from typing import Any

from ..core.tree import pytree, static
from ..model import Mixture
from ..transport.couplings import Coupling, SemiRelaxed


@pytree
class Goal:
    """What a fit minimises, beside the rows; by default it is maximum likelihood.

    Attributes:
        epsilon: entropy, >= 0; None is 1. 0 is hard assignment.
        coupling: `SemiRelaxed()`, `Penalized(rho, sizes)` or `Balanced(sizes)`.
        prior: on proportions and components, in the units of the rows: a `priors.Prior`, or one
            of its parts alone.
        ridge: strength of a weak prior on the covariances, relative to the data's own spread, so
            that units do not matter; 0 for none. None is plain maximum likelihood too, but no
            variance falls below the rounding of the rows, columns that say nothing are left out,
            and an answer that rests on that floor is COLLAPSED, where 0 ends in a `FitError`.
        learn_weights: False holds the proportions of the start; see `Problem`.
    """

    epsilon: float | None = None
    coupling: Coupling = SemiRelaxed()
    prior: Any = None
    ridge: float | None = None
    learn_weights: bool | None = static(default=None)


@dataclasses.dataclass(frozen=True)
class Starts:
    """Where fits start. By default `fit` and `select` race many starts of several kinds.

    Attributes:
        n_init: number of starts, each run to its end, of which the best is kept. None is a race in
            `fit` and `select` (see `fit`); it is 8 in `fit_batch`, with an `initializer`, and with
            a coupling other than `SemiRelaxed()`.
        initializer: a function like `initializers.kmeans`, the default of `fit` and `fit_batch`
            where there is no race; that of `select` is `kmeans_plus_plus`.
        initial: a mixture to start from, in the units of the rows, such as an earlier answer; then
            there is one start and no draw. `fit_batch` takes one with a leading axis, `select`
            one or several: further starts of a race, or, with `n_init`, in place of the first start
            of the candidate of their size.
    """

    n_init: int | None = None
    initializer: Callable[..., Mixture] | None = None
    initial: Any = None

"""The host edge: what `fit`, `fit_batch` and `select` refuse.

Every refusal says what was received, where, and what to do.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import PRNGKeyArray, PyTree

from ..core.noise import is_noisy
from ..core.reading import numbers, read_rows
from ..core.tree import index, is_plain, replace
from ..families import Description, Gaussian, Noisy, describe
from ..families.checks import check_columns, check_prior
from ..families.elliptical import structure
from ..families.repeated import Repeated, is_units
from ..model import Mixture
from ..priors import Prior
from ..solvers import Limits, Solver
from ..transport.couplings import Balanced, Coupling, Penalized
from . import given
from .cells import check_missing, checked_cells
from .options import Goal, Starts


def check_starts(starts: Starts, goal: Goal) -> int | None:
    """How many starts run to their end; None for a race.

    Raises:
        ValueError: for another number than an integer >= 1.
    """
    if starts.n_init is not None:
        n_init = check_count(starts.n_init, "n_init")
        return n_init if starts.initial is None else 1
    if starts.initial is not None:
        return 1
    free = getattr(goal.coupling, "free", False)  # what is no coupling is refused elsewhere
    return None if starts.initializer is None and free else 8


def check_goal(goal: Goal, n_components: int, family: Description) -> tuple[Goal, float | None]:
    """The goal with its numbers checked and its prior whole, and the ridge's strength, or None.

    Raises:
        ValueError: for numbers out of range.
        TypeError: for priors that the family has no use for.
    """
    entropy, coupling = check_epsilon(goal.epsilon), check_coupling(goal.coupling, n_components)
    if entropy == 0 and not coupling.free:
        raise ValueError("epsilon=0 goes with SemiRelaxed() alone: use a small epsilon")
    has_weak = _takes_ridge(family)
    if goal.ridge is not None and not has_weak:
        raise TypeError(f"{family} has no covariance for a ridge: leave ridge=None")
    strength = None if goal.ridge is None else check_number(goal.ridge, "ridge")
    prior = goal.prior and given.check_strengths(Prior.of(goal.prior))
    check_prior(family, prior)
    learns = goal.learn_weights
    if family.family.gated:
        if not coupling.free or learns or (prior is not None and prior.weights is not None):
            raise ValueError(
                f"{family} has proportions of its own, by covariates: leave out coupling, "
                "learn_weights and a prior on the weights"
            )
        learns = False
    return Goal(entropy, coupling, prior, goal.ridge, learns), strength


def _takes_ridge(family: Description) -> bool:
    return "covariance" in family.priors or any(map(_takes_ridge, family.parts.values()))


def check_family(
    family: Any, covariance: Any, initial: Any, n_components: Any, missing: Any = None
) -> Description:
    """What the fit is of, by name or by its start.

    Raises:
        ValueError: where a start is of another family, covariance or size, or no mixture.
        TypeError: where it is another object.
    """
    if initial is None:
        return check_missing(missing, describe(family, covariance))
    given.check_kind(initial)
    found = initial.components.described()
    if family is not None and describe(family).family is not found.family:
        raise ValueError(
            f"initial has {found.family.__name__} components, family is {describe(family)}"
        )
    own = getattr(initial.components, "inner", initial.components)
    if covariance is not None and not isinstance(own.covariance, structure(covariance)):
        raise ValueError(
            f"initial has {type(own.covariance).__name__} covariances, covariance={covariance!r}"
        )
    count = initial.log_weights.shape[-1]
    if n_components is not None and count != n_components:
        raise ValueError(f"initial has {count} components, but n_components={n_components}")
    if check_missing(missing, found) != found:
        raise ValueError(
            f"initial has {found.family.__name__} components of rows that miss no cells: start "
            'from an answer of a fit with missing="ignore"'
        )
    return found


def of_units(described: Description, x: Any) -> Description:
    """The family of units or of rows with noise, where these are such rows."""
    if not isinstance(x, dict):
        return described
    if is_noisy(x) and issubclass(described.family, Gaussian):
        return Noisy.of(described)
    return described if described.family is Repeated or not is_units(x) else Repeated.of(described)


def check_data(
    x: Any, sample_weight: Any, *families: Description, initial: Mixture | None = None
) -> tuple[PyTree, np.ndarray | None]:
    """The rows as the families take them, a floating table or a dict of columns, and the weights.

    Float32 is kept, other numbers of a table become float64, codes in a dict stay integers. What
    is on a device stays there. A data frame is a table, or a dict of its columns. A row of weight
    0 is absent: where it could not be fitted, it repeats a present one.

    Raises:
        TypeError: for tracers (use `solve`), and sparse matrices.
        ValueError: for anything that is not finite numbers, one row behind another; for rows of
            other columns than `initial` describes.
    """
    described, rows = families[0], x
    if not is_plain(x):
        told = {"table": described.table, "missing": any(one.missing for one in families)}
        rows = read_rows(x, sample_weight=sample_weight, **told)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(rows)):
        raise TypeError("fit cannot be traced: inside jit, vmap or grad use otmix_jax.solve")
    names = list(map(str, getattr(x, "columns", ())))
    weights = check_sample_weight(sample_weight, _check_shape(rows, described))
    if initial is not None:
        given.check_start(initial)
        check_columns(initial.components, rows)
    return described.reals(checked_cells(rows, weights, families, names)), weights


def settled(described: Description, rows: PyTree, weights: np.ndarray | None) -> Description:
    """The description with what it leaves to the rows that have weight."""
    if weights is not None and not weights.all():
        rows = index(rows, weights > 0)
    return described.of_rows(rows)


def _check_shape(rows: PyTree, described: Description) -> int:
    """The number of rows."""
    if isinstance(rows, dict):
        if described.table and not (described.family.beside and "x" in rows):
            raise ValueError(
                f"{described.family.__name__} takes one table of real numbers (n, d) as its rows, "
                f"not a dict of {sorted(rows)}; family=Product.of(...) takes one"
            )
        leaves = jax.tree_util.tree_leaves_with_path(rows)
        lengths = {jax.tree_util.keystr(path, simple=True): len(leaf) for path, leaf in leaves}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(f"the columns of x need one positive length, not {lengths}")
    elif hasattr(rows, "shape"):
        if rows.ndim != 2:
            hint = "; for one feature use x[:, None]" if rows.ndim == 1 else ""
            raise ValueError(f"x must have two dimensions (n, d), not shape {rows.shape}{hint}")
        if 0 in rows.shape:
            raise ValueError(
                f"x is empty: shape {rows.shape}; at least one row and column are needed"
            )
    return len(jax.tree.leaves(rows)[0])


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights as a float64 [n] array, or None.

    Raises:
        ValueError: unless there are n finite weights >= 0, one of them > 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(
        sample_weight if is_plain(sample_weight) else numbers(sample_weight, "sample_weight")
    )
    if weights.shape != (n,):
        raise ValueError(
            f"sample_weight must be {n} numbers, one per row of x, not shape {weights.shape}"
        )
    weights = weights.astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"sample_weight must be finite and >= 0, but {bad.sum()} are not, the first "
            f"({weights[row]}) at row {row}; use 0 to leave a row out"
        )
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one must be positive")
    # by the largest: sums neither over- nor underflow, whatever the unit of the weights
    return weights / weights.max()


def check_count(value: Any, name: str, least: int = 1) -> int:
    """An integer >= least.

    Raises:
        ValueError: for anything else, booleans and floats included.
    """
    # True is an int to Python
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        meant = f": pass {int(value)}" if whole else f", such as {least + 2}"
        raise ValueError(f"{name} must be an integer >= {least}{meant}, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, not {value}")
    return int(value)


def check_components(n_components: Any, row_weight: np.ndarray | None, n: int) -> int:
    """K, at most the number of rows that have weight.

    Raises:
        ValueError: unless 1 <= n_components <= rows present.
    """
    count = check_count(n_components, "n_components")
    present = n if row_weight is None else int(np.count_nonzero(row_weight))
    if count > present:
        raise ValueError(
            f"n_components={count} exceeds the {present} rows with positive weight: "
            "lower n_components"
        )
    return count


def check_number(value: Any, name: str) -> float:
    """A finite number >= 0.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, int | float | np.number | np.ndarray | Array) or not (
        np.ndim(value) == 0 and np.isfinite(value) and value >= 0
    ):
        raise ValueError(f"{name} must be a finite number >= 0, not {value!r}")
    return float(value)


def check_epsilon(epsilon: Any) -> float | None:
    """None, or a finite number >= 0; warns above 1.

    Raises:
        ValueError: for anything else.
    """
    if epsilon is None:
        return None
    value = check_number(epsilon, "epsilon")
    if value > 1:
        warnings.warn(
            f"epsilon={value} > 1 with learned covariances draws components together: where all "
            "are one, every direction of the means grows at 1/epsilon < 1 and EM cannot leave. "
            "Use epsilon <= 1, or fixed covariances.",
            UserWarning,
            stacklevel=3,
        )
    return value


def check_sizes(sizes: Any, n_components: int) -> np.ndarray | None:
    """Target sizes as [k] positive numbers, or None.

    Raises:
        ValueError: for anything else.
    """
    if sizes is None:
        return None
    try:
        found = np.asarray(sizes, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"sizes must be {n_components} numbers, not {sizes!r}") from None
    if found.shape != (n_components,) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"sizes must be {n_components} finite numbers > 0, one per component, not {sizes!r}"
        )
    return found


def check_coupling(coupling: Any, n_components: int) -> Coupling:
    """The coupling with its numbers checked.

    Raises:
        ValueError: for numbers out of range.
        TypeError: for a coupling's class, or anything else.
    """
    if not isinstance(coupling, Coupling):
        raise TypeError(f"coupling must be an instance, such as Balanced(), not {coupling!r}")
    if isinstance(coupling, Penalized):
        rho = check_number(coupling.rho, "rho")  # inf: Balanced() says what becomes of EM
        return Penalized(rho, check_sizes(coupling.sizes, n_components))
    if isinstance(coupling, Balanced):
        return Balanced(check_sizes(coupling.sizes, n_components))
    return coupling


def check_limits(limits: Limits) -> Limits:
    """The limits with their numbers checked."""
    tolerance = limits.tolerance
    tolerance = tolerance if tolerance is None else check_number(tolerance, "tolerance")
    steps, gap = (
        check_count(limits.max_steps, "max_steps", least=0),
        check_number(limits.gap, "gap"),
    )
    return replace(limits, tolerance=tolerance, max_steps=steps, gap=gap)


def check_key(key: Any) -> PRNGKeyArray:
    """A typed key, from an integer seed or a raw key too.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
        raise ValueError(f"key must be one key, not an array of them of shape {key.shape}")
    if isinstance(key, Array | np.ndarray) and key.dtype == np.uint32:
        like = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        if key.shape == like.shape:
            return jax.random.wrap_key_data(jnp.asarray(key))
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and abs(key) < 2**63:
        return jax.random.key(int(key))
    raise ValueError(f"key must be an integer seed such as 0, or jax.random.key(0), not {key!r}")


def check_generator(key: Any) -> np.random.Generator:
    """What the host draws from, by an integer seed or a key; an integer compiles nothing.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and abs(key) < 2**63:
        # as the key of this seed holds it
        return np.random.default_rng([int(key) >> 32 & 0xFFFFFFFF, int(key) & 0xFFFFFFFF])
    return np.random.default_rng(np.asarray(jax.random.key_data(check_key(key))))


def check_solver(solver: Any) -> None:
    """An instance.

    Raises:
        TypeError: for a class, or anything else.
    """
    if not isinstance(solver, Solver):
        name = getattr(solver, "__name__", None)
        meant = f": pass an instance, {name}()" if name and isinstance(solver, type) else ""
        raise TypeError(f"solver must be a Solver such as EM(), not {solver!r}{meant}")

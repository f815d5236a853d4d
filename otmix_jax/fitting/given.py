"""What a user gives beside the rows, priors and starts, and what of it is refused."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..core.reading import numbers
from ..core.tree import index
from ..families import FACTOR, NESTED, POSITIVE, SIMPLEX, UNIT, Description
from ..families.checks import check_columns
from ..families.coordinates import learned
from ..families.elliptical import structure
from ..model import Mixture
from ..priors import Prior


def check_strengths(prior: Prior | None) -> Prior | None:
    """The prior with its lists as arrays.

    Raises:
        ValueError: for a number that is not finite, or negative but in a centre, and a matrix that
            is not positive definite.
    """

    def checked(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        found = numbers(leaf, f"prior.{name}")
        values, spread = np.asarray(found), name.endswith("covariance.variance")
        signed = name.endswith("centre") or (spread and values.ndim == 2)
        if not (np.isfinite(values) & (signed | (values >= 0))).all():
            kind = "" if signed else " and >= 0"
            raise ValueError(f"prior.{name} must be finite{kind}, not {leaf!r}")
        if spread:
            _check_spread(values, f"prior.{name}")
        return found if isinstance(leaf, list | tuple) else leaf

    return jax.tree_util.tree_map_with_path(
        checked, prior, is_leaf=lambda node: isinstance(node, list | tuple)
    )


def _check_spread(spread: np.ndarray, name: str) -> None:
    """Refuses what is neither variances nor a covariance, by its first entry that is wrong."""
    if spread.ndim == 1:
        none = np.flatnonzero(spread == 0)
        if len(none):
            raise ValueError(f"{name} must be > 0, which column {none[0]} is not: {spread}")
        return
    if spread.ndim != 2 or len(spread) != len(spread.T):
        raise ValueError(f"{name} must be of shape (d,) or (d, d), not {spread.shape}")
    scale = np.sqrt(np.abs(np.diagonal(spread)))
    unit = np.outer(scale, scale)
    unequal = np.argwhere(np.abs(spread - spread.T) > 1e-5 * unit)
    if len(unequal):
        i, j = unequal[0]
        raise ValueError(
            f"{name} must be symmetric, but [{i}, {j}] is {spread[i, j]} and [{j}, {i}] "
            f"{spread[j, i]}: take half the sum of it and its transpose"
        )
    correlation = spread / np.where(unit > 0, unit, 1)
    # that of rows which follow from others is singular but for rounding
    least = 16 * len(spread) * np.finfo(correlation.dtype).eps

    def singular(d: int) -> bool:
        return bool(np.linalg.eigvalsh(correlation[:d, :d])[0] <= least)

    if singular(len(spread)):
        first = next(i for i in range(len(spread)) if singular(i + 1))
        raise ValueError(
            f"{name} must be positive definite, but column {first} has no variance left beside "
            "those before it: add to the diagonal, or leave out columns that follow from others"
        )


def check_kind(initial: Any) -> None:
    """Refuses what is no mixture.

    Raises:
        TypeError: saying what it is.
    """
    if not isinstance(initial, Mixture):
        raise TypeError(
            "initial must be a Mixture, such as the mixture of a solution, not "
            f"{type(initial).__name__}"
        )


def check_start(initial: Mixture, name: str = "initial") -> None:
    """Refuses a start that is no mixture of regular components.

    Raises:
        ValueError: naming the component and the parameter.
    """
    shape = np.shape(initial.log_weights)
    if len(shape) != 1:
        raise ValueError(
            f"{name} is a batch, its proportions have shape {shape}: take one, such as "
            "batch[0].mixture"
        )
    with np.errstate(over="ignore"):
        weights = np.exp(np.asarray(initial.log_weights, np.float64))
    if not abs(weights.sum() - 1) < 1e-3:  # false for NaN too
        raise ValueError(
            f"{name} has proportions {weights}, which must be >= 0 and of sum 1: "
            "Mixture.from_weights divides by the sum"
        )
    _check_parameters(initial.components, weights > 0, name, "")
    mean = getattr(initial.components, "mean", None)
    if mean is not None and len(weights) > 1 and not np.ptp(np.asarray(mean), axis=0).any():
        warnings.warn(
            f"{name} has {len(weights)} components whose means are all alike: no step can tell "
            "them apart by their means, so they stay so; move them, or leave the start out",
            UserWarning,
            stacklevel=5,
        )


def _check_parameters(components: Any, present: np.ndarray, name: str, prefix: str) -> None:
    own = components
    while hasattr(own, "inner"):  # a law within another, such as a frozen one
        own = own.inner
    parts = getattr(own, "parts", {})
    # components of different kinds, each in its place; else each part has all of them
    places = getattr(own, "slices", [slice(None)] * len(parts))
    for (part, parameters), mine in zip(parts.items(), places, strict=True):
        _check_parameters(parameters, present[mine], name, f"{prefix}{part}.")
    if not hasattr(own, "parts"):
        _check_fields(own, present, name, prefix)
    if isinstance(getattr(own, "mean", None), np.ndarray | jax.Array) and hasattr(
        own, "covariance"
    ):
        _check_fit(own, name, prefix)


def _check_fields(own: Any, present: np.ndarray, name: str, prefix: str) -> None:
    for field in learned(own):
        value, domain = getattr(own, field.name), field.metadata["domain"]
        path = prefix + field.name
        if domain is NESTED:
            _check_fields(value, present, name, f"{path}.")
            continue
        value = np.asarray(value)
        axes, shared = field.metadata["axes"], field.metadata["shared"]
        wanted = axes if shared else axes + 1
        if value.ndim != wanted or not (shared or len(value) == len(present)):
            leading = "" if shared else f", the first of length {len(present)}"
            raise ValueError(
                f"{name}: {path} must have {wanted} axes{leading}, not shape {value.shape}"
            )
        each = value[None] if shared else value
        for number, one in enumerate(each):
            wrong = _wrong(np.asarray(one), domain) if shared or present[number] else ""
            if wrong:
                whose = "all components" if shared else f"component {number}"
                raise ValueError(f"{name}: {path} of {whose} {wrong}, not {one.tolist()}")


def _wrong(value: np.ndarray, domain: Any) -> str:
    """What a parameter must be, and is not."""
    if domain is FACTOR:
        square = value.shape[-1] == value.shape[-2]
        lower = square and not np.triu(value, 1).any() and (np.diagonal(value) > 0).all()
        if not lower or not np.isfinite(value).all():
            return (
                "must be the lower-triangular factor of a positive definite matrix, with a "
                "positive diagonal (from_matrices makes it of a covariance)"
            )
    if not np.isfinite(value).all():
        return "must be finite"
    if domain is POSITIVE and not (value > 0).all():
        return "must be > 0"
    if domain is UNIT and not ((value >= 0) & (value <= 1)).all():
        return "must be a probability, from 0 to 1"
    if domain is SIMPLEX and not (
        (value >= 0).all() and (abs(value.sum(axis=-1) - 1) < 1e-3).all()
    ):
        return "must be probabilities, >= 0 and of sum 1"
    return ""


def _check_fit(own: Any, name: str, prefix: str) -> None:
    """The covariance is as wide as the mean."""
    count, width = np.shape(own.mean)
    matrices = jax.ShapeDtypeStruct((count, width, width), own.mean.dtype)
    wanted = jax.eval_shape(type(own.covariance).from_matrices, matrices)
    for (path, leaf), like in zip(
        jax.tree_util.tree_leaves_with_path(own.covariance), jax.tree.leaves(wanted), strict=True
    ):
        if np.shape(leaf) != like.shape:
            field = jax.tree_util.keystr(path, simple=True)
            raise ValueError(
                f"{name}: {prefix}covariance.{field} has shape {np.shape(leaf)}, but "
                f"{prefix}mean of shape {np.shape(own.mean)} goes with {like.shape}"
            )


def check_starts(initial: Any, counts: Sequence[int], families: Any, rows: PyTree) -> None:
    """Refuses starts of `select` that would start no candidate.

    Raises:
        ValueError: for another number of components, family, or columns.
    """
    for number, one in enumerate(initial if isinstance(initial, Sequence) else [initial]):
        name = f"initial[{number}]" if isinstance(initial, Sequence) else "initial"
        check_kind(one)
        check_start(one, name)
        if one.n_components not in counts:
            raise ValueError(
                f"{name} has {one.n_components} components, but n_components are {list(counts)}"
            )
        if not any(starts(one.components, family) for family in families):
            raise ValueError(
                f"{name} has components {type(one.components).__name__}, which are none of "
                f"{', '.join(map(str, families))}"
            )
        check_columns(one.components, rows)


def starts(components: Any, family: Description) -> bool:
    """Whether components are of a family, and of its covariance structure."""
    kind = dict(family.options).get("covariance")
    alike = type(components) is family.family
    return alike and (kind is None or isinstance(components.covariance, structure(kind)))  # type: ignore[arg-type]


def check_leading(initial: Mixture, n_sets: int, blank: PyTree) -> None:
    """Refuses starts of a batch that are not one for each data set, by shapes alone.

    Raises:
        ValueError: for another number of them, or of columns.
    """
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in jax.tree.leaves(initial)}
    if np.ndim(initial.log_weights) != 2 or lengths != {n_sets}:
        raise ValueError(
            f"initial needs a leading axis of {n_sets} data sets in every array, as batch.mixture "
            f"has; its proportions have shape {np.shape(initial.log_weights)}"
        )
    if n_sets:
        check_columns(index(initial.components, 0), blank)

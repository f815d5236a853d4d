"""Covariance structures that are one and the same of one column: each is fitted once."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from ..core.tree import replace, shape_of
from ..families import Description
from ..families.covariance import Covariance
from ..families.elliptical import structure


@functools.cache
def _varies(kind: type[Covariance]) -> bool:
    """Whether each component has a variance of its own: all that a structure says of one column."""
    two = jax.eval_shape(kind.from_matrices, shape_of((2, 1, 1), float))
    return two.n_parameters > 1


def model(family: Description) -> Any:
    """What a description is of one column; equal for those that are one model."""
    options = dict(family.options)
    kind: Any = options.pop("covariance", None)
    told = None if kind is None else _varies(structure(kind))
    return family.family, tuple(options.items()), told


def distinct(families: Sequence[Description]) -> list[Description]:
    """The first description of each model."""
    return list({model(one): one for one in reversed(families)}.values())[::-1]


def repeated(candidates: Sequence[Any], families: Sequence[Description]) -> list[Any]:
    """The candidates of all families, from those of the distinct ones."""
    found = []
    for family in families:
        for one in candidates:
            if model(one.family) == model(family):
                found.append(one if one.family == family else _as_member(one, family))
    return found


def _as_member(one: Any, family: Description) -> Any:
    """The same law, of another structure; it took no time."""
    kind: Any = structure(dict(family.options)["covariance"])  # type: ignore[arg-type]
    solution = one.solution
    components = solution.mixture.components
    components = replace(components, covariance=kind.from_matrices(components.matrices()))
    solution = replace(solution, mixture=replace(solution.mixture, components=components))
    return dataclasses.replace(one, family=family, solution=solution, seconds=0.0)

"""What components refuse: rows of other columns than they describe, priors that they would drop."""

import dataclasses
from typing import Any

from jaxtyping import PyTree

from ..priors import Prior
from .family import Description


def check_columns(components: Any, x: PyTree) -> None:
    """Refuses rows of other columns than components describe, by names and shapes alone.

    Raises:
        ValueError: saying what there is, and what there should be.
    """
    own = getattr(components, "check_columns", None)
    if own is not None:  # a law that reads rows in its own way
        own(x)
        return
    if components.table:
        _check_width(components, x)
        return
    # a family of one's own need not have parts, and then reads its columns as it likes
    parts = getattr(components, "parts", None)
    if parts is None:
        return
    if not isinstance(x, dict) or set(x) != set(parts):
        have = sorted(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"the rows must be a dict of {sorted(parts)}, not {have}")
    for name, part in parts.items():
        column = x[name]
        single = getattr(column, "ndim", 0) == 1
        try:
            check_columns(part, column[:, None] if single else column)
        except ValueError as error:
            raise ValueError(f"part {name!r}: {error}") from None


def _check_width(components: Any, x: PyTree) -> None:
    if isinstance(x, dict) and components.beside and "x" in x:
        _check_width(components, x["x"])
        return
    if isinstance(x, dict):
        raise ValueError(
            f"{type(components).__name__} takes one table of real numbers (n, d) as its rows, not "
            f"a dict of {sorted(x)}"
        )
    width, shape = components.n_features, getattr(x, "shape", None)
    if shape is None:  # a tree of a family's own
        return
    if len(shape) != 2:
        hint = "; for one feature use x[:, None], for one row x[None, :]" if len(shape) == 1 else ""
        raise ValueError(f"x must have two dimensions (n, d), not shape {shape}{hint}")
    if width is not None and shape[1] != width:
        raise ValueError(f"rows have {shape[1]} columns, the mixture {width}")


def check_prior(family: Any, prior: Prior | None) -> None:
    """Refuses a prior that would be dropped by components, or by what a description makes.

    Raises:
        TypeError: for a part of it that the family has no use for.
    """
    if prior is None:
        return
    parts = {field.name: getattr(prior, field.name) for field in dataclasses.fields(prior)}
    given = {name for name, part in parts.items() if part is not None} - {"weights"}
    for name in given - family.priors:
        raise TypeError(
            f"{family if isinstance(family, Description) else type(family).__name__} has no use "
            f"for a prior on its {name}; it takes "
            f"{', '.join(sorted(family.priors)) or 'none'} beside the weights'"
        )
    for name, part in (prior.parts or {}).items():
        if name not in family.parts:
            raise TypeError(f"the prior's part {name!r} is none of {sorted(family.parts)}")
        check_prior(family.parts[name], part)

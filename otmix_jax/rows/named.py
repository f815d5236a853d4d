"""Rows that know what their columns are called."""

from typing import Any

import jax


class Named(dict):
    """A dict of columns, as families take it, with names for tables of coefficients.

    Attributes:
        names: of the features.
        shared_names: of the features whose effects all components share.
        response: of the response.
        units: of the units of repeated measurements, in order; None where rows are single.
    """

    def __init__(
        self,
        columns: dict[str, Any],
        names: tuple[str, ...] = (),
        shared_names: tuple[str, ...] = (),
        response: str = "y",
        units: Any = None,
    ):
        super().__init__(columns)
        self.names, self.shared_names, self.response = tuple(names), tuple(shared_names), response
        self.units = units


def _flatten(rows: Named) -> tuple[tuple, tuple]:
    keyed = tuple((jax.tree_util.DictKey(name), rows[name]) for name in sorted(rows))
    return keyed, (tuple(sorted(rows)), rows.names, rows.shared_names, rows.response)


def _unflatten(kept: tuple, columns: Any) -> Named:
    keys, *names = kept
    return Named(dict(zip(keys, columns, strict=True)), *names)


jax.tree_util.register_pytree_with_keys(Named, _flatten, _unflatten)

"""Units of repeated measurements."""

from typing import Any

import jax
import numpy as np

from ..core.reading import read_rows
from .named import Named


def repeated(x: Any, groups: Any) -> Named:
    """Rows as units whose rows share a component, for `families.Repeated`.

    Args:
        x: rows, as `fit` takes them.
        groups: [n] the unit of each row: any labels.

    Returns:
        {"rows": [u, m, ...] of each column, "present": [u, m]}, the units in the order in which
        they first appear, m the rows of the largest; `units` holds their labels. Smaller units are
        filled up by copies of their first row, where `present` is 0.

    Raises:
        ValueError: unless there is one label for each row.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rows = om.rows.repeated(np.arange(3.0)[:, None], ["b", "a", "b"])
        >>> rows["present"].tolist(), rows["rows"][:, :, 0].tolist()
        ([[1.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]])
    """
    columns = jax.tree.map(np.asarray, read_rows(x))
    labels = np.asarray(groups)
    n = len(jax.tree.leaves(columns)[0])
    if labels.shape != (n,):
        raise ValueError(f"groups must be {n} labels, one per row, not shape {labels.shape}")
    found, first, owner = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    owner = rank[owner]
    order = np.argsort(owner, kind="stable")
    count = np.bincount(owner)
    begins = np.cumsum(count) - count
    place = np.arange(count.max())
    present = place < count[:, None]
    which = order[begins[:, None] + np.where(present, place, 0)]
    names = getattr(x, "names", ()), getattr(x, "shared_names", ()), getattr(x, "response", "y")
    units = {"rows": jax.tree.map(lambda leaf: leaf[which], columns), "present": present * 1.0}
    return Named(units, *names, units=found[np.argsort(first)])

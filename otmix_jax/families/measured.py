"""The frame of rows with noise: one of the vectors behind them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core.tree import pytree, static
from .coordinates import Affine


@pytree
class Measured(Affine):
    """An affine frame of the vectors behind the rows.

    Attributes:
        origin: see `Affine`.
        unit: see `Affine`.
        share: [d] of the rows that have a cell, for each column; None is all of them.
        projected: whether rows see the vectors through projections: then x keeps its units.
    """

    share: Any = None
    projected: bool = static(default=False)

    def into(self, x: Any) -> Any:
        """See `Frame.into`; a table is one of vectors."""
        if not isinstance(x, dict):
            return super().into(x)
        unit, noise = self.columns, x["covariance"]
        if not self.projected:
            square = unit**2
            if noise.ndim == 3 and np.ndim(unit):
                square = unit[..., :, None] * unit[..., None, :]
            return {"x": super().into(x["x"]), "covariance": noise / square}
        told = x["projection"]
        shift = (told * self.origin[..., None, :]).sum(axis=-1)
        unit = unit[..., None, :] if np.ndim(unit) else unit
        return dict(x) | {"x": x["x"] - shift, "projection": told * unit}

    @property
    def log_volume(self) -> Any:
        """See `Frame.log_volume`: of the cells that are there; none where x keeps its units."""
        if self.projected:
            return 0 * jnp.sum(self.log_units, axis=-1)
        counted = self.log_units if self.share is None else self.share * self.log_units
        return jnp.sum(counted, axis=-1)

    @property
    def inverse(self) -> "Measured":
        """See `Frame.inverse`."""
        back = super().inverse
        return Measured(back.origin, back.unit, self.share, projected=self.projected)

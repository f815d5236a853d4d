"""Covariance structures: a name, a class, one small file for each kind."""

from .axis_aligned import Diagonal as Diagonal
from .axis_aligned import Spherical as Spherical
from .base import Covariance as Covariance
from .full import Full as Full
from .full import Tied as Tied
from .projected import Projected as Projected

STRUCTURES: dict[str, type[Covariance]] = {
    "full": Full,
    "tied": Tied,
    "diagonal": Diagonal,
    "spherical": Spherical,
}
"""Structures by name."""

"""Covariance structures: a name, a class, one small file for each kind."""

from .axis_aligned import Diagonal as Diagonal
from .axis_aligned import Spherical as Spherical
from .base import Covariance as Covariance
from .full import Full as Full
from .full import Tied as Tied
from .oriented import EEV as EEV
from .oriented import EVE as EVE
from .oriented import VEV as VEV
from .oriented import VVE as VVE
from .projected import Projected as Projected
from .proportional import EVV as EVV
from .proportional import VEE as VEE
from .shared_diagonal import EEI as EEI
from .shared_diagonal import EII as EII
from .shared_diagonal import EVI as EVI
from .shared_diagonal import VEI as VEI

STRUCTURES: dict[str, type[Covariance]] = {
    "full": Full,
    "tied": Tied,
    "diagonal": Diagonal,
    "spherical": Spherical,
    "EII": EII,
    "VII": Spherical,
    "EEI": EEI,
    "VEI": VEI,
    "EVI": EVI,
    "VVI": Diagonal,
    "EEE": Tied,
    "VEE": VEE,
    "EVE": EVE,
    "VVE": VVE,
    "EEV": EEV,
    "VEV": VEV,
    "EVV": EVV,
    "VVV": Full,
}
"""Structures by name: four of our own, and mclust's, of which these are aliases. Three letters say
of volume, shape and orientation whether they are Equal, Variable or the Identity."""

"""Four covariance structures behind one contract; a family asks, it never branches on which."""

from .axis_aligned import Diagonal as Diagonal
from .axis_aligned import Spherical as Spherical
from .base import CentredSums as CentredSums
from .base import Covariance as Covariance
from .base import Ridge as Ridge
from .full import Full as Full
from .full import Tied as Tied

STRUCTURES: dict[str, type[Covariance]] = {
    "full": Full,
    "tied": Tied,
    "diagonal": Diagonal,
    "spherical": Spherical,
}

"""Solvers: in which order to sweep and to move the proportions and the parameters."""

from .base import Progress as Progress
from .base import Solver as Solver
from .em import EM as EM
from .gradient import Gradient as Gradient
from .squarem import Squarem as Squarem
from .staged import Annealed as Annealed
from .staged import BalancedStart as BalancedStart

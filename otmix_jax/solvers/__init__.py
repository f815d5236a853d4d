"""Solvers: in which order to sweep and to move the proportions and the parameters."""

from .em import EM as EM
from .gradient import Gradient as Gradient
from .incremental import Incremental as Incremental
from .loop import Limits as Limits
from .loop import Progress as Progress
from .loop import Solver as Solver
from .online import OnlineStart as OnlineStart
from .quasi_newton import QuasiNewton as QuasiNewton
from .squarem import Squarem as Squarem
from .staged import Annealed as Annealed
from .staged import BalancedStart as BalancedStart

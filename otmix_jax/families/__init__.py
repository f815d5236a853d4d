"""Component families, and the covariance structures that they share."""

from .base import Family as Family
from .covariance import STRUCTURES as STRUCTURES
from .covariance import Covariance as Covariance
from .covariance import Diagonal as Diagonal
from .covariance import Full as Full
from .covariance import Ridge as Ridge
from .covariance import Spherical as Spherical
from .covariance import Tied as Tied
from .frozen import Frozen as Frozen
from .gaussian import Gaussian as Gaussian
from .natural import NaturalForm as NaturalForm

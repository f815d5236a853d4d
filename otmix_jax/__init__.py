"""Mixture models as optimal transport, in JAX."""

from . import adjoints as adjoints
from . import datasets as datasets
from . import families as families
from . import inference as inference
from . import initializers as initializers
from . import solvers as solvers
from . import transport as transport
from ._version import __version__ as __version__
from .fit import ConvergenceWarning as ConvergenceWarning
from .fit import FitError as FitError
from .fit import fit as fit
from .inference import standard_errors as standard_errors
from .likelihood import negative_log_likelihood as negative_log_likelihood
from .mixture import Mixture as Mixture
from .problem import Problem as Problem
from .solution import Solution as Solution
from .solve import solve as solve
from .status import Status as Status
from .transport import couplings as couplings

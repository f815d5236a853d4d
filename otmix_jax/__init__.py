"""Mixture models as optimal transport, in JAX."""

from . import adjoints as adjoints
from . import datasets as datasets
from . import engine as engine
from . import families as families
from . import initializers as initializers
from . import priors as priors
from . import solvers as solvers
from . import transport as transport
from ._version import __version__ as __version__
from .batch import Batch as Batch
from .batch import fit_batch as fit_batch
from .explain import Explanation as Explanation
from .explain import explain as explain
from .fit import ConvergenceWarning as ConvergenceWarning
from .fit import FitError as FitError
from .fit import fit as fit
from .likelihood import negative_log_likelihood as negative_log_likelihood
from .mixture import Mixture as Mixture
from .problem import Problem as Problem
from .selection import Choice as Choice
from .selection import select as select
from .solution import Solution as Solution
from .solve import solve as solve
from .status import Status as Status
from .transport import couplings as couplings

"""Mixture models as optimal transport, in JAX."""

from . import adjoints as adjoints
from . import datasets as datasets
from . import engine as engine
from . import families as families
from . import inference as inference
from . import initializers as initializers
from . import priors as priors
from . import rows as rows
from . import solvers as solvers
from . import transport as transport
from . import variational as variational
from ._version import __version__ as __version__
from .core.cache import compilation_cache as compilation_cache
from .core.cache import from_environment as _cache_from_environment
from .core.status import Status as Status
from .fitting import Absorbed as Absorbed
from .fitting import Batch as Batch
from .fitting import Choice as Choice
from .fitting import ConvergenceWarning as ConvergenceWarning
from .fitting import FitError as FitError
from .fitting import Goal as Goal
from .fitting import Starts as Starts
from .fitting import absorb as absorb
from .fitting import absorbing as absorbing
from .fitting import fit as fit
from .fitting import fit_batch as fit_batch
from .fitting import select as select
from .fitting import solve as solve
from .inference import standard_errors as standard_errors
from .infinite import npmle as npmle
from .infinite import proportions as proportions
from .model import Explanation as Explanation
from .model import Mixture as Mixture
from .model import Objective as Objective
from .model import Problem as Problem
from .model import Solution as Solution
from .model import certificate as certificate
from .model import explain as explain
from .model import negative_log_likelihood as negative_log_likelihood
from .model import plan as plan
from .solvers import Limits as Limits
from .transport import couplings as couplings
from .variational import fit_variational as fit_variational

_cache_from_environment()

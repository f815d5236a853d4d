"""Mixture models as optimal transport, in JAX. What is named here is loaded at its first use."""

import os as _os
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__ as __version__

# what type checkers read, and by what a test holds the table below
if _TYPE_CHECKING:
    from . import adjoints as adjoints
    from . import convert as convert
    from . import datasets as datasets
    from . import engine as engine
    from . import families as families
    from . import inference as inference
    from . import infinite as infinite
    from . import initializers as initializers
    from . import plot as plot
    from . import priors as priors
    from . import rows as rows
    from . import sklearn as sklearn
    from . import solvers as solvers
    from . import transport as transport
    from . import variational as variational
    from .core.cache import compilation_cache as compilation_cache
    from .core.files import load as load
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

_ROOMS = (
    *("adjoints", "convert", "datasets", "engine", "families", "inference", "infinite"),
    *("initializers", "plot", "priors", "rows", "sklearn", "solvers", "transport", "variational"),
)
_INNER = ("core", "fitting", "model")
_PLACES = {
    ".core.cache": ("compilation_cache",),
    ".core.files": ("load",),
    ".core.status": ("Status",),
    ".fitting": (
        *("Absorbed", "Batch", "Choice", "ConvergenceWarning", "FitError", "Goal", "Starts"),
        *("absorb", "absorbing", "fit", "fit_batch", "select", "solve"),
    ),
    ".inference": ("standard_errors",),
    ".infinite": ("npmle", "proportions"),
    ".model": (
        *("Explanation", "Mixture", "Objective", "Problem", "Solution"),
        *("certificate", "explain", "negative_log_likelihood", "plan"),
    ),
    ".solvers": ("Limits",),
    ".transport": ("couplings",),
    ".variational": ("fit_variational",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = ["__version__", *_ROOMS, *_PLACE_OF]  # noqa: PLE0604  # pyright: ignore

if _os.environ.get("OTMIX_JAX_CACHE"):  # whatever else is compiled is to be kept from here on
    _import_module(".core", __name__)


def __getattr__(name: str) -> object:
    if name in _ROOMS or name in _INNER:
        return _import_module(f".{name}", __name__)
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(_import_module(_PLACE_OF[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)

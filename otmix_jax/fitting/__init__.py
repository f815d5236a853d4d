"""Fitting: one data set, many of them, and the choice of a model."""

from .batches import Batch as Batch
from .choices import Candidate as Candidate
from .choices import Choice as Choice
from .control import Report as Report
from .many import fit_batch as fit_batch
from .options import Goal as Goal
from .options import Starts as Starts
from .selection import select as select
from .single import ConvergenceWarning as ConvergenceWarning
from .single import FitError as FitError
from .single import fit as fit
from .solving import solve as solve
from .streams import Absorbed as Absorbed
from .streams import absorb as absorb
from .streams import absorbing as absorbing

"""Many fits at once: ragged data sets and their restarts as lanes of one computation."""

from .fit_batch import fit_batch as fit_batch
from .result import Batch as Batch
from .result import Starts as Starts

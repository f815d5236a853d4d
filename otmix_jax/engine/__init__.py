"""One pass over the rows: the Sweep, its kernels and its executions."""

from .execution import Dense as Dense
from .execution import Execution as Execution
from .kernels import Kernel as Kernel
from .kernels import Reference as Reference
from .sweep import Columns as Columns
from .sweep import DualSweep as DualSweep
from .sweep import Sweep as Sweep

"""One pass over the rows: what it yields, its kernels, its executions, and which to take."""

from .choice import Engine as Engine
from .choice import choose as choose
from .execution import Dense as Dense
from .execution import Execution as Execution
from .execution import Tiled as Tiled
from .kernels import Entrywise as Entrywise
from .kernels import Guarded as Guarded
from .kernels import Kernel as Kernel
from .kernels import Moment as Moment
from .kernels import Ready as Ready
from .kernels import Reference as Reference
from .rows import Rows as Rows
from .sweep import Columns as Columns
from .sweep import DualSweep as DualSweep
from .sweep import Sweep as Sweep

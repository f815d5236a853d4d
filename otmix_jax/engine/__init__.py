"""One pass over the rows: what a tile yields, how tiles are summed, and which of both to take."""

from .engine import Dense as Dense
from .engine import Engine as Engine
from .engine import Execution as Execution
from .engine import Rows as Rows
from .engine import Tiled as Tiled
from .engine import choose as choose
from .engine import finite_rows as finite_rows
from .engine import read as read
from .engine import rows_of as rows_of
from .entrywise import Entrywise as Entrywise
from .kernels import Columns as Columns
from .kernels import DualSweep as DualSweep
from .kernels import Guarded as Guarded
from .kernels import Kernel as Kernel
from .kernels import Linear as Linear
from .kernels import Reference as Reference
from .kernels import Sweep as Sweep
from .passes import dual as dual
from .passes import sweep as sweep
from .passes import value as value

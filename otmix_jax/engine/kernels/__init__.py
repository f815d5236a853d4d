"""Kernels: what one tile of rows yields."""

from .base import Kernel as Kernel
from .base import Ready as Ready
from .entrywise import Entrywise as Entrywise
from .guarded import Guarded as Guarded
from .moment import Moment as Moment
from .reference import Reference as Reference

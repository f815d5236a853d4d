"""Kernels: one tile of rows to one Sweep."""

from .base import Kernel as Kernel
from .reference import Reference as Reference

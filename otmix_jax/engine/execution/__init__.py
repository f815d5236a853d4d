"""Executions: how what tiles yield is summed."""

from .base import Execution as Execution
from .dense import Dense as Dense
from .tiled import Tiled as Tiled

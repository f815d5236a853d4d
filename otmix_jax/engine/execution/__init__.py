"""Executions: how the Sweeps of tiles are summed."""

from .base import Execution as Execution
from .dense import Dense as Dense

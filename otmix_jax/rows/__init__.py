"""Rows of regressions and of repeated measurements, out of tables, arrays and formulas."""

from .coding import codes as codes
from .named import Named as Named
from .regressions import regression as regression
from .units import repeated as repeated

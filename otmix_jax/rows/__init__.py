"""Rows of regressions, of repeated measurements and with noise, out of tables and formulas."""

from .coding import codes as codes
from .named import Named as Named
from .noise import noisy as noisy
from .regressions import regression as regression
from .units import repeated as repeated

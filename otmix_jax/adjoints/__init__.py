"""Adjoints: how to differentiate the answer."""

from .base import Adjoint as Adjoint
from .implicit import Implicit as Implicit
from .unrolled import Unrolled as Unrolled

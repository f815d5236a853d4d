"""Adjoints: how to differentiate the answer."""

from .base import Adjoint as Adjoint
from .condition import Conditioning as Conditioning
from .condition import conditioning as conditioning
from .implicit import Implicit as Implicit
from .one_step import OneStep as OneStep
from .one_step import Stop as Stop
from .unrolled import Unrolled as Unrolled

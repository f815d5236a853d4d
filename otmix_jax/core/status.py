"""How a run ended: an integer inside jit, a sentence at the host edge."""

import enum

import numpy as np

from .registry import storable


@storable
class Status(enum.IntEnum):
    """Ordered by severity, so that statuses merge by `max`.

    Example:
        >>> from otmix_jax import Status
        >>> Status(1).name, Status.CONVERGED.remedy
        ('MAX_STEPS', '')
    """

    CONVERGED = 0
    MAX_STEPS = 1
    INTERRUPTED = 2
    STALLED = 3
    EMPTY_COMPONENT = 4
    COLLAPSED = 5
    IMPRECISE = 6
    NON_FINITE = 7

    @property
    def remedy(self) -> str:
        """What to do about it, in one sentence; empty for CONVERGED."""
        return _REMEDIES[self]

    @property
    def code(self) -> np.int32:
        """The status as arrays hold it."""
        return np.int32(self.value)

    @property
    def healthy(self) -> bool:
        """Whether the answer is a proper mixture of all its components."""
        return self <= Status.STALLED


_REMEDIES = {
    Status.CONVERGED: "",
    Status.MAX_STEPS: "The tolerance was not reached: raise max_steps or tolerance.",
    Status.INTERRUPTED: (
        "It was stopped before its end, and this is the best so far: go on from it with "
        "starts=Starts(initial=mixture), or allow more time."
    ),
    Status.STALLED: (
        "Rounding hid any further progress before the tolerance was reached: raise tolerance, "
        "or use float64."
    ),
    Status.EMPTY_COMPONENT: (
        "A component holds no mass: lower n_components, or raise n_init for other starts."
    ),
    Status.COLLAPSED: (
        "A component's covariance became singular, or it rests on too few rows or on equal values; "
        "the last regular parameters are returned: use fewer components, a simpler covariance "
        "structure, other starts, or a ridge."
    ),
    Status.IMPRECISE: (
        "The rows lie too far from 0 for the spread of their components: rounded to this "
        "precision, the means contradict the fit. Subtract an offset from x (and add it to the "
        "means), or use float64 (jax.config.update('jax_enable_x64', True))."
    ),
    Status.NON_FINITE: (
        "The data, the weights or the start hold NaN or infinity, or a step left the finite "
        "numbers; the last finite parameters are returned: clean the data, or take smaller steps."
    ),
}

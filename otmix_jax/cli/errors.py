"""How a command ends: exit codes for scripts, and what stops it."""

import enum


class Exit(enum.IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    """No answer: every start failed, or no candidate could be chosen."""
    REFUSED = 2
    """Bad usage or bad input; nothing was written."""
    UNCONVERGED = 3
    """An answer, written, whose status is not CONVERGED."""
    INTERRUPTED = 130
    """Ctrl-C; the best answer so far is written, if there is one."""
    CLOSED = 141
    """The reader of standard output went away."""


class Interrupted(Exception):
    """Ctrl-C before there was an answer."""


class Refusal(Exception):
    """What a user gave cannot be used: one line, with a remedy."""

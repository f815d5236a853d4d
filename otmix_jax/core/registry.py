"""What can be found by its name: what files hold, and what a room above lends to one below."""

from importlib import import_module
from typing import Any, TypeVar

_T = TypeVar("_T")
KNOWN: dict[str, Any] = {}
"""By name. A file is read by this table alone: it can neither import nor call anything else."""
PACKAGE = "otmix_jax"
ROOMS = tuple(
    f"{PACKAGE}.{room}"
    for room in (
        *("core", "priors", "families", "engine", "transport", "model", "solvers", "fitting"),
        *("inference", "infinite", "variational"),
    )
)
"""Which the package loads when they are first used, and so a name does too."""


def name_of(cls: type) -> str:
    """The name of a class in files. The package's own go by their room, within which they move."""
    module = cls.__module__
    if module.startswith(f"{PACKAGE}."):
        module = ".".join(module.split(".")[:2])
    return f"{module}:{cls.__qualname__}"


def storable(cls: type[_T]) -> type[_T]:
    """Make a frozen dataclass, or an enumeration, known to files; every `pytree` is."""
    KNOWN[name_of(cls)] = cls
    return cls


def find(name: str) -> Any:
    """What goes by a name, its room being one of the package's own, or loaded already.

    Raises:
        KeyError: for a name that nobody made known.
    """
    room = name.partition(":")[0]
    if name not in KNOWN and room in ROOMS:
        import_module(room)
    return KNOWN[name]


def remember(name: str, thing: _T) -> _T:
    """Make an object known to files by a name of its own."""
    KNOWN[name] = thing
    return thing

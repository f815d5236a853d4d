"""Parameters are PyTrees: frozen dataclasses whose instance *is* the parameters."""

import dataclasses
from typing import Any, TypeVar, cast, dataclass_transform

import jax

_T = TypeVar("_T")


def static(**kwargs: Any) -> Any:
    """A field that changes the program (a size, a function), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field, static)
)
def pytree(cls: type[_T]) -> type[_T]:
    """Make `cls` a frozen dataclass that `jax.jit`, `vmap`, `grad` and optax act on directly."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def replace(instance: _T, **changes: Any) -> _T:
    """A copy with some fields changed."""
    return dataclasses.replace(cast(Any, instance), **changes)

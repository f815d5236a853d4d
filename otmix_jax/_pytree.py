"""Parameters are PyTrees: frozen dataclasses whose instance *is* the parameters."""

import dataclasses
from collections.abc import Iterable
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
    """Make `cls` a frozen dataclass that `jax.jit`, `vmap`, `grad` and optax act on directly.

    Unflattening does not call the constructor: JAX puts tracers, axes and plain objects in the
    place of arrays, which no check should see.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cast(Any, cls))
    leaves = tuple(f.name for f in fields if not f.metadata.get("static", False))
    statics = tuple(f.name for f in fields if f.metadata.get("static", False))

    def flatten_with_keys(instance: _T) -> tuple[tuple, tuple]:
        keyed = ((jax.tree_util.GetAttrKey(name), getattr(instance, name)) for name in leaves)
        return tuple(keyed), tuple(getattr(instance, name) for name in statics)

    def unflatten(auxiliary: tuple, children: Iterable[Any]) -> _T:
        instance = object.__new__(cls)
        for name, value in zip(leaves + statics, (*children, *auxiliary), strict=True):
            object.__setattr__(instance, name, value)
        return instance

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def replace(instance: _T, **changes: Any) -> _T:
    """A copy with some fields changed."""
    return dataclasses.replace(cast(Any, instance), **changes)

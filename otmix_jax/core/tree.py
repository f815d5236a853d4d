"""PyTrees: frozen dataclasses whose instance *is* the parameters, and what maps over them."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .registry import storable

_T = TypeVar("_T")


def static(**kwargs: Any) -> Any:
    """A field that changes the program (a size, a function), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def parameter(domain: Any, *, axes: int = 1, shared: bool = False) -> Any:
    """A field that is learned, of K components at once.

    Args:
        domain: where it lives; see `families.coordinates`.
        axes: trailing axes of one component's value: 1 for [k, d], 0 for [k].
        shared: whether all components share it, so that it has no axis k.
    """
    return dataclasses.field(metadata={"domain": domain, "axes": axes, "shared": shared})


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field, static, parameter)
)
def pytree(cls: type[_T]) -> type[_T]:
    """Make `cls` a frozen dataclass that `jax.jit`, `vmap`, `grad` and optax act on directly.

    Unflattening does not call the constructor: JAX puts tracers, axes and plain objects in the
    place of arrays, which no check should see.
    """
    # eq=False: the == of two arrays is an array, not a truth value
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static", False))
    # jit compares them by == and hash: an unhashable one raises, a fresh one compiles anew
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
    return storable(cls)


def replace(instance: _T, **changes: Any) -> _T:
    """A copy with some fields changed."""
    return dataclasses.replace(instance, **changes)  # type: ignore[type-var]


def is_float(leaf: Any) -> bool:
    """Whether a leaf is real: what a derivative is taken in, and what has a precision."""
    # a Python number has no dtype
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating)


def is_plain(x: Any) -> bool:
    """Whether a value is a floating array already that JAX takes as it is."""
    # type: a masked array is an ndarray too
    return (isinstance(x, Array) or type(x) is np.ndarray) and x.dtype in (np.float32, np.float64)


def cast(tree: Any, dtype: Any) -> Any:
    """The tree as JAX arrays, its floating leaves of one dtype; codes stay integers."""
    # float64 means float32 where 64 bits are off: asked for as it is, JAX would warn
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    arrays = jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, arrays)


def shape_of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array's shape and dtype, as JAX has it: it would warn where 64 bits are off."""
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))


def select(condition: Array, if_true: _T, if_false: _T) -> _T:
    """Leaf by leaf, one tree or the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def along(rows: Array, leaf: Array) -> Array:
    """One number per row [n], broadcast along a leaf [n, ...]."""
    return rows.reshape(-1, *(1,) * (leaf.ndim - 1))


def index(tree: _T, which: Any) -> _T:
    """Entries of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[which], tree)

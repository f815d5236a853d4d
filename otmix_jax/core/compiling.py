"""How much the compiler is to think: little where a program runs for less time than that takes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jaxtyping import PyTree


@functools.cache
def _options(level: int) -> dict[str, Any] | None:
    """On a CPU, level 1 halves the time to compile, and few hundred rows run as fast; level 0
    halves it once more, for what runs a few times.
    """
    if jax.default_backend() != "cpu":
        return None
    level_alone = {"xla_backend_optimization_level": level}
    # names of options are the compiler's own, and go: jaxlib 0.12 does not know the second
    for options in ({**level_alone, "xla_cpu_use_fusion_emitters": False}, level_alone):
        try:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
        except Exception:
            continue
        return options
    return None


def is_traced(tree: PyTree) -> bool:
    """Whether some of the tree's values are not at hand."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def is_staged() -> bool:
    """Whether all that is computed here becomes part of a program, even if its values are known."""
    return isinstance(jnp.asarray(0.0), Tracer)


def in_turn(one: Callable[[Array], Any], n_lanes: Array | int, size: int) -> Any:
    """`one(lane)` of the first lanes, one after the other; zeros for the others."""
    shapes = jax.eval_shape(one, jnp.zeros((), jnp.int32))
    out = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), shapes)

    def body(lane: Array, out: Any) -> Any:
        return jax.tree.map(lambda whole, part: whole.at[lane].set(part), out, one(lane))

    return jax.lax.fori_loop(0, n_lanes, body, out)


class Quick:
    """A function with one program that compiles fast, and one that runs fast.

    Within another program, which has its own compiler options, it is a part of that.

    Args:
        function: what is jitted.
        level: how much the compiler does for the quick one, 0 or 1.
        **options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], level: int = 1, **options: Any):
        self._function, self._level, self._options = function, level, options

    @functools.cached_property
    def fast(self) -> Any:
        """Compiled as JAX does by default."""
        return jax.jit(self._function, **self._options)

    @functools.cached_property
    def quick(self) -> Any:
        """Compiled fast, for small work."""
        options = _options(self._level)
        # the default's cache of traces and programs is shared where there is no difference
        if options is None:
            return self.fast
        return jax.jit(self._function, compiler_options=options, **self._options)

    def __call__(self, quick: bool, *args: Any, **kwargs: Any) -> Any:
        """The value, by one program or the other."""
        quick = quick and not is_traced((args, kwargs)) and not is_staged()
        return (self.quick if quick else self.fast)(*args, **kwargs)

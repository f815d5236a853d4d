"""Float64, every warning an error, and shapes checked by beartype in every public function."""

import functools
import gc
import os
import signal
import threading
from importlib import metadata
from pathlib import Path

# A job in the background of a script is born deaf to Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests compile much and compute little: what compiles sooner is done sooner.
# The second is unknown to later compilers, which would end the process.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false" * (metadata.version("jaxlib") < "0.11"),
        os.environ.get("XLA_FLAGS", ""),
    ]
)

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
# Shared by the workers and by the next run: most of ten thousand small programs are needed twice.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The programs that are kept are many objects to walk, and none of them garbage.
gc.set_threshold(200_000, 20, 50)

if metadata.version("jax") < "0.11":
    # A context for each program is three quarters of its lowering, and more the more there are:
    # later versions of JAX keep it.
    from jax._src.interpreters import mlir  # noqa: TID251

    context = functools.cache(lambda thread, make=mlir.make_ir_context: make())
    mlir.make_ir_context = lambda: context(threading.get_ident())

with install_import_hook("otmix_jax", "strictness.check"):
    import otmix_jax as om

    # only what is loaded in here is checked; these two need an extra
    for name in set(om.__all__) - {"plot", "sklearn"}:
        getattr(om, name)

# one of each layout of the factor; the others in `make slow`
STRUCTURES = [
    pytest.param(name, marks=[] if name in ("full", "diagonal") else pytest.mark.slow)
    for name in ("full", "tied", "diagonal", "spherical")
]


MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def spare_memory_maps():
    """Every compiled program holds memory maps, and Linux kills a process with 65530 of them."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > 30_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def faithful():
    """Old Faithful [272, 2]."""
    return om.datasets.old_faithful().x


@pytest.fixture(scope="session")
def blobs():
    """Three overlapping groups of unequal shape [60, 2]."""
    rng = np.random.default_rng(0)
    groups = [
        rng.normal(size=(25, 2)) @ [[1.0, 0.4], [0.0, 0.6]],
        rng.normal(size=(20, 2)) * [0.5, 1.2] + [3.0, 1.0],
        rng.normal(size=(15, 2)) * 0.8 + [-1.0, 3.0],
    ]
    return np.concatenate(groups)


@pytest.fixture(params=STRUCTURES)
def structure(request):
    """The name of a covariance structure."""
    return request.param

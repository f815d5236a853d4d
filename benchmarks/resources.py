"""Memory above the data, and the time to a first result: each in a fresh interpreter."""

import tempfile

from .harness import in_subprocess

MEMORY = """
import json, sys
import jax
what, n, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_enable_x64", dtype == "float64")
import otmix_jax as om
from benchmarks.harness import groups
d, k = 8, 32
def run(x):
    start = om.initializers.kmeans_plus_plus(
        jax.random.key(0), om.Problem(x[:5000]), n_components=k
    )
    if what.startswith("fit"):
        limits = om.Limits(tolerance=0.0, max_steps=2)
        return om.fit(x, k, key=0, starts=om.Starts(n_init=1), limits=limits).value
    if what == "solve":
        return om.solve(om.Problem(x), start, tolerance=0.0, max_steps=2).value
    return jax.tree.leaves(jax.grad(om.negative_log_likelihood)(start, x))[0]
import warnings
warnings.simplefilter("ignore")
jax.block_until_ready(run(groups(40_000, d, k, dtype)))  # libraries
x = groups(n, d, k, dtype)
if "NumPy" not in what:  # rows on the device already
    x = jax.device_put(x)
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024
before = status("VmRSS")
jax.block_until_ready(run(x))  # compiles, which takes memory of its own
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
jax.block_until_ready(run(x))
print(json.dumps({"data": x.nbytes / 2**20, "above": status("VmHWM") - before}))
"""

COLD = {
    "otmix_jax": """
import json, sys
import numpy as np
x = np.random.default_rng(0).normal(size=(10_000, 8)) + 4 * np.eye(4, 8)[np.arange(10_000) % 4]
import otmix_jax as om
s = om.fit(x, 4, key=0, starts=om.Starts(n_init=1))
print(json.dumps({"value": float(s.value)}))
""",
    "scikit-learn": """
import json, sys
import numpy as np
x = np.random.default_rng(0).normal(size=(10_000, 8)) + 4 * np.eye(4, 8)[np.arange(10_000) % 4]
from sklearn.mixture import GaussianMixture
m = GaussianMixture(4, random_state=0).fit(x)
print(json.dumps({"value": float(-m.score(x))}))
""",
    "import jax alone": "import jax, jax.numpy, json; print(json.dumps({'value': 0.0}))",
    "import otmix_jax": "import otmix_jax, json; print(json.dumps({'value': 0.0}))",
}


def memory(quick: bool) -> list[dict]:
    """Peak resident memory of a second call above what was there with the data in memory (Linux).

    What the first call left behind, compiled programs among it, counts; compiling does not.
    """
    sizes = [200_000] if quick else [5_000_000, 10_000_000]
    jobs = [(what, n, "float32") for what in ("solve", "fit", "fit from NumPy") for n in sizes]
    jobs.append(("gradient", 100_000 if quick else 1_000_000, "float64"))
    rows = []
    for what, n, dtype in jobs:
        result = in_subprocess(MEMORY, what, str(n), dtype)[0]
        rows.append(
            {
                "job": f"{what} ({n}, 8, 32) {dtype}",
                "data MiB": result["data"],
                "peak above the data MiB": result["above"],
            }
        )
    return rows


def cold_start(quick: bool) -> list[dict]:
    """Import and first fit of (10k, 8), K = 4: the fastest of a few fresh interpreters.

    Once more with JAX's own cache of compiled programs, which the first of them fills.
    """
    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder}
        in_subprocess(COLD["otmix_jax"], **cache)
        cached = in_subprocess(COLD["otmix_jax"], repeats=repeats, **cache)
    results = {name: in_subprocess(code, repeats=repeats) for name, code in COLD.items()}
    rows = []
    for name, runs in {**results, "otmix_jax, programs in JAX's cache": cached}.items():
        walls = [run["wall"] for run in runs]
        rows.append({"job": name, "best s": min(walls), "worst s": max(walls)})
    return rows

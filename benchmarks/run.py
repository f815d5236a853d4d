"""All benchmarks: `python -m benchmarks.run [--quick] [--only NAME ...] [--device gpu]`.

Prints tables and writes benchmarks/results.json. All sides start from the same mixture and take
the same number of iterations; compilation is timed apart; a time is the median of its repeats.
Compare ratios within one run: machines differ, and shared ones wobble.
"""

import argparse
import json
import os

import jax

from . import (
    control,
    families,
    fits,
    iterations,
    jobs,
    noisy,
    npmle,
    online,
    passes,
    proportions,
    resources,
    variational,
)
from .harness import HERE, print_table, record

TABLES = {
    "iterations": ("Milliseconds per EM iteration", iterations.table),
    "growth": ("Growth, full, float64", lambda quick, _: iterations.growth(quick)),
    "small_fits": ("Many small fits", lambda quick, _: fits.small_fits(quick)),
    "scores": ("Scores and gradients", lambda quick, _: fits.scores(quick)),
    "restarts": ("Fits to convergence", lambda quick, _: fits.restarts(quick)),
    "solvers": ("EM and the gradient path", lambda quick, _: fits.solvers(quick)),
    "passes": ("Passes to within 1e-8 of the end", lambda quick, _: passes.table(quick)),
    "online": ("Many rows: passes to near the best", lambda quick, _: online.table(quick)),
    "online_seeds": ("Many rows: where EM is after 40 passes", lambda q, _: online.seeds(q)),
    "counts": ("Milliseconds per EM iteration of counts", lambda q, _: families.counts(q)),
    "latent_classes": ("Latent classes", lambda quick, _: families.latent_classes(quick)),
    "noisy": ("Milliseconds per EM step of rows with noise", lambda q, _: noisy.steps(q)),
    "memory": ("Memory of the host", lambda quick, _: resources.memory(quick)),
    "cold_start": ("Cold start", lambda quick, _: resources.cold_start(quick)),
    "proportions": ("Proportions on a fixed dictionary", lambda q, _: proportions.table(q)),
    "npmle": ("The infinite mixture", lambda quick, _: npmle.table(quick)),
    "variational": ("Milliseconds per variational step", lambda q, _: variational.table(q)),
    "control": ("What it costs to be stoppable", lambda quick, _: control.table(quick)),
    "jobs": ("Jobs of a person, seconds", lambda quick, _: jobs.table(quick)),
    "optima": ("Best optima known, reached", lambda quick, _: jobs.optima(quick)),
}


def main() -> None:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--device", default="cpu", help="platform name, such as cpu, gpu, tpu")
    options = parser.parse_args()
    if options.device == "cpu":  # whatever else there is; for the subprocesses too
        os.environ["JAX_PLATFORMS"] = "cpu"
        jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peers need memory
    jax.config.update("jax_enable_x64", True)
    device = jax.devices(options.device)[0]
    jax.config.update("jax_default_device", device)
    results = {}
    for name in options.only:
        title, run = TABLES[name]
        results[name] = run(options.quick, options.device)
        print_table(title, results[name])
    path = HERE / "results.json"
    path.write_text(json.dumps(record(results, device.device_kind), indent=1) + "\n")
    print(f"\nwritten: {path.name}")


if __name__ == "__main__":
    main()

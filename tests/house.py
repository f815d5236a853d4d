"""How much of the package a call walks through: files, classes, and frames above the product.

`python tests/house.py` prints it for `fit` of a flat array, small and large, from one start, and
for the race that `fit` is by default. A file or a class counts once one of its functions runs,
tracing included; importing counts for nothing. The depth is that of the package's frames where
features of rows meet coefficients.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = str(Path(__file__).parent.parent / "otmix_jax")
MEETINGS = {"matmul", "_square_norm"}
"""Functions, called by a kernel's sweep, in which a row meets a coefficient."""


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The package's own frames, the innermost first."""
    frames = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            frames.append(frame)
        frame = frame.f_back
    return frames


def _meets(stack: list[FrameType]) -> bool:
    within = {frame.f_code.co_name for frame in stack[1:4]}
    return stack[0].f_code.co_name in MEETINGS and "sweep" in within


def walk(call: Callable[[], object]) -> tuple[set[str], set[str], list[tuple[str, str]]]:
    """Files and classes of the package whose functions run in `call`, and the way of a row.

    The way is (file, function) from the call down to the first product of a sweep.
    """
    files: set[str] = set()
    classes: set[str] = set()
    way: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        files.add(code.co_filename[len(PACKAGE) + 1 :])
        owner = code.co_qualname.split(".<locals>")[0].split(".")
        if len(owner) > 1:
            classes.add(owner[0])
        mine = frame.f_locals.get("self")
        if mine is not None and type(mine).__module__.startswith("otmix_jax"):
            classes.add(type(mine).__name__)
        if not way and _meets(stack := _stack(frame)):
            names = [(f.f_code.co_filename[len(PACKAGE) + 1 :], f.f_code.co_name) for f in stack]
            way.extend(reversed(names))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files, classes, way


if __name__ == "__main__":
    sys.path.insert(0, str(Path(PACKAGE).parent))
    import jax
    import numpy as np

    import otmix_jax as om

    # In float32 rounding may end a fit as STALLED, which walks to its remedy too.
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    tables = {"small": om.datasets.old_faithful().x, "large": rng.normal(size=(20_000, 2))}
    tables["large"][:9000] += 9
    tables["race"] = tables["small"]
    fit = om.fit  # found before, which is loading
    for name, x in tables.items():
        starts = om.Starts() if name == "race" else om.Starts(n_init=1)
        files, classes, way = walk(lambda x=x, s=starts: fit(x, 2, key=0, starts=s))
        print(f"{name}: {len(files)} files, {len(classes)} classes")
        print("  " + ", ".join(sorted(files)) + "\n  " + ", ".join(sorted(classes)))
        within = len({file for file, _ in way})
        print(f"  a row meets a coefficient {len(way)} frames down in {within} files")
        print("  " + " > ".join(f"{function} ({file})" for file, function in way))

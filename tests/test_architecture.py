"""Imports point down, nothing heavy is imported, files and functions stay small."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import otmix_jax

PACKAGE = Path(__file__).parent.parent / "otmix_jax"

# Lowest first. A module may import from lower layers, and from its own folder or file.
LAYERS = [
    {"_version"},
    {"core", "datasets"},
    {"priors", "rows"},
    {"families"},
    {"engine"},
    {"transport"},
    {"model"},
    {"solvers", "initializers"},
    {"adjoints"},
    {"fitting"},
    {"inference", "infinite", "variational"},
    {"plot", "sklearn", "convert"},
    {"cli"},
]
ABSTRACT = {"engine", "transport", "model", "solvers", "adjoints", "inference"}
"""Rooms that must not name a concrete family."""
CONTRACTS = ("family", "checks", "forms", "coordinates", "quadratic")
"""What of the families they may name: contracts, and the guard of quadratic forms to explain."""
LATE = {
    "distrax",
    "formulaic",
    "matplotlib",
    "numpyro",
    "optax",
    "ott",
    "pandas",
    "polars",
    "pyarrow",
    "sklearn",
    "tensorflow_probability",
    "tqdm",
}
"""Third parties that functions may import: optional, or costly and of use to few."""


def part_of(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def layer_of(part):
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def inside_functions(tree):
    return {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }


def package_imports(path):
    """(absolute module path below the package, inside a function or not) for each import."""
    tree = ast.parse(path.read_text())
    inner = inside_functions(tree)
    folder = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            module = [*base, *(node.module or "").split(".")] if node.module else [*base]
            for alias in node.names:
                full = module if node.module else [*module, alias.name]
                yield full[1:], node in inner
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("otmix_jax"):
            yield node.module.split(".")[1:], node in inner


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    mine = part_of(path)
    for target, inside in package_imports(path):
        assert not inside, f"{path.name} imports {target} inside a function"
        if not target or target[0] == mine:
            continue
        assert layer_of(target[0]) < layer_of(mine), f"{mine} imports {target[0]}"
        if mine in ABSTRACT and target[0] == "families":
            assert target[1] in CONTRACTS, f"{mine} names a concrete family: {target}"


def test_functions_import_only_what_is_worth_it():
    for path in SOURCES:
        for node in inside_functions(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
                assert found <= LATE, f"{path.name} imports {found} inside a function"
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in LATE, f"{path.name}, inside a function"


def test_every_module_has_a_layer():
    assert {part_of(p) for p in SOURCES} == set().union(*LAYERS)


def test_transport_knows_no_mixture():
    for path in (PACKAGE / "transport").glob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert not names & {"Mixture", "Problem", "Objective"}, path.name


def test_no_module_hides_behind_its_own_function():
    """`import otmix_jax.x.y as y` is a module, whatever the package re-exports."""
    for path in SOURCES:
        module = importlib.import_module(
            ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        )
        parent = sys.modules[module.__name__.rpartition(".")[0]]
        if path.stem != "__init__":
            assert getattr(parent, path.stem) is module, f"{path} is shadowed"


@pytest.mark.slow
def test_a_fit_walks_through_few_rooms():
    """In a process of its own, without the type checks that wrap every function here."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).parent / "house.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"(\d+) files, (\d+) classes.*?(\d+) frames down in (\d+) files", done.stdout, re.S
    )
    # from one start, small and large; and the race, which draws, runs and mends many. Three files
    # and frames are the legs, between which a run can be stopped
    limits = [(32, 21, 15, 7), (32, 23, 15, 8), (42, 31, 19, 12)]
    assert len(found) == len(limits), done.stdout
    for numbers, most in zip(found, limits, strict=True):
        assert all(int(a) <= b for a, b in zip(numbers, most, strict=True)), done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                assert node.end_lineno - body[0].lineno + 1 <= 60, node.name


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )


def test_import_initialises_no_backend_and_nothing_heavy():
    code = """
import sys, otmix_jax
assert not {"jax", "numpy"} & set(sys.modules)  # what is named is loaded when it is used
for name in {*otmix_jax.__all__} - {"plot", "sklearn"}:
    assert getattr(otmix_jax, name) is not None
heavy = {"sklearn", "matplotlib", "scipy.stats", "ott", "ot", "pandas", "polars", "optax", "chex"}
heavy |= {"tqdm", "typer", "rich", "numpyro", "formulaic"}
heavy &= set(sys.modules)
assert not heavy, heavy
import jax
jax.config.update("jax_num_cpu_devices", 3)  # raises once a backend is up
assert jax.device_count() == 3
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_the_front_door_is_what_type_checkers_read():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    told = next(node for node in tree.body if isinstance(node, ast.If))
    read = {
        name.name: (node.module or "")
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    table = {name: place[1:] for name, place in otmix_jax._PLACE_OF.items()}
    assert read == table | dict.fromkeys(otmix_jax._ROOMS, "")
    assert set(dir(otmix_jax)) == {*read, "__version__"}
    for name, place in table.items():
        module = importlib.import_module(f"otmix_jax.{place}")
        assert getattr(otmix_jax, name) is getattr(module, name)
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = otmix_jax.fits


def test_importing_leaves_x64_as_it_is():
    done = run_python("import jax, otmix_jax; assert not jax.config.jax_enable_x64")
    assert done.returncode == 0, done.stderr


def test_float64_rows_fit_without_x64():
    """Centred in NumPy before the cast: no warning, no lost digits, float32 out."""
    code = """
import warnings; warnings.simplefilter("error")
import otmix_jax as om
x = om.datasets.old_faithful().x + 1e5
solution = om.fit(x, 2, key=0)
assert solution.value.dtype == "float32"
assert abs(float(solution.value) - 1130.2640 / 272) < 1e-4, solution.value
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr

"""Every block of code of the documents runs and prints what stands below it; so do the doctests."""

import base64
import contextlib
import doctest
import importlib
import io
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot
import pytest

import otmix_jax as om

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```\n(?:\s*^```text\n(.*?)^```)?", re.M | re.S)
OURS = re.compile(r"^(cat \S+ \| )?otmix-jax ")
FIRST = ("README.md", "docs/quick_start.md")  # the others in `make slow`
WIDEST = 400_000  # bytes of a picture in a notebook


def pages():
    found = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    names = [str(page.relative_to(ROOT)) for page in found if BLOCK.search(page.read_text())]
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in FIRST)) for name in names]


def run_python(code, page, namespace):
    assert len(code.splitlines()) <= 20
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), namespace)
    matplotlib.pyplot.close("all")  # as a notebook does after a cell
    return printed.getvalue()


def run_shell(code, folder):
    """The commands of this package; what installs it, or builds it, is not run here."""
    ours = f'otmix-jax() {{ "{sys.executable}" -m otmix_jax.cli "$@"; }}\n'
    printed = ""
    for command in re.sub(r"\\\n\s*", " ", code).splitlines():
        if OURS.search(command):
            shell = ["bash", "-c", ours + command]
            done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            printed += done.stdout
    return printed


def agree(printed, expected):
    """The same words, and numbers to four digits; how many steps were taken may differ."""
    found, wanted = (re.sub(r"\d+ steps", "", text).split() for text in (printed, expected))
    for one, other in zip(found, wanted, strict=True):
        try:
            assert float(one.rstrip(",")) == pytest.approx(float(other.rstrip(",")), 1e-4, 1e-5)
        except ValueError:
            assert one == other


@pytest.mark.parametrize("page", pages())
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    for file in DATA.glob("*.csv"):
        shutil.copy(file, tmp_path)
    namespace: dict = {}
    for language, code, expected in BLOCK.findall((ROOT / page).read_text()):
        if language == "bash":
            printed = run_shell(code, tmp_path)
            agree(printed, expected or printed)
            continue
        printed = run_python(code, page, namespace)
        if expected:
            assert printed == expected


DOORS = ("fitting.single", "fitting.selection", "model.certificates", "core.files")
"""Modules whose examples run in the default suite; those of others in the slow one."""


def modules():
    found = [info.name for info in pkgutil.walk_packages(om.__path__, "otmix_jax.")]
    found = [name for name in found if not name.endswith("__main__")]
    return [
        pytest.param(name, marks=[] if name.endswith(DOORS) else pytest.mark.slow) for name in found
    ]


@pytest.mark.parametrize("name", modules())
def test_doctests(name):
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=options)
    assert result.failed == 0


def test_relative_links_of_the_documents():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_site():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]:
        if page.name != "index.md":
            name = page.stem if page.suffix == ".md" else f"../notebooks/{page.stem}"
            assert re.search(rf"^{re.escape(name)}$", index, re.M), f"docs/index.md lacks {name}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebook_keeps_small_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    pictures = [output["data"] for output in outputs if "image/png" in output.get("data", {})]
    assert all(len(base64.b64decode(data["image/png"])) < WIDEST for data in pictures)


def test_the_reference_has_every_public_name(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import reference

    names = reference.reference()
    public = {info.name for info in pkgutil.iter_modules(om.__path__) if info.name[0] != "_"}
    inner = {"core", "model", "fitting", "infinite", "cli"}  # handed on by the package, or no API
    assert {f"otmix_jax.{name}" for name in public - inner} <= set(names)
    assert {"fit", "Solution", "load"} <= set(names["otmix_jax"])
    documented = {f"{module}.{name}" for module, those in names.items() for name in those}
    assert reference.missing(documented) == []
    assert reference.missing(documented - {"otmix_jax.fit"}) == ["otmix_jax.fit"]

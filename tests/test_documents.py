"""Every Python block of the README runs and prints what stands below it; so do the doctests."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import otmix_jax as om

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```)?", re.M | re.S)


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("README.md", 4),
        ("docs/engine.md", 1),
        ("docs/mixtures.md", 1),
        ("docs/composed.md", 1),
        ("docs/missing.md", 1),
        ("docs/counts.md", 1),
        ("docs/infinite.md", 1),
        ("docs/noisy.md", 1),
        ("docs/positive.md", 2),
        ("docs/proportions.md", 1),
        ("docs/regression.md", 1),
        ("docs/variational.md", 2),
        ("docs/large.md", 2),
    ],
)
def test_page(page, least):
    blocks = BLOCK.findall((ROOT / page).read_text())
    assert len(blocks) >= least
    namespace: dict = {}
    for code, expected in blocks:
        assert len(code.splitlines()) <= 20
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), namespace)
        if expected:
            assert printed.getvalue() == expected


def modules():
    found = pkgutil.walk_packages(om.__path__, "otmix_jax.")
    return [info.name for info in found]


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

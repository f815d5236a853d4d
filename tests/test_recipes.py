"""Each recipe of the notebook runs by itself and its assertions hold."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "03_inside_a_model.ipynb"


def sections():
    """Section title to code; the first, untitled one prepares all others."""
    found = {"": ""}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            last = next(reversed(found))
            found[last] += text + "\n"
        elif title := re.match(r"## (.*)", text):
            found[title[1]] = ""
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("title", [title for title in sections() if title])
def test_recipe(title, monkeypatch):
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    code = sections()
    assert "assert" in code[title]
    exec(compile(code[""] + code[title], title, "exec"), {"__name__": "recipe"})


def test_there_are_five_recipes():
    assert len(sections()) == 6

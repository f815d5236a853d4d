"""`python docs/gallery.py [folder]`: makes the pictures of gallery.md from the code printed there.

Each block of Python leaves `axes`; the picture is saved under the name that follows the block.
"""

import re
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

PAGE = Path(__file__).with_suffix(".md")
BLOCK = re.compile(r"^```python\n(.*?)^```\s+!\[[^\]]*\]\(gallery/(\w+)\.png\)", re.M | re.S)


def pictures() -> dict[str, str]:
    """The code of each picture, in the order of the page."""
    return {name: code for code, name in BLOCK.findall(PAGE.read_text())}


def main(folder: Path) -> None:
    """Runs the blocks, one after the other in one namespace, and saves what they drew."""
    mpl.use("Agg")
    folder.mkdir(exist_ok=True)
    namespace: dict = {}
    for name, code in pictures().items():
        exec(compile(code, f"{PAGE.name}: {name}", "exec"), namespace)
        figure = np.ravel(namespace["axes"])[0].figure
        figure.savefig(folder / f"{name}.png", dpi=100)
        plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else PAGE.with_name("gallery"))

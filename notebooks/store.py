"""Executes notebooks and keeps their outputs: `make outputs`, or with the names of some."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
KEPT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def store(path: Path) -> None:
    """Executes one notebook; what changes from run to run without meaning is left out."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    notebook.metadata = nbformat.from_dict(KEPT)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", nbformat.from_dict({})
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else None
            data = output.get("data", {})
            if "image/png" in data:  # beside a picture its repr says nothing
                data.pop("text/plain", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for one in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        store(one)
        print(f"{one.name}: {one.stat().st_size / 1000:.0f} kB")

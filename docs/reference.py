"""The API reference: its pages, made from the public names of the public modules, and its check."""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

TITLES = {
    "otmix_jax": "The front door",
    "otmix_jax.families": "What a mixture is of",
    "otmix_jax.solvers": "How to minimise",
    "otmix_jax.initializers": "Where to start",
    "otmix_jax.adjoints": "How to differentiate",
    "otmix_jax.priors": "Priors",
    "otmix_jax.rows": "Rows out of tables",
    "otmix_jax.transport": "Plans and values of transport",
    "otmix_jax.transport.couplings": "Couplings",
    "otmix_jax.engine": "Passes over the rows",
    "otmix_jax.inference": "How sure is it",
    "otmix_jax.variational": "Variational mixtures",
    "otmix_jax.plot": "Pictures",
    "otmix_jax.sklearn": "Estimators like scikit-learn's",
    "otmix_jax.convert": "To and from other libraries",
    "otmix_jax.datasets": "Data sets",
}
PAGE = """{title}
{line}

.. automodule:: {module}
   :no-members:

{entries}
"""


def declared(statement: ast.stmt) -> list[str]:
    """Names that one statement of a module hands to others."""
    match statement:
        case ast.ImportFrom(names=names):  # `import A as A` hands A on, `import A` does not
            return [alias.name for alias in names if alias.asname == alias.name]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def public_names(module: ModuleType) -> list[str]:
    """What a module has for others: no underscore, and no module, which has a page of its own."""
    tree = ast.parse(inspect.getsource(module))
    found = {name for statement in tree.body for name in declared(statement)}
    found |= set(getattr(module, "__all__", ()))
    values = {name: getattr(module, name) for name in found if not name.startswith("_")}
    return sorted(name for name, value in values.items() if not isinstance(value, ModuleType))


def entry(module: str, name: str, value: Any, earlier: str) -> str:
    """The directive for one name; what has an entry already gets a line that leads there."""
    full = f"{module}.{name}"
    if earlier != full:
        return f".. py:data:: {name}\n   :module: {module}\n\n   The same as :py:obj:`{earlier}`.\n"
    if isinstance(value, type):
        return f".. autoclass:: {full}\n   :members:\n   :show-inheritance:\n"
    if callable(value):
        return f".. autofunction:: {full}\n"
    keys = ", ".join(f"``{key}``" for key in value) if isinstance(value, dict) else ""
    options = f"   :module: {module}\n   :type: {type(value).__name__}\n"
    return f".. py:data:: {name}\n{options}\n   {keys}\n"


def reference() -> dict[str, list[str]]:
    """The public names of every public module."""
    return {name: public_names(importlib.import_module(name)) for name in TITLES}


def write(folder: Path) -> None:
    """One page for each module; what is there already and the same is not touched."""
    seen: dict[int, str] = {}
    for name, names in reference().items():
        module = importlib.import_module(name)
        title = f"{name}: {TITLES[name].lower()}"
        entries = ""
        for one in names:
            value = getattr(module, one)
            entries += entry(name, one, value, seen.setdefault(id(value), f"{name}.{one}")) + "\n"
        text = PAGE.format(title=title, line="=" * len(title), module=name, entries=entries)
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def missing(documented: set[str]) -> list[str]:
    """Public names without an entry."""
    wanted = [f"{module}.{name}" for module, names in reference().items() for name in names]
    return [name for name in wanted if name not in documented]

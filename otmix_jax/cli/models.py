"""Files of models: what was fitted, and a note of how rows are made of a table."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from ..core.archive import from_bytes, note_of, to_bytes
from ..core.files import write_atomically
from ..fitting import Choice
from ..model import Mixture, Solution
from .errors import Refusal
from .recipes import Recipe
from .tables import STANDARD, Table, is_text, print_bytes


@dataclasses.dataclass(frozen=True)
class Model:
    """What a file holds.

    Attributes:
        found: a `Choice`, a `Solution` or a `Mixture`.
        recipe: of its rows; None in a file that Python wrote.
    """

    found: Any
    recipe: Recipe | None

    @property
    def solution(self) -> Solution | None:
        """The answer, the best of a choice; None of a mixture alone."""
        found = self.found.best if isinstance(self.found, Choice) else self.found
        return found if isinstance(found, Solution) else None

    @property
    def mixture(self) -> Mixture:
        """The mixture."""
        return self.found if self.solution is None else self.solution.mixture

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns that were fitted; empty where nobody said."""
        return () if self.recipe is None else tuple(self.recipe.columns)

    def recipe_for(self, table: Table) -> Recipe:
        """The file's; of a file without one, the columns of numbers in their order.

        Raises:
            Refusal: where their number is not that of the mixture's columns.
        """
        if self.recipe is not None:
            return self.recipe
        numbers = tuple(n for n, column in table.columns.items() if not is_text(column))
        wanted = getattr(self.mixture.components, "n_features", None)
        if wanted is None or not self.mixture.components.table:
            raise Refusal(
                "the model was saved in Python, which says nothing of its columns: use it there, "
                "or fit it with otmix-jax"
            )
        if len(numbers) != wanted:
            raise Refusal(
                f"the model has {wanted} columns without names, {table.source} {len(numbers)} of "
                f"numbers ({', '.join(numbers)}): give a table of those alone, in order"
            )
        return Recipe(columns=numbers, ignore_missing=True)

    def rows(self, table: Table) -> Any:
        """Rows of a table as the mixture takes them."""
        return self.recipe_for(table).rows(table)

    def save(self, path: str) -> None:
        """Writes the file; "-" is standard output.

        Raises:
            Refusal: where it cannot be written.
        """
        content = to_bytes(self.found, None if self.recipe is None else self.recipe.note())
        if path == STANDARD:
            print_bytes(content)
            return
        try:
            write_atomically(path, content)
        except OSError as error:
            raise Refusal(f"cannot write {path}: {error.strerror}; name another file") from None


def read_model(path: str) -> Model:
    """The model in a file, or on standard input.

    Raises:
        Refusal: for a file that is not there, or holds no model.
    """
    try:
        content = sys.stdin.buffer.read() if path == STANDARD else Path(path).read_bytes()
    except OSError as error:
        raise Refusal(
            f"cannot read {path}: {error.strerror}; name a file of otmix-jax fit"
        ) from None
    source = "standard input" if path == STANDARD else path
    found, note = from_bytes(content, source), note_of(content, source)
    if not isinstance(found, Choice | Solution | Mixture):
        raise Refusal(
            f"{source} holds a {type(found).__name__}: this takes a file of fit or select, or a "
            "saved Solution, Mixture or Choice"
        )
    return Model(found, None if note is None else Recipe.of_note(note))

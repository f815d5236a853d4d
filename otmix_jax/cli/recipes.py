"""From the columns of a table to the rows of a family, the same way at each command.

A recipe is plain data, kept in the model's file, so that later tables are read as the first was.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import rows as row_makers
from ..families import FAMILIES, Categorical, Description, Product
from .errors import Refusal
from .tables import Table, is_text, missing

JOINED = "+"
"""Between the columns that one part of a product has together."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How rows are made of a table.

    Attributes:
        columns: the names, in the order of the family's columns.
        parts: of a product, the family of each part by its name: columns joined by "+".
        levels: of columns of categories, their values in the order of the codes.
        formula: of a regression.
        features: the names of the formula's features, which must come again.
        groups: the column that says whose rows share a component.
        ignore_missing: whether cells may be missing.
    """

    columns: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    levels: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    formula: str | None = None
    features: tuple[str, ...] = ()
    groups: str | None = None
    ignore_missing: bool = False

    def note(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def of_note(cls, note: Mapping[str, Any]) -> "Recipe":
        """The recipe of a note; JSON has no tuples."""
        told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in note.items()}
        return cls(**told)

    def rows(self, table: Table) -> Any:
        """Rows as `fit` and the functions of a mixture take them.

        Raises:
            Refusal: for columns that are not there, or hold what the family has no use for.
        """
        rows = self._formula_rows(table) if self.formula else self._plain_rows(table)
        if self.groups is None:
            return rows
        return row_makers.repeated(rows, _labels(table.column(self.groups)))

    def _plain_rows(self, table: Table) -> Any:
        if not self.parts:
            return self._matrix(table, self.columns)
        found = {part: self._matrix(table, part.split(JOINED)) for part in self.parts}
        return {part: x[:, 0] if x.shape[1] == 1 else x for part, x in found.items()}

    def _matrix(self, table: Table, names: Sequence[str]) -> np.ndarray:
        columns = [self._numbers(name, table.column(name)) for name in names]
        # the parts of a product take missing cells unasked
        if not (self.ignore_missing or self.parts):
            for name, column in zip(names, columns, strict=True):
                _refuse_missing(name, column)
        found = np.column_stack(columns)
        return found if found.dtype == np.float32 else found.astype(np.float64)

    def _numbers(self, name: str, column: np.ndarray) -> np.ndarray:
        if name in self.levels:
            levels = {name: tuple(self.levels[name])}
            return row_makers.codes({name: column}, levels)[0][:, 0]
        if is_text(column):
            row = int(np.argmin(missing(column)))
            raise Refusal(
                f"column {name!r} holds text, such as {column[row]!r} at row {row}: choose columns "
                "of numbers with --columns, or give it a law of categories, --family "
                f"'{name}=categorical,...' or --family product"
            )
        return column

    def _formula_rows(self, table: Table) -> Any:
        try:
            found = row_makers.regression(self.formula, dict(table.columns))
        except ImportError:
            raise Refusal("a formula needs formulaic: pip install 'otmix_jax[formula]'") from None
        except ValueError:
            raise
        except Exception as error:  # formulaic's own, of many kinds
            text = " ".join(str(error).split())
            raise Refusal(f"--formula {self.formula!r}: {text}; check its columns") from None
        if self.features and tuple(found.names) != tuple(self.features):
            raise Refusal(
                f"{table.source} makes the features {', '.join(found.names)} of the formula, the "
                f"model has {', '.join(self.features)}: the same categories are needed"
            )
        return found


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a user asked for, as read from the command line.

    Attributes:
        family: a name; "product"; or "column=name,...".
        covariance: structures of Gaussians, or of what has covariances.
        options: of the family, such as {"degrees": "learn"}.
        columns: names; None is all that are not used otherwise.
        formula: of a regression.
        groups: a column.
        beside: columns that are no measurements: weights, labels.
        ignore_missing: whether cells may be missing.
    """

    family: str | None = None
    covariance: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    formula: str | None = None
    groups: str | None = None
    beside: tuple[str, ...] = ()
    ignore_missing: bool = False

    def families(self, table: Table) -> tuple[list[Description | None], Recipe]:
        """What to fit, one for each covariance structure, and how rows are made.

        None is the library's own default.

        Raises:
            Refusal: for unknown names, or what does not go together.
        """
        fixed = {"groups": self.groups, "ignore_missing": self.ignore_missing}
        laws = self._laws(table)
        if laws:
            return [self._product(laws)], self._of_product(table, laws, fixed)
        described = self._described()
        if self.formula:
            rows = Recipe(formula=self.formula).rows(table)
            return described, Recipe(formula=self.formula, features=tuple(rows.names), **fixed)
        names = self._names(table)
        first = described[0]
        coded = first is not None and issubclass(first.family, Categorical)
        levels = _levels(table, names) if coded else {}
        return described, Recipe(columns=names, levels=levels, **fixed)

    def _names(self, table: Table) -> tuple[str, ...]:
        if self.columns is not None:
            for name in self.columns:
                table.column(name)
            return self.columns
        used = {*self.beside, self.groups}
        found = tuple(name for name in table.columns if name not in used)
        if not found:
            raise Refusal(f"{table.source} has no column left to fit: name some with --columns")
        return found

    def _laws(self, table: Table) -> dict[str, str]:
        """Of a product, the family of each part."""
        told = self.family or ""
        if "=" in told:
            pairs = [pair.partition("=")[::2] for pair in told.split(",")]
            if any(not name or not law for name, law in pairs):
                raise Refusal(f"--family {told!r}: write column=family, separated by commas")
            return {name.strip(): law.strip() for name, law in pairs}
        if told != "product":
            return {}
        names = self._names(table)
        return {n: "categorical" if is_text(table.column(n)) else "gaussian" for n in names}

    def _product(self, laws: Mapping[str, str]) -> Description:
        if self.covariance or self.options:
            raise Refusal("a product has no --covariance and no --option: leave them out")
        return Product.of(**{part: _known(law) for part, law in laws.items()})

    def _of_product(self, table: Table, laws: Mapping[str, str], fixed: Any) -> Recipe:
        if self.columns is not None and "=" in (self.family or ""):
            raise Refusal("--family 'column=family,...' names the columns: leave out --columns")
        parts = tuple(laws)
        coded = [part for part, law in laws.items() if law == "categorical"]
        levels = _levels(table, [name for part in coded for name in part.split(JOINED)])
        columns = tuple(name for part in parts for name in part.split(JOINED))
        return Recipe(columns, parts, levels, **fixed)

    def _described(self) -> list[Description | None]:
        if self.family is None and not self.covariance and not self.options:
            return [None]
        family = FAMILIES[_known(self.family or "gaussian")]
        chosen: list[dict[str, Any]] = [{"covariance": one} for one in self.covariance] or [{}]
        try:
            return [family.of(**one, **self.options) for one in chosen]
        except TypeError as error:
            raise Refusal(f"{error}; see --help for --covariance and --option") from None


def _refuse_missing(name: str, column: np.ndarray) -> None:
    gone = missing(column)
    if gone.any():
        raise Refusal(
            f"column {name!r} misses {gone.sum()} cells, the first at row {int(np.argmax(gone))}: "
            "--missing ignore integrates them out when fitting; or drop those rows"
        )


def _known(family: str) -> str:
    if family not in FAMILIES:
        raise Refusal(f"no family {family!r}: choose from product, {', '.join(FAMILIES)}")
    return family


def _levels(table: Table, names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of columns of categories; whole numbers are codes already, and stay."""
    text = {name: table.column(name) for name in names if is_text(table.column(name))}
    return {n: list(found) for n, found in row_makers.codes(text)[1].items()} if text else {}


def _labels(column: np.ndarray) -> np.ndarray:
    """Labels of units, all there."""
    if missing(column).any():
        row = int(np.argmax(missing(column)))
        raise Refusal(f"the groups column has no label at row {row}: every row needs one")
    return column.astype(str) if is_text(column) else column

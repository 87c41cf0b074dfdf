"""The catalogue's groups and their legends, and tables of them for the site."""

import collections
import re

from jalign.losses.catalogue import CATALOGUE, Entry
from jalign.losses.signature import (
  array_parameters,
  formula_of,
  hyperparameters,
)
from jalign.training.kinds import KINDS, referring

UNPUBLISHED = "unpublished"  # in place of a paper

# A definition that at least this many formulas of a group share is printed
# once, above them.
SHARED = 3


def groups() -> dict[str, dict[str, Entry]]:
  """Maps kinds of batch to their losses, both in the catalogue's order."""
  by_kind: dict[str, dict[str, Entry]] = {}
  for name, entry in CATALOGUE.items():
    by_kind.setdefault(entry.batch, {})[name] = entry
  return by_kind


def clauses(entry: Entry) -> list[str]:
  """Splits a loss's formula: the loss itself, then the definitions in it."""
  return re.split(
    r", (?=(?:log )?\w+(?:\([\w, ]*\))? = )", formula_of(entry.function)
  )


def legend(entries: dict[str, Entry]) -> list[str]:
  """Returns the definitions that several formulas share, one per symbol."""
  count = collections.Counter(
    clause for entry in entries.values() for clause in clauses(entry)[1:]
  )
  usual: dict[str, str] = {}
  for clause, times in count.most_common():
    if times >= SHARED:
      usual.setdefault(clause.partition(" = ")[0], clause)
  return list(usual.values())


def needs_reference(entry: Entry) -> bool:
  """Whether a loss needs a pass through the reference model."""
  return bool(referring(KINDS[entry.batch], array_parameters(entry.function)))


def settings_of(entry: Entry) -> list[str]:
  """Returns a loss's hyperparameters as `name=default`."""
  return [f"{k}={v}" for k, v in hyperparameters(entry.function).items()]


def markdown_table() -> str:
  """Makes a table for each kind of batch, with a heading and a legend.

  A row has a loss's name, its formula without the legend's definitions, its
  hyperparameters, whether it needs the reference, and its paper.

  Returns:
    Markdown that ends with a line break.
  """
  parts = []
  for kind, entries in groups().items():
    shared = legend(entries)
    about = f"{KINDS[kind].about.capitalize()}."
    if shared:
      about += f" With {', '.join(_code(clause) for clause in shared)}:"
    head = ("loss", "l =", "hyperparameters", "ref", "paper")
    rows = [head, ("---",) * len(head)]
    rows += [_row(name, entry, shared) for name, entry in entries.items()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    parts += [f"### `{kind}`\n", f"{about}\n", table]
  return "\n".join(parts)


def _row(name: str, entry: Entry, shared: list[str]) -> tuple[str, ...]:
  loss, *definitions = clauses(entry)
  formula = [re.sub(r"^l(_b)? = ", "", loss)]
  formula += [clause for clause in definitions if clause not in shared]
  cells = (
    f"`{name}`",
    _code(", ".join(formula)),
    ", ".join(_code(setting) for setting in settings_of(entry)),
    "yes" if needs_reference(entry) else "",
    _link(entry.paper) or UNPUBLISHED,
  )
  # A bar ends a cell, even inside of code.
  return tuple(cell.replace("|", r"\|") for cell in cells)


def _code(text: str) -> str:
  return f"`{text}`"


def _link(paper: str) -> str:
  """Returns a paper's arXiv id as a link, and any other text unchanged."""
  if not re.fullmatch(r"\d{4}\.\d{4,5}", paper):
    return paper
  return f"[{paper}](https://arxiv.org/abs/{paper})"

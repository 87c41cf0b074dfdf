"""The names of metrics, with their meanings, units and places in the code.

A name is SECTION/quantity_unit. The section says on which examples or responses
the quantity was measured; one quantity has the same name in every section, in
`metrics.jsonl`, in `results.json`, in TensorBoard and as `config.STAGE.select`.
A loss's kind of batch gives names without a section, and `in_section` puts the
section in front.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jalign.glossary.probe import PROBE
from jalign.glossary.row import OTHERS, SECTIONS, SUFFIXES, Row
from jalign.glossary.samples import SAMPLES
from jalign.glossary.training import TRAINING

GROUPS: Mapping[str, tuple[Row, ...]] = {
  "Training steps, and the loss on held-out data": TRAINING,
  "Sampled responses": SAMPLES,
  "Diagnostics": PROBE,
}
GLOSSARY: tuple[Row, ...] = sum(GROUPS.values(), ())


def _expression(row: Row) -> re.Pattern[str]:
  name = re.sub("[A-Z]{2,}", ".+", row.name)
  return re.compile(f"(?:{'|'.join(row.sections)})/{name}")


_EXPRESSIONS = [_expression(row) for row in GLOSSARY]


def in_section(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values under the names SECTION/name."""
  return {f"{section}/{name}": value for name, value in values.items()}


def rows_of(name: str) -> list[Row]:
  """Returns the rows that a metric's name matches.

  A name that jalign gives matches exactly one row.

  Args:
    name: name of a metric, with its section.
  """
  return [
    row
    for row, expression in zip(GLOSSARY, _EXPRESSIONS)
    if expression.fullmatch(name)
  ]


def matching(word: str) -> list[Row]:
  """Returns the rows whose names, or else whose meanings, contain a word."""
  wanted = word.lower()
  exact = rows_of(word)
  named = [
    row
    for row in GLOSSARY
    if any(wanted in f"{s}/{row.name}".lower() for s in row.sections)
  ]
  return exact or named or [r for r in GLOSSARY if wanted in r.says.lower()]


def strangers(names: Iterable[str]) -> list[str]:
  """Returns the names that no row matches.

  These are names of older versions, and names that a user's own kind of batch
  gives.
  """
  return [name for name in names if not rows_of(name)]


def markdown() -> str:
  """Returns the glossary as a page's tables of sections, units and metrics."""
  parts = [
    "## Sections",
    _table(("section", "what is measured"), _named(SECTIONS)),
    "## Units",
    "A name ends in its unit:",
    _table(
      ("ending", "unit"), _named({f"_{k}": v for k, v in SUFFIXES.items()})
    ),
    "These quantities have no unit in their names:",
    _table(("quantity", "unit"), list(OTHERS.items())),
  ]
  for title, rows in GROUPS.items():
    cells = [
      (
        f"`{row.name}`",
        ", ".join(f"`{section}`" for section in row.sections),
        row.unit.replace("_", " "),
        row.says.replace("|", "\\|"),
        f"`jalign.{row.source}`",
      )
      for row in rows
    ]
    head = ("metric", "sections", "unit", "what it is", "computed in")
    parts += [f"## {title}", _table(head, cells)]
  return "\n\n".join(parts)


def _named(texts: Mapping[str, str]) -> list[tuple[str, ...]]:
  return [(f"`{name}`", text) for name, text in texts.items()]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
  lines = [head, ("---",) * len(head), *rows]
  return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


__all__ = [
  "GLOSSARY",
  "OTHERS",
  "SECTIONS",
  "SUFFIXES",
  "Row",
  "in_section",
  "markdown",
  "matching",
  "rows_of",
  "strangers",
]

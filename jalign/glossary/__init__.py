"""The names of metrics: what each says, its unit, and where it is computed.

A name is SECTION/quantity_unit. The section says on which examples or responses
the quantity was measured; one quantity has the same name in every section, in
`metrics.jsonl`, in `results.json`, in TensorBoard and as `config.STAGE.select`.
A loss's kind of batch gives names without a section, and `in_section` puts it
in front.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jalign.glossary.probe import PROBE
from jalign.glossary.row import OTHERS, SECTIONS, SUFFIXES, Row
from jalign.glossary.samples import SAMPLES
from jalign.glossary.training import TRAINING

GLOSSARY: tuple[Row, ...] = (*TRAINING, *SAMPLES, *PROBE)


def _expression(row: Row) -> re.Pattern[str]:
  name = re.sub("[A-Z]{2,}", ".+", row.name)
  return re.compile(f"(?:{'|'.join(row.sections)})/{name}")


_EXPRESSIONS = [_expression(row) for row in GLOSSARY]


def in_section(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
  """The values under SECTION/name."""
  return {f"{section}/{name}": value for name, value in values.items()}


def rows_of(name: str) -> list[Row]:
  """The rows that a metric's name matches: one, for a name that jalign gives.

  Args:
    name: of a metric, with its section.
  """
  return [
    row
    for row, expression in zip(GLOSSARY, _EXPRESSIONS)
    if expression.fullmatch(name)
  ]


def strangers(names: Iterable[str]) -> list[str]:
  """The names that no row matches: former ones, and those of own kinds."""
  return [name for name in names if not rows_of(name)]


__all__ = [
  "GLOSSARY",
  "OTHERS",
  "SECTIONS",
  "SUFFIXES",
  "Row",
  "in_section",
  "rows_of",
  "strangers",
]

"""Pairs whose responses have critiques, for models that write before scoring.

A row is prompt, response and critique; only the critique is scored by the
language model, and a score head reads the row's last token.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jalign.data.collate import collate_sequences, filled
from jalign.data.limits import Limits, Truncation
from jalign.data.preferences import PAIR_FIELDS, pair_record
from jalign.data.reading import (
  Columns,
  Path,
  Template,
  as_template,
  read_rows,
  to_record,
  told,
)
from jalign.data.rows import SKIP, BadRow, require
from jalign.data.schema import (
  CritiqueRecord,
  DemonstrationRecord,
  PreferenceRecord,
  Report,
)
from jalign.data.scored import ScoreBatch
from jalign.data.sequences import (
  EncodedSequence,
  encode_demonstrations,
  sequence_length,
)
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError

FORM = "{prompt}{response}\n\nCritique:"
_CRITIQUES = ("chosen_critique", "rejected_critique")


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedCritiques:
  """A pair's two rows of prompt, response and critique.

  Attributes:
    chosen: the preferred response's row; its mask is True on the critique.
    rejected: the other response's row.
    source: "file:line" of the record.
  """

  chosen: EncodedSequence
  rejected: EncodedSequence
  source: str


def critique_prompt(prompt: str, response: str) -> str:
  """What a model reads before it writes a critique of a response."""
  return FORM.format(prompt=prompt, response=response)


def critique_text(critique: str) -> str:
  """A critique as it follows `critique_prompt`."""
  return f" {critique.strip()}"


def with_critiques(
  pairs: Iterable[PreferenceRecord], critique: Callable[[str, str], str]
) -> list[CritiqueRecord]:
  """Pairs with critiques that a function writes.

  Args:
    pairs: the pairs.
    critique: `(prompt, response) -> critique`, not blank.
  """
  return [
    _critiqued(r, *(critique(r.plain or r.prompt, x) for x in _sides(r)))
    for r in pairs
  ]


def _sides(record: PreferenceRecord) -> tuple[str, str]:
  return record.chosen, record.rejected


def _critiqued(
  r: PreferenceRecord, chosen: str, rejected: str
) -> CritiqueRecord:
  return CritiqueRecord(
    r.prompt,
    r.chosen,
    r.rejected,
    chosen,
    rejected,
    r.source,
    r.group,
    r.plain,
    r.end,
  )


def read_critiques(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[CritiqueRecord], Report]:
  """Reads pairs as `read_pairs` does, with a critique of each response.

  The critiques are texts in "chosen_critique" and "rejected_critique".

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(_record, chat),
    (*PAIR_FIELDS, *told(chat), *_CRITIQUES),
    "pairs",
    data_dir,
    columns,
  )


def _record(row: dict[str, Any], where: str, template: Any) -> CritiqueRecord:
  critiques = [require(row, field) for field in _CRITIQUES]
  for field, text in zip(_CRITIQUES, critiques):
    if not isinstance(text, str):
      raise BadRow("type", f"field {field!r} is not a text.", SKIP)
    if not text.strip():
      raise BadRow("empty_response", f"field {field!r} is blank.", SKIP)
  return _critiqued(pair_record(row, where, template), *critiques)


def encode_critiques(
  records: Iterable[CritiqueRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedCritiques], Truncation]:
  """Encodes pairs with critiques.

  Args:
    records: the pairs.
    tokenizer: encodes the texts.
    limits: prompt and response together count as the prompt, and the critique
      as the response.

  Returns:
    (encoded pairs, what was cut from their rows).

  Raises:
    UserError: a chat template wrote the texts, or nothing is left of a row.
  """
  rows = []
  for record in records:
    if record.end is not None:
      raise UserError(
        "a chat template wrote the texts, and a critique can't follow the"
        " template's own words.",
        where=record.source,
        remedy="Read the data without data.template.",
      )
    rows += [
      DemonstrationRecord(
        critique_prompt(record.prompt, response),
        critique_text(critique),
        record.source,
        record.group,
      )
      for response, critique in (
        (record.chosen, record.chosen_critique),
        (record.rejected, record.rejected_critique),
      )
    ]
  encoded, cut = encode_demonstrations(rows, tokenizer, limits)
  pairs = zip(encoded[0::2], encoded[1::2], strict=True)
  return [EncodedCritiques(a, b, a.source) for a, b in pairs], cut


def critiques_length(example: EncodedCritiques) -> int:
  """Tokens of the longer of a pair's two rows."""
  return max(map(sequence_length, (example.chosen, example.rejected)))


def collate_critiques(
  encoded: Sequence[EncodedCritiques],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedCritiques | None = None,
) -> ScoreBatch:
  """Makes a batch of pairs with critiques; rows alternate as in other pairs.

  Args, Returns, Raises: as in `collate_scored_pairs`; the mask is True on the
  critiques.
  """
  sides = [
    side for e in filled(encoded, rows, fill) for side in (e.chosen, e.rejected)
  ]
  batch = collate_sequences(sides, 2 * rows, length, pad_id=pad_id)
  weights: Any = (np.arange(rows) < len(encoded)).astype(np.float32)
  ranks: Any = np.tile(np.array([1, 2], np.float32), (rows, 1))
  valid: Any = np.ones((rows, 2), bool)
  return ScoreBatch(batch.sequences, weights, ranks, valid)

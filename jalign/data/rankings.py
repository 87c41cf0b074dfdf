"""Reads rows with several responses to a prompt, each of them with a score."""

from collections.abc import Sequence
from typing import Any

from jalign.data.chat import ChatTemplate
from jalign.data.completions import RESPONSE
from jalign.data.conversations import (
  end_of,
  exchange,
  group_of_turns,
  is_blank,
  one_prompt,
  turns,
)
from jalign.data.reading import (
  Columns,
  Note,
  Path,
  Template,
  as_template,
  for_row,
  read_rows,
  told,
)
from jalign.data.rows import (
  SKIP,
  BadRow,
  first_of,
  number,
  quoted,
  require,
  rows_of_columns,
)
from jalign.data.schema import RankedRecord, Report

SCORE = ("score", "win_probability", "overall_score")
ULTRAFEEDBACK_FIELDS = ("instruction", "completions")


def read_ranked(
  path: Path,
  on_error: str = "error",
  *,
  score: str | None = None,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[RankedRecord], Report]:
  """Reads rows with a prompt and several scored responses.

  A row has a "prompt" and "responses"; higher scores are better. Responses are
  texts beside a list "scores", or objects with a "text" (or "response",
  "completion") and a score. A response whose score is null, or whose text is
  blank, is left out of its list, and the report counts it.

  Args:
    path: as at the top of `reading`.
    on_error: as at the top of `reading`.
    score: field of the scores; by default "scores" for a list of texts, and the
      first of "score", "win_probability", "overall_score" for objects.
    template: as at the top of `reading`.
    data_dir: as at the top of `reading`.
    columns: as at the top of `reading`.

  Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    lambda row, where, note: [
      ranked_record(row, where, note, for_row(chat, row), score)
    ],
    ("prompt", "responses", score or "scores", *told(chat)),
    "lists",
    data_dir,
    columns,
  )


def read_ultrafeedback(
  path: Path,
  on_error: str = "error",
  *,
  score: str = "overall_score",
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[RankedRecord], Report]:
  """Reads raw UltraFeedback: "instruction" and "completions" with scores.

  Binarized UltraFeedback is read by `read_pairs`.

  Args:
    path: as at the top of `reading`.
    on_error: as at the top of `reading`.
    score: field of a completion's score, higher is better: "overall_score" or
      "fine-grained_score".
    template: as at the top of `reading`.
    data_dir: as at the top of `reading`.
    columns: as at the top of `reading`.

  Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    lambda row, where, note: [
      ultrafeedback_record(row, where, note, for_row(chat, row), score)
    ],
    (*ULTRAFEEDBACK_FIELDS, *told(chat)),
    "lists",
    data_dir,
    columns,
  )


def ranked_record(
  row: dict[str, Any],
  where: str,
  note: Note,
  template: ChatTemplate | None,
  score: str | None,
) -> RankedRecord:
  """The record of a row with a prompt, responses and their scores.

  Args:
    row: the row.
    where: "file:line".
    note: is told of every response that is left out.
    template: writes the messages.
    score: field of the scores; None for the usual names.

  Raises:
    BadRow: the row is malformed, or fewer than two responses are left.
  """
  responses = listed(row, "responses")
  if all(isinstance(response, dict) for response in responses):
    names = (score,) if score else SCORE
    scored = _scored(responses, ("text", *RESPONSE), names)
  else:
    scores = listed(row, score or "scores")
    if len(scores) != len(responses):
      raise BadRow(
        "few",
        f"there are {len(responses)} responses and {len(scores)} scores.",
        f"Give each response a score, or null if it has none. {SKIP}",
      )
    scored = [
      (response, number({"scores": s}, "scores"))
      for response, s in zip(responses, scores)
    ]
  prompt = turns(require(row, "prompt"), "prompt", "user")
  return ranked(prompt, scored, where, note, template)


def ultrafeedback_record(
  row: dict[str, Any],
  where: str,
  note: Note,
  template: ChatTemplate | None,
  score: str,
) -> RankedRecord:
  """The record of a row of raw UltraFeedback; Raises as in `ranked_record`."""
  scored = _scored(listed(row, "completions"), RESPONSE, (score,))
  prompt = turns(require(row, "instruction"), "instruction", "user")
  return ranked(prompt, scored, where, note, template)


def ranked(
  prompt: Any,
  scored: Sequence[tuple[Any, float | None]],
  where: str,
  note: Note,
  template: ChatTemplate | None,
  group: str | None = None,
) -> RankedRecord:
  """The record of the responses that have a score and a text.

  Args:
    prompt: text or messages.
    scored: (response as text or messages, its score or None) of each response.
    where: "file:line".
    note: is told of every response that is left out.
    template: as in `exchange`.
    group: split key; by default the prompt's.

  Raises:
    BadRow: fewer than two responses are left.
  """
  exchanges, scores = [], []
  for response, score in scored:
    turn = turns(response, "responses", "assistant")
    blank = is_blank(turn)
    if score is None or blank:
      note("unscored" if score is None else "blank")
      continue
    exchanges.append(exchange(prompt, turn, template, where))
    scores.append(score)
  if len(exchanges) < 2:
    raise BadRow(
      "few",
      f"{len(exchanges)} of {len(scored)} responses have a score and a text.",
      f"A list needs two or more. {SKIP}",
    )
  written, responses = one_prompt(exchanges)
  return RankedRecord(
    prompt=written,
    responses=responses,
    scores=tuple(scores),
    source=where,
    group=group or group_of_turns(prompt),
    end=end_of(template),
  )


def listed(row: dict[str, Any], field: str) -> list[Any]:
  """The list in a row's field; raises BadRow for anything else."""
  value = rows_of_columns(require(row, field), field)
  if not isinstance(value, list):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a list.",
      f"Write it as a list. {SKIP}",
    )
  return value


def _scored(
  items: Sequence[Any], texts: Sequence[str], scores: Sequence[str]
) -> list[tuple[Any, float | None]]:
  """(response, its score or None) of each item of a list."""
  for item in items:
    if not isinstance(item, dict):
      raise BadRow(
        "type",
        f"a response is a {type(item).__name__}, not an object.",
        f"Write each as an object with its text and its score. {SKIP}",
      )
  # An item without a score is left out; if all lack it, the name is wrong.
  if items and not any(name in item for item in items for name in scores):
    raise BadRow(
      "missing",
      f"no response has {' or '.join(map(repr, scores))} "
      f"(the first has {', '.join(map(quoted, list(items[0])[:20]))}).",
      f"Name the field of the score by score=. {SKIP}",
    )
  return [
    (
      require(item, first_of(item, *texts)),
      number(item, first_of(item, *scores)),
    )
    for item in items
  ]

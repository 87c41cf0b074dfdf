"""Rows with several responses to a prompt, and a score of each."""

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
  """Reads "prompt" and "responses" with a score each, higher is better.

  Responses are texts beside a list "scores"; or objects with a "text" (or
  "response", "completion") and a score. A response whose score is null, or
  whose text is blank, is left out of its list, and the report counts it.

  Args:
    path: as at the top of `reading`.
    on_error: the same.
    score: field of the scores; default "scores" for a list of texts, and the
      first of "score", "win_probability", "overall_score" for objects.
    template: as at the top of `reading`.
    data_dir: the same.
    columns: the same.

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
    on_error: the same.
    score: field of a completion, higher is better: "overall_score", or
      "fine-grained_score".
    template: as at the top of `reading`.
    data_dir: the same.
    columns: the same.

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
  """A row of a prompt and a list of responses with their scores."""
  responses = _listed(row, "responses")
  if all(isinstance(response, dict) for response in responses):
    names = (score,) if score else SCORE
    scored = _scored(responses, ("text", *RESPONSE), names)
  else:
    scores = _listed(row, score or "scores")
    if len(scores) != len(responses):
      raise BadRow(
        "few",
        f"there are {len(responses)} responses and {len(scores)} scores.",
        f"Give each response a score; null where it has none. {SKIP}",
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
  """A row of raw UltraFeedback: an instruction and its completions."""
  scored = _scored(_listed(row, "completions"), RESPONSE, (score,))
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
  """A list of the responses that have a score and a text.

  Args:
    prompt: text or messages.
    scored: (response as text or messages, score or None).
    where: "file:line".
    note: is told of every response that is left out.
    template: as `exchange`.
    group: split key; default the prompt's.

  Raises:
    BadRow: fewer than two are left.
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


def _listed(row: dict[str, Any], field: str) -> list[Any]:
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
  """(response, score or None) of the items of a list."""
  for item in items:
    if not isinstance(item, dict):
      raise BadRow(
        "type",
        f"a response is a {type(item).__name__}, not an object.",
        f"Write each as an object with its text and its score. {SKIP}",
      )
  # One that lacks its score is left out; where all do, the name is wrong.
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

"""Reads answers of forums with their votes, and turns votes into scores."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jalign.data.chat import ChatTemplate
from jalign.data.completions import RESPONSE
from jalign.data.conversations import turns
from jalign.data.rankings import listed, ranked
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
from jalign.data.rows import SKIP, BadRow, first_of, number, quoted, require
from jalign.data.schema import RankedRecord, Report

ANSWERS = ("answers", "responses")
QUESTION = ("question", "prompt")
VOTES = ("upvotes", "votes")
ACCEPTED = ("accepted", "selected")


def forum_scores(upvotes: Any, accepted: Any = False) -> np.ndarray:
  """Scores of answers by their votes.

  round(log2(1 + upvotes)), and -1 where there are more votes against than for;
  1 more for the answer that the asker accepted.

  Askell et al. 2021, "A General Language Assistant as a Laboratory for
  Alignment", arXiv:2112.00861, cited from memory.

  Args:
    upvotes: [N] votes for an answer less those against it.
    accepted: [N] bool, whether the asker accepted the answer.

  Returns:
    [N] float64 whole numbers.
  """
  votes = np.asarray(upvotes, np.float64)
  scores = np.round(np.log2(1 + np.maximum(votes, 0)))
  return np.where(votes < 0, -1.0, scores) + np.asarray(accepted, np.float64)


def read_forum(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[RankedRecord], Report]:
  """Reads questions with answers that were voted on; their scores rank them.

  A row has a "question" (or "prompt") and "answers" (or "responses"): objects
  with a "text" (or "response", "completion"), the number "upvotes" (or "votes")
  less votes against, and true in "accepted" (or "selected") where the asker
  accepted the answer. Scores are those of `forum_scores`. An answer whose votes
  are null, or whose text is blank, is left out, and the report counts it.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    lambda row, where, note: [
      forum_record(row, where, note, for_row(chat, row))
    ],
    (*QUESTION, *ANSWERS, *told(chat)),
    "lists",
    data_dir,
    columns,
  )


def forum_record(
  row: dict[str, Any], where: str, note: Note, template: ChatTemplate | None
) -> RankedRecord:
  """The record of a row with a question and voted answers; raises BadRow."""
  question = first_of(row, *QUESTION)
  scored = []
  for item in listed(row, first_of(row, *ANSWERS)):
    if not isinstance(item, dict):
      raise BadRow(
        "type",
        f"an answer is a {type(item).__name__}, not an object.",
        f"Write each as an object with its text and its votes. {SKIP}",
      )
    votes = number(item, first_of(item, *VOTES))
    accepted = item.get(first_of(item, *ACCEPTED)) or False
    if not isinstance(accepted, bool | int) or accepted not in (0, 1):
      raise BadRow(
        "label",
        f"an answer's 'accepted' is {quoted(accepted)}.",
        f"Write true or false. {SKIP}",
      )
    score = None if votes is None else float(forum_scores(votes, accepted))
    scored.append((require(item, first_of(item, "text", *RESPONSE)), score))
  prompt = turns(require(row, question), question, "user")
  return ranked(prompt, scored, where, note, template)


def by_votes(records: Iterable[RankedRecord]) -> list[RankedRecord]:
  """The lists, whose scores are net upvotes, with scores by `forum_scores`."""
  return [
    RankedRecord(
      r.prompt,
      r.responses,
      tuple(forum_scores(r.scores).tolist()),
      r.source,
      r.group,
      r.plain,
      r.end,
    )
    for r in records
  ]

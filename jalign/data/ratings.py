"""Reads and encodes responses that are rated on one or several objectives."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jalign.data.chat import ChatTemplate
from jalign.data.completions import RESPONSE, prompt_and_response
from jalign.data.conversations import (
  end_of,
  exchange,
  group_of_turns,
)
from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  encode_texts,
)
from jalign.data.reading import (
  Columns,
  Path,
  Template,
  as_template,
  read_rows,
  to_record,
  told,
)
from jalign.data.rows import SKIP, BadRow, named_numbers
from jalign.data.schema import RatingRecord, Report
from jalign.data.tokenizer import Tokenizer

# The ratings of HelpSteer and HelpSteer2, which have columns of their own.
HELPSTEER = (
  "helpfulness",
  "correctness",
  "coherence",
  "complexity",
  "verbosity",
)


def read_ratings(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[RatingRecord], Report]:
  """Reads responses with ratings.

  A row has "prompt", "response" (or "completion") and "ratings", an object of
  numbers such as {"helpfulness": 4, "verbosity": null}. Rows without "ratings"
  may have HelpSteer's columns "helpfulness", "correctness", "coherence",
  "complexity" and "verbosity". A rating that is null is missing; a row without
  any number is bad.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(rating_record, chat),
    ("prompt", *RESPONSE, "ratings", *HELPSTEER, *told(chat)),
    "ratings",
    data_dir,
    columns,
  )


def rating_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> RatingRecord:
  """The record of a row with a prompt, a response and its ratings.

  Raises:
    BadRow: the row lacks one of them, or the template refuses it.
  """
  prompt, response = prompt_and_response(row)
  if row.get("ratings") is None:
    named = {name: row[name] for name in HELPSTEER if name in row}
    row = {**row, "ratings": named}
  found = named_numbers(row, "ratings")
  ratings = {name: of for name, of in found.items() if of is not None}
  if not ratings:
    raise BadRow(
      "missing",
      "the response has no rating.",
      'Give "ratings", an object with one number or more, or HelpSteer\'s'
      f" columns. {SKIP}",
    )
  written, answer = exchange(prompt, response, template, where)
  return RatingRecord(
    written,
    answer,
    ratings,
    where,
    group_of_turns(prompt),
    end=end_of(template),
  )


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedRating:
  """Token ids of a rated response, as int32 arrays.

  Attributes:
    prompt: [n] ids, n > 0, with the tokens that begin the text.
    response: [n] ids, with the token that ends the response unless it was cut.
    ratings: one or more numbers by the name of an objective.
    source: "file:line" of the record.
    cut: numbers of tokens dropped from (prompt, response).
  """

  prompt: np.ndarray
  response: np.ndarray
  ratings: Mapping[str, float]
  source: str
  cut: tuple[int, ...] = (0, 0)


def encode_ratings(
  records: Iterable[RatingRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedRating], Truncation]:
  """Encodes rated responses, cut to the limits.

  Args:
    records: the responses.
    tokenizer: encodes prompts and responses.
    limits: where to cut.

  Returns:
    (encoded responses, what was cut from them).

  Raises:
    UserError: a prompt has no token, or leaves no room for a response.
  """
  responses, joined = [], 0
  for record in records:
    encoded = encode_texts(record, (record.response,), tokenizer, limits)
    joined += encoded.joined
    responses.append(
      EncodedRating(
        prompt=encoded.prompt,
        response=encoded.responses[0],
        ratings=record.ratings,
        source=record.source,
        cut=encoded.cut,
      )
    )
  return responses, Truncation(
    noun="responses",
    count=len(responses),
    parts={
      name: count_cuts(encoded.cut[i] for encoded in responses)
      for i, name in enumerate(("prompts", "responses"))
    },
    joined=joined,
  )


def rating_length(encoded: EncodedRating) -> int:
  """Tokens of the prompt with its response."""
  return len(encoded.prompt) + len(encoded.response)

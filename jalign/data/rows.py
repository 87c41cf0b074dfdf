"""What one field of a row must be; anything else is a `BadRow`."""

import json
import math
from typing import Any

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"

SKIP = 'Mend the line, or read with on_error="skip" to leave such rows out.'


class BadRow(Exception):
  """A row that cannot be used: (reason, problem, remedy)."""


def parse_object(line: bytes) -> dict[str, Any]:
  """The JSON object that a line holds."""
  try:
    row = json.loads(line.decode("utf-8-sig"))
  except UnicodeDecodeError as error:
    remedy = "Save the file as UTF-8" + (
      "; a gzip file's name must end in .gz."
      if line.startswith(b"\x1f\x8b")
      else "."
    )
    raise BadRow(
      "unreadable", f"the line is not UTF-8 text ({error.reason}).", remedy
    ) from None
  except (ValueError, RecursionError) as error:
    raise BadRow(
      "json",
      f"the line is not JSON ({error}).",
      "The file may be one JSON array: write each of its objects on a line."
      if line.lstrip().startswith(b"[")
      else f"Each line must be one whole JSON object. {SKIP}",
    ) from None
  if not isinstance(row, dict):
    raise BadRow(
      "object",
      f"the line is a JSON {type(row).__name__}, not an object.",
      'Write each line as {"prompt": ..., "chosen": ..., "rejected": ...}.',
    )
  return row


def text(row: dict[str, Any], field: str) -> str:
  """The string in a field."""
  value = require(row, field)
  if not isinstance(value, str):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a string.",
      f"Write it as a string. {SKIP}",
    )
  return check_unicode(value, field)


def number(row: dict[str, Any], field: str) -> float | None:
  """The finite number in a field; None if the field is missing or null."""
  value = row.get(field)
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a number.",
      f"Write it as a number, or leave it out of every line. {SKIP}",
    )
  probability = field == "preference"
  if probability and not 0 <= value <= 1:
    raise BadRow(
      "range",
      f"field 'preference' is {value}, outside [0, 1].",
      f"It is the probability that chosen is the better one. {SKIP}",
    )
  if abs(value) > 3e38 or not math.isfinite(value):
    raise BadRow(
      "range", f"field {field!r} is {value}.", f"Give a finite number. {SKIP}"
    )
  return float(value)


def check_prompt(prompt: str) -> str:
  """The prompt, if it isn't blank."""
  if not prompt.strip():
    raise BadRow(
      "empty_prompt", "the prompt is empty.", f"Write a prompt. {SKIP}"
    )
  return prompt


def check_response(response: str, name: str = "") -> str:
  """The response, if it isn't blank."""
  if not response.strip():
    raise BadRow(
      "empty_response",
      f"the {name + ' ' if name else ''}response is empty.",
      f"Write a response. {SKIP}",
    )
  return response


def check_two(chosen: str, rejected: str) -> None:
  """Neither response is blank, and they differ."""
  check_response(chosen, "chosen")
  check_response(rejected, "rejected")
  if chosen == rejected:
    raise BadRow(
      "identical",
      "the chosen and the rejected response are equal.",
      f"A pair needs two responses. {SKIP}",
    )


def check_unicode(value: str, field: str) -> str:
  """The text, if it can be encoded."""
  try:
    value.encode()
  except UnicodeEncodeError:
    raise BadRow(
      "unicode",
      f"field {field!r} has a lone surrogate, which no text can have.",
      rf"Write whole \uXXXX\uXXXX pairs. {SKIP}",
    ) from None
  return value


def require(row: dict[str, Any], field: str) -> Any:
  """What a field holds, whatever its type."""
  if field not in row:
    have = ", ".join(repr(key) for key in row) or "none"
    raise BadRow(
      "missing",
      f"field {field!r} is missing (the line has {have}).",
      f"Add it, or choose the source that fits the file. {SKIP}",
    )
  return row[field]


def first_of(row: dict[str, Any], *fields: str) -> str:
  """The first of some names that the row has a value for; else the first."""
  return next((f for f in fields if row.get(f) is not None), fields[0])


def group_of(prompt: str) -> str:
  """The first human turn of an HH prompt; else the prompt."""
  if not prompt.startswith(HUMAN):
    return prompt.strip()
  turn = prompt.removeprefix(HUMAN).split(ASSISTANT)[0].split(HUMAN)[0]
  return turn.strip()

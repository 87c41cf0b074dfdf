"""What one field of a row must be; anything else is a `BadRow`."""

import math
import reprlib
from typing import Any

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"

SKIP = (
  'Mend the line or take it out; on_error="skip", of training and your own'
  " code, and --skip_bad_rows of `jalign score` leave such rows out."
)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class BadRow(Exception):
  """A row that cannot be used: (reason, problem, remedy)."""


class _Unread:
  def __repr__(self) -> str:
    return "(not read)"


# Stands in a row for what its container has and nobody asked for.
UNREAD: Any = _Unread()


def quoted(value: Any) -> str:
  """A value of a file as a message shows it: short, on one line, escaped."""
  return _short.repr(value)


def kind_of(value: Any) -> str:
  """ "a list", "an empty list", "nothing": what a value is, in words."""
  if value is None:
    return "nothing"
  empty = isinstance(value, list | dict) and not value
  return f"{'an empty' if empty else 'a'} {type(value).__name__}"


def text(row: dict[str, Any], field: str) -> str:
  """The string in a field."""
  value = require(row, field)
  if not isinstance(value, str):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a string.",
      f"Write it as a string. {SKIP}",
    )
  return value


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
      "range",
      f"field {field!r} is {quoted(value)}.",
      f"Give a finite number. {SKIP}",
    )
  return float(value)


def empty_prompt() -> BadRow:
  """A prompt without any text."""
  return BadRow(
    "empty_prompt", "the prompt is empty.", f"Write a prompt. {SKIP}"
  )


def empty_response(name: str = "") -> BadRow:
  """A response without any text: "chosen" or whatever it is called."""
  return BadRow(
    "empty_response",
    f"the {name + ' ' if name else ''}response is empty.",
    f"Write a response. {SKIP}",
  )


def check_two(chosen: str, rejected: str) -> None:
  """Neither response is blank, and they differ."""
  for name, response in (("chosen", chosen), ("rejected", rejected)):
    if not response.strip():
      raise empty_response(name)
  if chosen == rejected:
    raise BadRow(
      "identical",
      "the chosen and the rejected response are equal.",
      f"A pair needs two responses. {SKIP}",
    )


def require(row: dict[str, Any], field: str) -> Any:
  """What a field holds, whatever its type."""
  if field not in row:
    have = ", ".join(quoted(key) for key in list(row)[:20]) or "none"
    raise BadRow(
      "missing",
      f"field {field!r} is missing (the line has {have}).",
      f"Add it, or choose the source that fits the file. {SKIP}",
    )
  return row[field]


def rows_of_columns(value: Any, field: str) -> Any:
  """Columns become rows: TFDS and `datasets` give lists of objects so.

  Anything but an object of lists comes back as it is.

  Raises:
    BadRow: the columns aren't equally long.
  """
  if not isinstance(value, dict) or not all(
    isinstance(v, list) for v in value.values()
  ):
    return value
  lengths = {name: len(column) for name, column in value.items()}
  if len(set(lengths.values())) > 1:
    said = ", ".join(f"{quoted(k)} {n}" for k, n in list(lengths.items())[:20])
    raise BadRow(
      "columns",
      f"the columns of field {field!r} have different lengths ({said}).",
      f"Give each as many entries. {SKIP}",
    )
  return [
    {name: v for name, v in zip(value, values) if v is not None}
    for values in zip(*value.values())
  ]


def first_of(row: dict[str, Any], *fields: str) -> str:
  """The first of some names that the row has a value for; else the first."""
  return next((f for f in fields if row.get(f) is not None), fields[0])


def group_of(prompt: str) -> str:
  """The first human turn of an HH prompt; else the prompt."""
  if not prompt.startswith(HUMAN):
    return prompt.strip()
  turn = prompt.removeprefix(HUMAN).split(ASSISTANT)[0].split(HUMAN)[0]
  return turn.strip()

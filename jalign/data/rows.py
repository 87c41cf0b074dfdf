"""Checks of single fields of a row; a field that fails raises `BadRow`."""

import math
import reprlib
from typing import Any

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"

SKIP = (
  "Mend the line or take it out. Such rows are left out by"
  " --config.data.on_error=skip in training, by --skip_bad_rows of `jalign"
  ' score`, and by on_error="skip" in your own code.'
)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class BadRow(Exception):
  """A row that cannot be used: (reason, problem, remedy)."""


class _Unread:
  def __repr__(self) -> str:
    return "(not read)"


# Stands in a row for a value that the container has and nobody asked for.
UNREAD: Any = _Unread()


def quoted(value: Any) -> str:
  """A value of a file as errors show it: short, escaped, on one line."""
  return _short.repr(value)


def kind_of(value: Any) -> str:
  """What a value is, in words: "a list", "an empty list", "nothing"."""
  if value is None:
    return "nothing"
  empty = isinstance(value, list | dict) and not value
  return f"{'an empty' if empty else 'a'} {type(value).__name__}"


def text(row: dict[str, Any], field: str) -> str:
  """The string in a field; raises BadRow if there is none."""
  value = require(row, field)
  if not isinstance(value, str):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a string.",
      f"Write it as a string. {SKIP}",
    )
  return value


def number(row: dict[str, Any], field: str) -> float | None:
  """The finite number in a field; None if the field is missing or null.

  Raises:
    BadRow: the value is not a finite number or, for "preference", lies outside
      [0, 1].
  """
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
      f"It is the probability that the chosen response is better. {SKIP}",
    )
  if abs(value) > 3e38 or not math.isfinite(value):
    raise BadRow(
      "range",
      f"field {field!r} is {quoted(value)}.",
      f"Give a finite number. {SKIP}",
    )
  return float(value)


def named_numbers(row: dict[str, Any], field: str) -> dict[str, float | None]:
  """The numbers in a field, by name; {} if the field is missing or null.

  Args:
    row: the row.
    field: the field: an object of numbers, or a list of objects with a "name"
      and a "value", as where all rows of a file must have the same names.

  Returns:
    Name -> number, None where a number is null.

  Raises:
    BadRow: the field holds something else, a name comes twice, or a number is
      not finite.
  """
  value = row.get(field)
  if value is None:
    return {}
  if isinstance(value, dict) and set(value) == {"name", "value"}:
    value = rows_of_columns(value, field)
  if isinstance(value, list) and all(
    isinstance(item, dict) and isinstance(item.get("name"), str)
    for item in value
  ):
    pairs = [(item["name"], item.get("value")) for item in value]
  elif isinstance(value, dict):
    pairs = list(value.items())
  else:
    raise BadRow(
      "type",
      f"field {field!r} is {kind_of(value)}, not an object of numbers.",
      f'Write it as in {{"helpfulness": 4, "verbosity": null}}. {SKIP}',
    )
  numbers: dict[str, float | None] = {}
  for name, of in pairs:
    if name in numbers or not name.strip():
      raise BadRow(
        "keys",
        f"field {field!r} names {quoted(name)}"
        f"{' twice' if name in numbers else ''}.",
        f"Give each number a name of its own. {SKIP}",
      )
    numbers[name] = number({f"{field}.{name}": of}, f"{field}.{name}")
  return numbers


def flag(row: dict[str, Any], field: str) -> bool | None:
  """The truth value in a field; None if the field is missing or null.

  Raises:
    BadRow: the value is neither true, false, 0 nor 1.
  """
  value = row.get(field)
  if value is None:
    return None
  if not isinstance(value, bool | int | float) or value not in (0, 1):
    raise BadRow(
      "label",
      f"field {field!r} is {quoted(value)}.",
      f"Write true (or 1) or false (or 0). {SKIP}",
    )
  return bool(value)


def name_in(row: dict[str, Any], field: str) -> str | None:
  """The name in a field, a text or a whole number; None if there is none.

  Raises:
    BadRow: the field holds something else, or a blank text.
  """
  value = row.get(field)
  if value is None:
    return None
  whole = isinstance(value, int) and not isinstance(value, bool)
  if whole or (isinstance(value, str) and value.strip()):
    return str(value)
  raise BadRow(
    "type",
    f"field {field!r} is {quoted(value)}, which is no name.",
    f"Write it as a text or a whole number. {SKIP}",
  )


def empty_prompt() -> BadRow:
  """The BadRow for a prompt without any text."""
  return BadRow(
    "empty_prompt", "the prompt is empty.", f"Write a prompt. {SKIP}"
  )


def empty_response(name: str = "") -> BadRow:
  """The BadRow for a response without any text; `name` is "chosen", say."""
  return BadRow(
    "empty_response",
    f"the {name + ' ' if name else ''}response is empty.",
    f"Write a response. {SKIP}",
  )


def check_two(chosen: str, rejected: str) -> None:
  """Raises BadRow if a response is blank, or if the two are equal."""
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
  """What a field holds, of any type; raises BadRow if the row lacks it."""
  if field not in row:
    have = ", ".join(quoted(key) for key in list(row)[:20]) or "none"
    raise BadRow(
      "missing",
      f"field {field!r} is missing (the line has {have}).",
      f"If another column holds it, give --config.data.columns={field}=COLUMN"
      f" in training, or --columns={field}=COLUMN in other commands; or choose"
      f" the source that fits the file. {SKIP}",
    )
  return row[field]


def rows_of_columns(value: Any, field: str) -> Any:
  """Turns an object of columns into rows.

  TFDS and `datasets` give lists of objects as such columns. Any other value
  comes back as it is.

  Raises:
    BadRow: the columns haven't the same length.
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
      f"Give all columns the same number of entries. {SKIP}",
    )
  return [
    {name: v for name, v in zip(value, values) if v is not None}
    for values in zip(*value.values())
  ]


def first_of(row: dict[str, Any], *fields: str) -> str:
  """The first of the fields that the row has a value for, or `fields[0]`."""
  return next((f for f in fields if row.get(f) is not None), fields[0])


def group_of(prompt: str) -> str:
  """A prompt's split key: an HH prompt's first human turn, else the prompt."""
  if not prompt.startswith(HUMAN):
    return prompt.strip()
  turn = prompt.removeprefix(HUMAN).split(ASSISTANT)[0].split(HUMAN)[0]
  return turn.strip()

"""Plain values: what JSON text holds, and what any container's fields become.

A field is text, a number, true, false, null, a list or an object, and the same
whichever container it comes from. Containers of columns give every object every
key, so that a key whose value is null counts as missing.
"""

import datetime
import decimal
import json
from collections import Counter
from typing import Any

from jalign.data.rows import SKIP, BadRow, quoted

MAX_DEPTH = 100  # lists and objects within each other


def parse_object(line: bytes) -> dict[str, Any]:
  """The JSON object on a line.

  Raises:
    BadRow: the line is not UTF-8, is not JSON, or holds no object.
  """
  try:
    row = parse_json(line.decode("utf-8-sig"))
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


def parse_json(text: str) -> Any:
  """The value that a JSON text holds.

  Raises:
    ValueError, RecursionError: the text isn't JSON.
    BadRow: an object has a key twice, which readers of JSON disagree on.
  """
  return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  value = dict(pairs)
  if len(value) < len(pairs):
    (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
    raise BadRow(
      "keys",
      f"the key {quoted(twice)} comes twice in one object.",
      f"Leave one of them out. {SKIP}",
    )
  return value


def parsed_field(value: str, field: str) -> Any:
  """The plain value that the JSON text in a field holds.

  Raises:
    BadRow: the text isn't JSON; or as in `plain`.
  """
  try:
    return plain(parse_json(value), field)
  except (ValueError, RecursionError) as error:
    raise BadRow(
      "json",
      f"field {field!r} is not JSON ({error}).",
      f"Mend it. {SKIP}",
    ) from None


def plain(value: Any, field: str) -> Any:
  """A field's value as plain values, without nulls in its objects.

  Nulls in lists stay. Dates and times become ISO 8601 text, decimals numbers,
  and bytes the text that they encode in UTF-8.

  Args:
    value: what a container gave.
    field: its name, for errors.

  Raises:
    BadRow: there is a lone surrogate anywhere, lists and objects lie more than
      `MAX_DEPTH` deep, or a value is of no such kind.
  """
  return _plain(value, field, MAX_DEPTH)


def _plain(value: Any, field: str, left: int) -> Any:
  if isinstance(value, str):
    return _check_unicode(value, field)
  if value is None or isinstance(value, bool | int | float):
    return value
  if isinstance(value, list | tuple | dict):
    if not left:
      raise BadRow(
        "deep",
        f"field {field!r} has more than {MAX_DEPTH} lists and objects within "
        "each other.",
        f"Write it flatter. {SKIP}",
      )
    if isinstance(value, dict):
      return {
        _check_unicode(str(key), field): _plain(v, field, left - 1)
        for key, v in value.items()
        if v is not None
      }
    return [_plain(v, field, left - 1) for v in value]
  if isinstance(value, datetime.date | datetime.time):
    return value.isoformat()
  if isinstance(value, datetime.timedelta):
    return str(value)
  if isinstance(value, decimal.Decimal):
    return int(value) if value == value.to_integral_value() else float(value)
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      pass
  raise BadRow(
    "type",
    f"field {field!r} holds {type(value).__name__}, which is neither text nor "
    "a number.",
    f"Leave it out. {SKIP}",
  )


def _check_unicode(value: str, field: str) -> str:
  """The text; raises BadRow if it has a lone surrogate."""
  try:
    value.encode()
  except UnicodeEncodeError:
    raise BadRow(
      "unicode",
      f"field {field!r} has a lone surrogate, which no text can have.",
      rf"Write whole \uXXXX\uXXXX pairs. {SKIP}",
    ) from None
  return value

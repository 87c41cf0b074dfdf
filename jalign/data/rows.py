"""What one row must be: JSON objects become records, or a `BadRow`."""

import json
import math
from typing import Any

from jalign.data.schema import PreferenceRecord, PromptRecord

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"
TEXTS = ("prompt", "chosen", "rejected")
NUMBERS = ("preference", "chosen_score", "rejected_score")

_SKIP = 'Mend the line, or read with on_error="skip" to leave such rows out.'


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
      f"Each line must be one whole JSON object. {_SKIP}",
    ) from None
  if not isinstance(row, dict):
    raise BadRow(
      "object",
      f"the line is a JSON {type(row).__name__}, not an object.",
      'Write each line as {"prompt": ..., "chosen": ..., "rejected": ...}.',
    )
  return row


def _text(row: dict[str, Any], field: str) -> str:
  """The string in a field."""
  if field not in row:
    have = ", ".join(repr(key) for key in row) or "none"
    raise BadRow(
      "missing",
      f"field {field!r} is missing (the line has {have}).",
      f"Add it, or choose the source that fits the file. {_SKIP}",
    )
  value = row[field]
  if not isinstance(value, str):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a string.",
      f"Write it as a string. {_SKIP}",
    )
  try:
    value.encode()
  except UnicodeEncodeError:
    raise BadRow(
      "unicode",
      f"field {field!r} has a lone surrogate, which no text can have.",
      rf"Write whole \uXXXX\uXXXX pairs. {_SKIP}",
    ) from None
  return value


def _number(row: dict[str, Any], field: str) -> float | None:
  """The finite number in a field; None if the field is missing or null."""
  value = row.get(field)
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise BadRow(
      "type",
      f"field {field!r} is a {type(value).__name__}, not a number.",
      f"Write it as a number, or leave it out of every line. {_SKIP}",
    )
  probability = field == "preference"
  if probability and not 0 <= value <= 1:
    raise BadRow(
      "range",
      f"field 'preference' is {value}, outside [0, 1].",
      f"It is the probability that chosen is the better one. {_SKIP}",
    )
  if abs(value) > 3e38 or not math.isfinite(value):
    raise BadRow(
      "range", f"field {field!r} is {value}.", f"Give a finite number. {_SKIP}"
    )
  return float(value)


def _prompt_text(row: dict[str, Any]) -> str:
  prompt = _text(row, "prompt")
  if not prompt.strip():
    raise BadRow(
      "empty_prompt", "the prompt is empty.", f"Write a prompt. {_SKIP}"
    )
  return prompt


def _check_responses(chosen: str, rejected: str) -> None:
  for name, response in (("chosen", chosen), ("rejected", rejected)):
    if not response.strip():
      raise BadRow(
        "empty_response",
        f"the {name} response is empty.",
        f"Write a response. {_SKIP}",
      )
  if chosen == rejected:
    raise BadRow(
      "identical",
      "the chosen and the rejected response are equal.",
      f"A pair needs two responses. {_SKIP}",
    )


def prompt_record(row: dict[str, Any], where: str) -> PromptRecord:
  """A row of a file of prompts."""
  prompt = _prompt_text(row)
  return PromptRecord(prompt, where, _group(prompt))


def pair_record(row: dict[str, Any], where: str) -> PreferenceRecord:
  """A row with prompt, chosen and rejected."""
  prompt = _prompt_text(row)
  chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
  _check_responses(chosen, rejected)
  preference, chosen_score, rejected_score = (_number(row, n) for n in NUMBERS)
  return PreferenceRecord(
    prompt=prompt,
    chosen=chosen,
    rejected=rejected,
    source=where,
    group=_group(prompt),
    preference=preference,
    chosen_score=chosen_score,
    rejected_score=rejected_score,
  )


def transcript_record(row: dict[str, Any], where: str) -> PreferenceRecord:
  """A row with two whole HH transcripts."""
  prompt, chosen = _last_turn(row, "chosen")
  other, rejected = _last_turn(row, "rejected")
  if prompt != other:
    raise BadRow(
      "diverging",
      "the two transcripts part before the last assistant turn.",
      f"Both must share everything but the last assistant turn. {_SKIP}",
    )
  _check_responses(chosen, rejected)
  return PreferenceRecord(prompt, chosen, rejected, where, _group(prompt))


def _last_turn(row: dict[str, Any], field: str) -> tuple[str, str]:
  r"""(all up to and with the last "\n\nAssistant:", what follows it)."""
  head, mark, response = _text(row, field).rpartition(ASSISTANT)
  if not mark or HUMAN in response or not head.startswith(HUMAN):
    raise BadRow(
      "transcript",
      f"field {field!r} is not a transcript that begins with a human turn and "
      "ends with an assistant turn.",
      r'Write "\n\nHuman: ...\n\nAssistant: ...", or use the source "jsonl". '
      f"{_SKIP}",
    )
  if not head.removeprefix(HUMAN).strip():
    raise BadRow(
      "empty_prompt", "the prompt is empty.", f"Write a human turn. {_SKIP}"
    )
  return head + mark, response


def _group(prompt: str) -> str:
  """The first human turn of an HH prompt; else the prompt."""
  if not prompt.startswith(HUMAN):
    return prompt.strip()
  turn = prompt.removeprefix(HUMAN).split(ASSISTANT)[0].split(HUMAN)[0]
  return turn.strip()

"""Records of any kind, reduced to what the checks of a file compare."""

import json
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from jalign.data.schema import (
  BinaryRecord,
  ConversationRecord,
  PreferenceRecord,
  RankedRecord,
  RatingRecord,
)


class CheckedRecord(NamedTuple):
  """A record of any kind, reduced to what the checks compare.

  Attributes:
    source: "file:line".
    group: split key.
    prompt: text of the prompt.
    responses: texts of the responses.
    row: a key that is equal for exact duplicates.
    asked: a key that is equal for records that label the same thing; None for
      kinds of records that can't contradict each other.
    label: the record's label, to compare among records of equal `asked`.
  """

  source: str
  group: str
  prompt: str
  responses: tuple[str, ...]
  row: Hashable
  asked: Hashable = None
  label: Hashable = None


def checked(record: Any) -> CheckedRecord:
  """Reduces a record of any kind."""
  fields: dict[str, Any] = {"asked": None, "label": None}
  if isinstance(record, ConversationRecord):
    turns = [(m["role"], _said(m)) for m in record.messages]
    prompt = "\n\n".join(f"{role}: {text}" for role, text in turns[:-1])
    responses = tuple(text for role, text in turns if role == "assistant")
    fields["row"] = _whole([record.messages, record.variables])
  else:
    prompt = record.prompt
    if isinstance(record, PreferenceRecord):
      responses = (record.chosen, record.rejected)
      # Raters may differ, and what is better under one objective is worse
      # under another.
      asker = record.rater, record.objective
      fields |= {
        "asked": (prompt, frozenset(responses), *asker),
        "label": record.chosen,
        "row": (prompt, responses, *asker),
      }
    elif isinstance(record, RankedRecord):
      responses = record.responses
      fields["row"] = (prompt, responses, record.scores)
    elif isinstance(record, RatingRecord):
      responses = (record.response,)
      fields["row"] = (prompt, responses, frozenset(record.ratings.items()))
    elif isinstance(record, BinaryRecord):
      responses = (record.response,)
      fields |= {
        "asked": (prompt, record.response),
        "label": record.desirable,
      }
    else:
      answer = getattr(record, "response", None)
      responses = () if answer is None else (answer,)
  row = fields.pop("row", (prompt, responses, fields["label"]))
  return CheckedRecord(
    record.source, record.group, prompt, responses, row, **fields
  )


def _said(message: Mapping[str, Any]) -> str:
  """The text of a message, and its tool calls."""
  calls = message.get("tool_calls")
  return "\n".join([message["content"], *([_whole(calls)] if calls else [])])


def _whole(value: Any) -> str:
  """A text that is equal for values that are equal at every depth."""
  return json.dumps(value, sort_keys=True)

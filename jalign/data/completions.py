"""Reads rows with one response, which is to be imitated or has a label."""

from typing import Any

from jalign.data.chat import ChatTemplate
from jalign.data.conversations import (
  end_of,
  exchange,
  group_of_turns,
  is_blank,
  last_turn,
  messages_of,
  turns,
)
from jalign.data.reading import (
  VARIABLES,
  Columns,
  Path,
  Template,
  as_template,
  read_rows,
  to_record,
  told,
  variables_of,
)
from jalign.data.rows import SKIP, BadRow, first_of, quoted, require
from jalign.data.schema import (
  BinaryRecord,
  ContextRecord,
  ConversationRecord,
  DemonstrationRecord,
  Report,
)

RESPONSE = ("response", "completion")  # names of the field in data sets
CONVERSATION = ("messages", "conversations")


def read_demonstrations(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[DemonstrationRecord] | list[ContextRecord], Report]:
  """Reads responses to imitate.

  A row has "messages" (or "conversations"), of which the last turn is the
  response and the others are the prompt; or "prompt" and "response" (or
  "completion"), as texts or messages. Where `columns` name a column for the
  field "context", records have what a teacher reads before the prompt; a row
  without the column has the context "".

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  beside = ("context",) if "context" in (columns or {}) else ()
  return read_rows(
    path,
    on_error,
    to_record(_context_record if beside else demonstration_record, chat),
    ("prompt", *RESPONSE, *CONVERSATION, *told(chat), *beside),
    "demonstrations",
    data_dir,
    columns,
  )


def read_conversations(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[ConversationRecord], Report]:
  """Reads conversations of which every assistant turn is to be imitated.

  A row has "messages" (or "conversations"). Records keep the messages, and
  `encode_conversations` takes the template that writes them. A template given
  here only checks: a conversation that the template refuses is a bad row.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(conversation_record, chat),
    (*CONVERSATION, *(told(chat) if chat else VARIABLES)),
    "conversations",
    data_dir,
    columns,
  )


def read_binary(
  path: Path,
  on_error: str = "error",
  *,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> tuple[list[BinaryRecord], Report]:
  """Reads responses with a label.

  A row has "prompt", "response" (or "completion") and "label": true or 1 where
  the response is desirable, false or 0 where it isn't.

  Args, Returns, Raises: as at the top of `reading`.
  """
  chat = as_template(template)
  return read_rows(
    path,
    on_error,
    to_record(binary_record, chat),
    ("prompt", "label", *RESPONSE, *told(chat)),
    "responses",
    data_dir,
    columns,
  )


def conversation_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> ConversationRecord:
  """The record of a row with messages; raises BadRow for a malformed row."""
  field = first_of(row, *CONVERSATION)
  messages = messages_of(require(row, field), field)
  last_turn(messages, field)
  for turn, message in enumerate(messages):
    if message["role"] == "assistant" and is_blank([message]):
      raise BadRow(
        "empty_response",
        f"{field}[{turn}] is an empty assistant turn.",
        f"Write it, or leave it out. {SKIP}",
      )
  if template is not None:
    template.check(messages)
  return ConversationRecord(
    tuple(messages), where, group_of_turns(messages), variables_of(row)
  )


def demonstration_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> DemonstrationRecord:
  """The record of a row with messages, or with a prompt and a response.

  Raises:
    BadRow: the row has neither, or the template refuses it.
  """
  if any(row.get(field) is not None for field in CONVERSATION):
    field = first_of(row, *CONVERSATION)
    prompt: Any
    prompt, response = last_turn(messages_of(row[field], field), field)
  else:
    prompt, response = prompt_and_response(row)
  written, answer = exchange(prompt, response, template, where)
  return DemonstrationRecord(
    written, answer, where, group_of_turns(prompt), end=end_of(template)
  )


def _context_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> ContextRecord:
  """A demonstration's record with the row's "context"; raises BadRow."""
  own = demonstration_record(row, where, template)
  context = row.get("context") or ""
  if not isinstance(context, str):
    raise BadRow("type", f"field 'context' is {quoted(context)}.", SKIP)
  return ContextRecord(
    own.prompt, own.response, context, where, own.group, end=own.end
  )


def binary_record(
  row: dict[str, Any], where: str, template: ChatTemplate | None
) -> BinaryRecord:
  """The record of a row with a prompt, a response and its label.

  Raises:
    BadRow: the row lacks one of them, or the template refuses it.
  """
  prompt, response = prompt_and_response(row)
  label = require(row, "label")
  if not isinstance(label, bool | int | float) or label not in (0, 1):
    raise BadRow(
      "label",
      f"field 'label' is {quoted(label)}.",
      f"Write true (or 1) where the response is desirable, else false. {SKIP}",
    )
  written, answer = exchange(prompt, response, template, where)
  return BinaryRecord(
    written,
    answer,
    bool(label),
    where,
    group_of_turns(prompt),
    end=end_of(template),
  )


def prompt_and_response(row: dict[str, Any]) -> tuple[Any, Any]:
  """What stands in the two fields, texts or messages; raises BadRow."""
  prompt = turns(require(row, "prompt"), "prompt", "user")
  field = first_of(row, *RESPONSE)
  return prompt, turns(require(row, field), field, "assistant")

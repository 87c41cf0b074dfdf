"""Checks the tool calls in messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jalign.data.plain import parsed_field
from jalign.data.rows import SKIP, BadRow, kind_of, rows_of_columns


def calls_of(value: Any, field: str) -> list[dict[str, Any]]:
  """The tool calls of a message, checked.

  Args:
    value: what the message has as "tool_calls".
    field: the message's name, for errors.

  Raises:
    BadRow: the value is not a list of calls with a name and arguments each.
  """
  if isinstance(value, str):  # JSON, where a column can have one type only
    value = parsed_field(value, f"{field}.tool_calls")
  value = rows_of_columns(value, f"{field}.tool_calls")
  for call in value if isinstance(value, list) else [value]:
    called = call.get("function", call) if isinstance(call, dict) else None
    name = called.get("name") if isinstance(called, dict) else None
    if not isinstance(value, list) or not isinstance(name, str):
      raise BadRow(
        "type",
        f"'tool_calls' of {field} is not a list of calls.",
        'Write it as [{"type": "function", "function": {"name": ..., '
        f'"arguments": {{...}}}}}}]. {SKIP}',
      )
    arguments = called.get("arguments", "") if called else ""
    if not isinstance(arguments, str | dict):
      raise BadRow(
        "type",
        f"the arguments of a call of {field} are {kind_of(arguments)}, not an "
        "object.",
        f"Write them as an object. {SKIP}",
      )
  return value


def check_written(
  messages: Sequence[Mapping[str, Any]],
  text: str,
  render: Callable[[Sequence[Mapping[str, Any]]], str],
) -> None:
  """Raises BadRow if a template leaves a conversation's tool calls out.

  Args:
    messages: the conversation.
    text: what the template writes for it.
    render: writes messages with the template.
  """
  if not any(message.get("tool_calls") for message in messages):
    return
  others = [
    {name: v for name, v in message.items() if name != "tool_calls"}
    for message in messages
  ]
  try:
    without = render(others)
  except BadRow:  # the template needs the calls
    return
  if without == text:
    raise BadRow(
      "template",
      "a turn calls tools, and the chat template writes no calls.",
      f"Use a template that writes them. {SKIP}",
    )

"""Reads conversations in rows: lists of messages, or plain texts.

A prompt or a response is a text, or a list of messages `{"role", "content"}`
(ShareGPT's `{"from", "value"}` means the same). Messages need a chat template.
Plain texts are written by the template if there is one, and stay as they are
otherwise.
"""

from collections.abc import Sequence
from typing import Any

from jalign.data.calls import calls_of
from jalign.data.chat import ChatTemplate
from jalign.data.rows import (
  SKIP,
  BadRow,
  empty_prompt,
  empty_response,
  group_of,
  kind_of,
  quoted,
  rows_of_columns,
)
from jalign.errors import UserError

Messages = list[dict[str, Any]]

_ROLES = {  # role in data sets -> role in chat templates
  "system": "system",
  "developer": "developer",
  "user": "user",
  "human": "user",
  "prompter": "user",
  "assistant": "assistant",
  "gpt": "assistant",
  "model": "assistant",
  "tool": "tool",
}


def messages_of(value: Any, field: str, wanted: str = "") -> Messages:
  """The messages in a field, with the keys and roles that templates know.

  Args:
    value: what the field holds.
    field: its name, for errors.
    wanted: what else the field might hold, for errors: "a string or ".

  Raises:
    BadRow: the value is not a list of turns that each have a known role and a
      text.
  """
  value = rows_of_columns(value, field)
  if not isinstance(value, list) or not value:
    raise BadRow(
      "type",
      f"field {field!r} is {kind_of(value)}, not {wanted}a list of messages.",
      f"Write it as {wanted}a list "
      f'[{{"role": ..., "content": ...}}, ...]. {SKIP}',
    )
  return [_message(turn, f"{field}[{i}]") for i, turn in enumerate(value)]


def _message(turn: Any, field: str) -> dict[str, Any]:
  if not isinstance(turn, dict):
    raise BadRow(
      "type",
      f"{field} is {kind_of(turn)}, not a message.",
      f'Write it as {{"role": ..., "content": ...}}. {SKIP}',
    )
  role = turn.get("role", turn.get("from"))
  content = turn.get("content", turn.get("value"))
  if not isinstance(role, str) or role not in _ROLES:
    raise BadRow(
      "roles",
      f"{field} has the role {quoted(role)}.",
      f"The roles are {', '.join(dict.fromkeys(_ROLES.values()))}. {SKIP}",
    )
  if content is None and (turn.get("tool_calls") or role == "tool"):
    content = ""  # the turn has calls only, or a tool returned nothing
  others = {
    key: v
    for key, v in turn.items()
    if key not in ("role", "from", "content", "value")
  }
  if "tool_calls" in others:
    others["tool_calls"] = calls_of(others["tool_calls"], field)
  for key in _TEXTS:
    if not isinstance(others.get(key, ""), str):
      raise BadRow(
        "type",
        f"{key!r} of {field} is {kind_of(others[key])}, not a string.",
        f"Write it as a string. {SKIP}",
      )
  return {"role": _ROLES[role], "content": _content(content, field), **others}


# Texts of a message that templates write beside its content.
_TEXTS = ("name", "reasoning_content", "reasoning", "thinking")


def _content(value: Any, field: str) -> str:
  """The text of a message.

  Text in parts, [{"type": "text", "text": ...}, ...], becomes one text, as the
  templates that read parts write it; so other templates can write it, too.
  """
  value = rows_of_columns(value, field) if value else value
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    raise BadRow(
      "type",
      f"the content of {field} is {kind_of(value)}, not a string.",
      f"Write it as a string. {SKIP}",
    )
  for part in value:
    if not isinstance(part, dict) or part.get("type") != "text":
      kind = part.get("type") if isinstance(part, dict) else part
      raise BadRow(
        "type",
        f"the content of {field} has a part that is {quoted(kind)}, not text.",
        f"Images and other media can't be read: leave them out. {SKIP}",
      )
    if not isinstance(part.get("text"), str):
      raise BadRow(
        "type",
        f"the content of {field} has a part without a text.",
        f'Write it as {{"type": "text", "text": ...}}. {SKIP}',
      )
  return "".join(part["text"] for part in value)


def is_blank(said: str | Messages) -> bool:
  """Whether a text, or messages, hold neither text nor tool calls."""
  if isinstance(said, str):
    return not said.strip()
  return not any(m["content"].strip() or m.get("tool_calls") for m in said)


def turns(value: Any, field: str, role: str) -> str | Messages:
  """The plain text in a field, or its messages.

  Args:
    value: what the field holds.
    field: its name, for errors.
    role: "user" for a prompt, whose last turn must not be the assistant's;
      "assistant" for a response, whose turns must all be the assistant's.

  Raises:
    BadRow: the value is neither, or the wrong role speaks.
  """
  if isinstance(value, str):
    return value
  messages = messages_of(value, field, "a string or ")
  if role == "user" and messages[-1]["role"] == "assistant":
    raise BadRow(
      "roles",
      f"field {field!r} ends with an assistant turn.",
      f"A prompt ends with a turn that asks for an answer. {SKIP}",
    )
  if role == "assistant" and any(m["role"] != "assistant" for m in messages):
    raise BadRow(
      "roles",
      f"field {field!r} has turns that are not the assistant's.",
      f"Put the prompt into a field of its own. {SKIP}",
    )
  return messages


def group_of_turns(prompt: str | Sequence[dict[str, Any]]) -> str:
  """A prompt's split key: its first user turn, or `group_of` a plain text."""
  if isinstance(prompt, str):
    return group_of(prompt)
  users = [m["content"] for m in prompt if m["role"] == "user"]
  return users[0].strip() if users else prompt[0]["content"].strip()


def exchange(
  prompt: str | Messages,
  response: str | Messages,
  template: ChatTemplate | None,
  where: str,
  name: str = "",
) -> tuple[str, str]:
  """(prompt, response) as texts that the model reads.

  Args:
    prompt: a text or messages, not blank.
    response: a text or messages, not blank.
    template: what writes the messages; None keeps plain texts as they are.
    where: "file:line", for errors.
    name: which response it is, say "chosen", for errors.

  Raises:
    UserError: there are messages and no template. That is no bad row, since
      skipping bad rows would leave none of the file.
    BadRow: a text is blank, or the template refuses the messages or writes
      nothing of the response.
  """
  if is_blank(prompt):
    raise empty_prompt()
  if is_blank(response):
    raise empty_response(name)
  if template is None:
    if isinstance(prompt, str) and isinstance(response, str):
      return prompt, response
    raise no_template(where)
  if isinstance(prompt, str):
    prompt = [{"role": "user", "content": prompt}]
  if isinstance(response, str):
    response = [{"role": "assistant", "content": response}]
  start, answer = template.exchange(prompt, response)
  if not answer.removesuffix(template.end).strip():
    raise BadRow(
      "template",
      "the chat template writes nothing of the response.",
      f"Use a template that writes all that a turn holds. {SKIP}",
    )
  return start, answer


def one_prompt(
  exchanges: Sequence[tuple[str, str]],
) -> tuple[str, tuple[str, ...]]:
  """(prompt, responses) of several exchanges that answer the same messages.

  A template may write some answers after what its generation prompt opens and
  others without that opening: the prompt ends where all exchanges agree.
  """
  prompt = min((start for start, _ in exchanges), key=len)
  return prompt, tuple(start[len(prompt) :] + said for start, said in exchanges)


def end_of(template: ChatTemplate | None) -> str | None:
  """`PreferenceRecord.end` of what a template writes; None for plain texts."""
  return None if template is None or template.plain else template.end


def opening(
  prompt: str | Messages, template: ChatTemplate | None, where: str
) -> str:
  """A prompt without a response; Args and Raises as in `exchange`."""
  if is_blank(prompt):
    raise empty_prompt()
  if template is None:
    if isinstance(prompt, str):
      return prompt
    raise no_template(where)
  if isinstance(prompt, str):
    prompt = [{"role": "user", "content": prompt}]
  return template.render(prompt, prompt=True)


def no_template(where: str) -> UserError:
  """The error for messages without a template to write them as text."""
  return UserError(
    "the row holds messages, and there is no chat template to write them with.",
    where=where,
    remedy="Give one as config.data.template or --template: 'plain', a "
    "tokenizer's folder or a file of Jinja; as template= from Python.",
  )


def last_turn(messages: Messages, field: str) -> tuple[Messages, Messages]:
  """(all turns but the last, the last turn, which must be the assistant's)."""
  if len(messages) < 2 or messages[-1]["role"] != "assistant":
    raise BadRow(
      "roles",
      f"field {field!r} does not end with an assistant turn that answers one.",
      f"Write the whole conversation, its last turn the assistant's. {SKIP}",
    )
  return messages[:-1], messages[-1:]


def shared_prompt(
  chosen: Messages, rejected: Messages
) -> tuple[Messages, Messages, Messages]:
  """(prompt, chosen, rejected) of two whole conversations.

  Raises:
    BadRow: the conversations differ before the last assistant turn, or one of
      them doesn't end with an assistant turn.
  """
  prompt, good = last_turn(chosen, "chosen")
  other, bad = last_turn(rejected, "rejected")
  if prompt != other:
    raise BadRow(
      "diverging",
      "the two conversations part before the last assistant turn.",
      f"Both must share everything but the last assistant turn. {SKIP}",
    )
  return prompt, good, bad


def check_same_prompt(prompt: Any, messages: Messages) -> None:
  """Raises BadRow if a prompt isn't what the whole conversations begin with."""
  if isinstance(prompt, str):
    same = any(m["content"].strip() == prompt.strip() for m in messages)
  else:
    same = messages_of(prompt, "prompt") == messages
  if not same:
    raise BadRow(
      "mismatch",
      "field 'prompt' is not what the conversations begin with.",
      f"Leave it out, or mend the conversations. {SKIP}",
    )

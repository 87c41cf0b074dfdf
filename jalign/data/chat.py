"""Chat templates, which write conversations as the text that a model reads.

Templates are Jinja programs, run in transformers' sandbox with bounded work.
They write exactly what a tokenizer's `apply_chat_template` writes. A prompt is
the conversation so far with the marks that open the assistant's turn
(`add_generation_prompt=True`). The response is what follows the prompt in the
text of the whole conversation.

A response ends with the end-of-turn mark that the template writes after it.
What follows that mark (ChatML's line break, Phi's end of sequence) opens the
next turn or closes the text, and is not part of the response.
"""

import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jalign.data.calls import check_written
from jalign.data.rows import SKIP, BadRow
from jalign.errors import UserError

Message = Mapping[str, Any]

# A conversation that shows what a template does. Its answer is a text that no
# template writes by itself.
_ASKED: Message = {"role": "user", "content": "?"}
_SAID: Message = {"role": "assistant", "content": "jalign-says-so"}
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = re.compile(r"<[^<>\s]+>\s*|\[[^\[\]\s]+\]\s*")  # "<think>", "[THINK]"


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A chat template and the variables that it reads beside the messages.

  Attributes:
    text: the Jinja source.
    variables: special tokens ("eos_token": "</s>") and whatever else the
      template reads, by name.
    name: where the template comes from, for errors; "" for a string.
    plain: whether the template is no model's chat format: its texts then begin
      and end as the tokenizer begins and ends plain texts.
    date: the day that `strftime_now` tells, "YYYY-MM-DD", at midnight; "" for
      the clock's time.
  """

  text: str
  variables: Mapping[str, Any]
  name: str = ""
  plain: bool = False
  date: str = ""

  @property
  def marks_assistant(self) -> bool:
    """Whether `{% generation %}` blocks mark the assistant's text."""
    return bool(_GENERATION.search(self.text))

  @property
  def end(self) -> str:
    """The mark that ends the assistant's turn; "" where there is none.

    It is the first word that the template writes after the last turn's
    content; white space and a final end of sequence may follow the mark.
    """
    words = self.tail.split()
    return words[0] if words else ""

  @property
  def tail(self) -> str:
    """All that the template writes after the last turn's content."""
    texts = (i for i in self.variables.items() if isinstance(i[1], str))
    return _tail(self.text, tuple(texts))

  def given(self, variables: Mapping[str, Any]) -> "ChatTemplate":
    """This template with further variables: those of a row, say its tools."""
    if not variables:
      return self
    return dataclasses.replace(self, variables={**self.variables, **variables})

  def dated(self, date: str) -> "ChatTemplate":
    """This template on a given day, which it may write into every prompt.

    Args:
      date: "YYYY-MM-DD"; "" for the clock's date.

    Raises:
      UserError: `date` is not a date.
    """
    try:
      datetime.date.fromisoformat(date or "2000-01-01")
    except (TypeError, ValueError):
      raise UserError(
        f"{date!r} is no date.", where="date", remedy="Write YYYY-MM-DD."
      ) from None
    return dataclasses.replace(self, date=date)

  def render(self, messages: Sequence[Message], prompt: bool = False) -> str:
    """Writes messages as text.

    Args:
      messages: with a "role" and a "content" each.
      prompt: whether to open the assistant's turn after the messages.

    Raises:
      BadRow: the template refuses these messages, or leaves out their tool
        calls.
    """
    return _render(self, messages, prompt)[0]

  def exchange(
    self, prompt: Sequence[Message], response: Sequence[Message]
  ) -> tuple[str, str]:
    """Writes a conversation as (prompt, response).

    Joined, the two are the conversation's text up to the end of its last turn.
    A generation prompt may open something that the answer doesn't continue,
    such as a `<think>` that the template writes in no finished turn: the prompt
    then ends before the `<think>`. See `opens`.

    Raises:
      BadRow: the template refuses the messages, or writes the prompt
        differently once the response follows.
    """
    whole = self.render([*prompt, *response])
    start = self._start(prompt, whole)
    return start, self._closed(whole[len(start) :])

  @property
  def opens(self) -> str:
    """What the generation prompt adds that plain answers don't continue."""
    try:
      start = self.render([_ASKED], prompt=True)
      return start[len(self._start([_ASKED], self.render([_ASKED, _SAID]))) :]
    except BadRow:  # such a conversation isn't what this template is for
      return ""

  def _start(self, prompt: Sequence[Message], whole: str) -> str:
    """As much of a prompt with its generation prompt as `whole` begins with."""
    start = self.render(prompt, prompt=True)
    if whole.startswith(start):
      return start
    before = os.path.commonprefix([start, self.render(prompt)])
    # Marks at the prompt's end; only there, since content may look like marks.
    marks = _MARK.finditer(start, max(len(before), len(start) - 200))
    for mark in _trailing(start, [*marks]):
      said = start[: mark.start()]
      if whole.startswith(said) and said[len(before) :].strip():
        return said
    raise _no_prefix(self, start, whole)

  def spans(
    self, messages: Sequence[Message]
  ) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and where in it the assistant speaks.

    The spans are the template's `{% generation %}` blocks or, if it has none,
    what each assistant turn adds to the turns before it. The mark that ends a
    turn belongs to the turn's span.

    Returns:
      (text, [(start, end), ...] in characters, ascending).

    Raises:
      BadRow: as `exchange`.
    """
    text, spans = _render(self, messages, False)
    if not self.marks_assistant:
      spans = []
      for i, message in enumerate(messages):
        if message["role"] != "assistant":
          continue
        turn = self._closed(self.render(messages[: i + 1]))
        start = self._start(messages[:i], turn)
        if not text.startswith(turn):
          raise _no_prefix(self, turn, text)
        spans.append((len(start), len(turn)))
    scored = []
    for first, stop in spans:
      if self.end and text.startswith(self.end, stop):
        stop += len(self.end)
      scored.append((first, first + len(self._closed(text[first:stop]))))
    return text, scored

  def turns(self, messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Writes each assistant turn as (prompt, response), as `exchange` does.

    This works also for a template that writes a turn differently once other
    turns follow it, which `spans` refuses.
    """
    return [
      self.exchange(messages[:i], messages[i : i + 1])
      for i, message in enumerate(messages)
      if message["role"] == "assistant"
    ]

  def check(self, messages: Sequence[Message]) -> None:
    """Raises BadRow if neither `spans` nor `turns` can write a conversation."""
    try:
      self.spans(messages)
    except BadRow as bad:
      if bad.args[0] != "prefix":
        raise
      self.turns(messages)

  def _closed(self, text: str) -> str:
    """The text up to the mark that ends its last turn; all without a mark."""
    if self.end and text.endswith(self.tail):
      return text[: len(text) - len(self.tail.lstrip()) + len(self.end)]
    trimmed = text.rstrip()
    return trimmed if self.end and trimmed.endswith(self.end) else text


# For data without a template of their own: paragraphs "user: ..." and
# "assistant: ...". A response begins with a space, as byte-level BPEs like it.
PLAIN_CHAT = ChatTemplate(
  "{% for message in messages %}"
  "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
  "{{ message.role }}: {{ message.content }}"
  "{% if message.tool_calls %}"
  "{{ '\n' + message.tool_calls | tojson }}"
  "{% endif %}"
  "{% endfor %}"
  "{% if add_generation_prompt %}{{ '\n\nassistant:' }}{% endif %}",
  {},
  "jalign.data.PLAIN_CHAT",
  plain=True,
)


def _render(
  template: ChatTemplate, messages: Sequence[Message], prompt: bool
) -> tuple[str, list[tuple[int, int]]]:
  from jalign.data import bounded  # jinja2 is slow to import

  try:
    rendered = bounded.render(
      template.text,
      [dict(message) for message in messages],
      template.variables,
      prompt=prompt,
      marked=template.marks_assistant,
      date=template.date,
    )
  except Exception as error:  # of any kind: a template is anybody's program
    raise BadRow(
      "template",
      f"the chat template refuses the conversation ({bounded.said(error)}).",
      f"Mend its turns, or use another template. {SKIP}",
    ) from None
  check_written(
    messages, rendered[0], lambda m: _render(template, m, prompt)[0]
  )
  return rendered


@functools.lru_cache(maxsize=64)
def _tail(text: str, variables: tuple[tuple[str, str], ...]) -> str:
  """`ChatTemplate.tail`, as a conversation of two turns shows it."""
  try:
    whole = ChatTemplate(text, dict(variables)).render([_ASKED, _SAID])
  except BadRow:  # such a conversation isn't what this template is for
    return ""
  _, mark, tail = whole.rpartition(_SAID["content"])
  return tail if mark else ""


def _trailing(text: str, marks: Sequence[re.Match]) -> Iterator[re.Match]:
  """The marks that a text ends with, the last one first."""
  at = len(text)
  for mark in reversed(marks):
    if mark.end() != at:
      return
    at = mark.start()
    yield mark


def _no_prefix(template: ChatTemplate, start: str, whole: str) -> BadRow:
  at = len(os.path.commonprefix([start, whole]))
  return BadRow(
    "prefix",
    f"{template.name or 'the template'} writes the prompt differently once a "
    "response follows: "
    f"{start[at : at + 30]!r} becomes {whole[at : at + 30]!r}.",
    "The model would be trained on prompts that it never sees. Give the "
    'texts themselves as "prompt" and "response" (or "chosen", "rejected"), '
    "without a template; or use a template whose prompt, with its generation "
    f"prompt, begins the whole conversation. {SKIP}",
  )

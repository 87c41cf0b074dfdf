"""Chat templates: conversations become the text that a model reads.

Templates are Jinja, run in transformers' sandbox, with bounded work: what a
tokenizer's `apply_chat_template` writes is what is written here. A prompt is
the conversation with the marks that open the assistant's turn
(`add_generation_prompt=True`), and the response is what follows it once the
turn is there.

A response is closed by the end of turn that the template writes after it. What
follows the end (ChatML's line break, Phi's end of sequence) opens the next turn
or closes the text: it is not part of the response.
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

# A conversation to find out what a template does: its answer is a text that no
# template writes by itself.
_ASKED: Message = {"role": "user", "content": "?"}
_SAID: Message = {"role": "assistant", "content": "jalign-says-so"}
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = re.compile(r"<[^<>\s]+>\s*|\[[^\[\]\s]+\]\s*")  # "<think>", "[THINK]"


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A template with the variables that it sees beside the messages.

  Attributes:
    text: the Jinja source.
    variables: special tokens ("eos_token": "</s>") and whatever else the
      template reads.
    name: where it comes from, for errors; "" for a string.
    plain: the text is no model's chat format: it begins and ends as the
      tokenizer begins and ends plain texts.
    date: "YYYY-MM-DD" that `strftime_now` tells, at midnight; "" for now.
  """

  text: str
  variables: Mapping[str, Any]
  name: str = ""
  plain: bool = False
  date: str = ""

  @property
  def marks_assistant(self) -> bool:
    """Whether `{% generation %}` says which text is the assistant's."""
    return bool(_GENERATION.search(self.text))

  @property
  def end(self) -> str:
    """What ends the assistant's turn in the text, "" where nothing does.

    The first word that the template writes after the last turn's content:
    white space and a final end of sequence may follow it.
    """
    words = self.tail.split()
    return words[0] if words else ""

  @property
  def tail(self) -> str:
    """All that the template writes after the last turn's content."""
    texts = (i for i in self.variables.items() if isinstance(i[1], str))
    return _tail(self.text, tuple(texts))

  def given(self, variables: Mapping[str, Any]) -> "ChatTemplate":
    """The same with more variables: those of a row, such as its tools."""
    if not variables:
      return self
    return dataclasses.replace(self, variables={**self.variables, **variables})

  def dated(self, date: str) -> "ChatTemplate":
    """The same on a day: a template may write it into every prompt.

    Args:
      date: "YYYY-MM-DD"; "" for the clock's.

    Raises:
      UserError: it is no date.
    """
    try:
      datetime.date.fromisoformat(date or "2000-01-01")
    except (TypeError, ValueError):
      raise UserError(
        f"{date!r} is no date.", where="date", remedy="Write YYYY-MM-DD."
      ) from None
    return dataclasses.replace(self, date=date)

  def render(self, messages: Sequence[Message], prompt: bool = False) -> str:
    """The text of some messages.

    Args:
      messages: with a "role" and a "content" each.
      prompt: open the assistant's turn after them.

    Raises:
      BadRow: the template refuses these messages.
    """
    return _render(self, messages, prompt)[0]

  def exchange(
    self, prompt: Sequence[Message], response: Sequence[Message]
  ) -> tuple[str, str]:
    """(prompt, response) as text; the two joined are the conversation.

    A generation prompt may open what the answer doesn't go on with (a `<think>`
    that the template writes in no turn that is there): then the prompt ends
    before it. See `opens`.

    Raises:
      BadRow: the template refuses the messages, or writes the prompt
        differently once the response follows.
    """
    whole = self.render([*prompt, *response])
    start = self._start(prompt, whole)
    return start, self._closed(whole[len(start) :])

  @property
  def opens(self) -> str:
    """What the generation prompt opens and plain answers don't go on with."""
    try:
      start = self.render([_ASKED], prompt=True)
      return start[len(self._start([_ASKED], self.render([_ASKED, _SAID]))) :]
    except BadRow:  # such a conversation isn't what this template is for
      return ""

  def _start(self, prompt: Sequence[Message], whole: str) -> str:
    """What a whole text has of a prompt with its generation prompt."""
    start = self.render(prompt, prompt=True)
    if whole.startswith(start):
      return start
    before = os.path.commonprefix([start, self.render(prompt)])
    # Marks at its end; the last characters alone, since texts can be marks.
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

    The spans are the template's `{% generation %}` blocks; without such
    blocks, what each assistant turn adds to the turns before it. The end that
    closes a turn belongs to its span.

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
    """`exchange` of each assistant turn with what comes before it.

    This is what each turn is an answer to, also where the template writes
    turns differently once others follow and `spans` refuses.
    """
    return [
      self.exchange(messages[:i], messages[i : i + 1])
      for i, message in enumerate(messages)
      if message["role"] == "assistant"
    ]

  def check(self, messages: Sequence[Message]) -> None:
    """Raises BadRow if neither `spans` nor `turns` takes a conversation."""
    try:
      self.spans(messages)
    except BadRow as bad:
      if bad.args[0] != "prefix":
        raise
      self.turns(messages)

  def _closed(self, text: str) -> str:
    """The text up to the end of its last turn, where it has one."""
    if self.end and text.endswith(self.tail):
      return text[: len(text) - len(self.tail.lstrip()) + len(self.end)]
    trimmed = text.rstrip()
    return trimmed if self.end and trimmed.endswith(self.end) else text


# For data that come without a template: "user: ..." and "assistant: ..." by
# paragraphs. A response begins with a space, which byte-level BPEs like.
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
  """`ChatTemplate.tail`, out of a conversation of two turns."""
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

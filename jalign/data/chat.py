"""Chat templates: conversations become the text that a model reads.

Templates are Jinja, run in transformers' sandbox: what a tokenizer's
`apply_chat_template` writes is what is written here. A prompt is the
conversation with the marks that open the assistant's turn
(`add_generation_prompt=True`), and the response is what follows it once the
turn is there.

The end-of-sequence token closes a response: white space that a template writes
after it (ChatML's line break) opens the next turn and is not part of it.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jalign.data.rows import SKIP, BadRow
from jalign.errors import UserError

Message = Mapping[str, Any]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SPECIAL = re.compile(r"\b(?:bos|eos|pad|unk|sep|cls|mask)_token\b")


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A template with the variables that it sees beside the messages.

  Attributes:
    text: the Jinja source.
    variables: special tokens ("eos_token": "</s>") and whatever else the
      template reads.
    name: where it comes from, for errors; "" for a string.
  """

  text: str
  variables: Mapping[str, Any]
  name: str = ""

  @property
  def marks_assistant(self) -> bool:
    """Whether `{% generation %}` says which text is the assistant's."""
    return bool(_GENERATION.search(self.text))

  @property
  def end(self) -> str:
    """The end-of-sequence token as text, "" where it isn't known."""
    return self.variables.get("eos_token") or ""

  def given(self, variables: Mapping[str, Any]) -> "ChatTemplate":
    """The same with more variables: those of a row, such as its tools."""
    if not variables:
      return self
    return dataclasses.replace(self, variables={**self.variables, **variables})

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

    Raises:
      BadRow: the template refuses the messages, or writes the prompt
        differently once the response follows.
    """
    start = self.render(prompt, prompt=True)
    whole = self.render([*prompt, *response])
    if not whole.startswith(start):
      raise _no_prefix(self, start, whole)
    return start, _closed(whole[len(start) :], self.end)

  def spans(
    self, messages: Sequence[Message]
  ) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and where in it the assistant speaks.

    The spans are the template's `{% generation %}` blocks; without such
    blocks, what each assistant turn adds to the turns before it. An
    end-of-sequence token that closes a turn belongs to its span.

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
        start = self.render(messages[:i], prompt=True)
        turn = self.render(messages[: i + 1])
        if not turn.startswith(start):
          raise _no_prefix(self, start, turn)
        if not text.startswith(turn):
          raise _no_prefix(self, turn, text)
        spans.append((len(start), len(turn)))
    found = []
    for first, stop in spans:
      if self.end and text.startswith(self.end, stop):
        stop += len(self.end)
      found.append((first, first + len(_closed(text[first:stop], self.end))))
    return text, found


# For data that come without a template: "user: ..." and "assistant: ..." by
# paragraphs. A response begins with a space, which byte-level BPEs like.
PLAIN_CHAT = ChatTemplate(
  "{% for message in messages %}"
  "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
  "{{ message.role }}: {{ message.content }}"
  "{% endfor %}"
  "{% if add_generation_prompt %}{{ '\n\nassistant:' }}{% endif %}",
  {},
  "jalign.data.PLAIN_CHAT",
)


def load_template(
  source: str | os.PathLike[str] | ChatTemplate, **variables: Any
) -> ChatTemplate:
  """A chat template from a tokenizer's folder, a file or a string.

  Args:
    source: a folder that `transformers.AutoTokenizer` reads and that has a
      chat template; a file of Jinja; or the Jinja itself. A `ChatTemplate`
      comes back with the variables added.
    **variables: what the template reads beside the messages. A folder gives
      its special tokens; a file and a string give none.

  Raises:
    UserError: nothing there; no template in the folder; broken Jinja; or the
      template writes a special token that isn't known.
  """
  if isinstance(source, ChatTemplate):
    found = dataclasses.replace(source, variables={**source.variables})
  else:
    found = _find(os.fspath(source))
  found = dataclasses.replace(found, variables={**found.variables, **variables})
  _check(found)
  return found


def _find(source: str) -> ChatTemplate:
  if "{%" in source or "{{" in source:
    return ChatTemplate(source, {})
  path = pathlib.Path(source)
  if path.is_dir():
    return _from_folder(path)
  try:
    return ChatTemplate(path.read_text(encoding="utf-8"), {}, source)
  except (OSError, ValueError) as error:
    raise UserError(
      f"no chat template can be read ({type(error).__name__}).",
      where=source,
      remedy="Give a tokenizer's folder, a file of Jinja, or Jinja itself.",
    ) from None


def _from_folder(folder: pathlib.Path) -> ChatTemplate:
  import transformers  # slow to import

  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # whatever a foreign folder makes it raise
    raise UserError(
      f"no tokenizer can be loaded ({type(error).__name__}: {error}).",
      where=str(folder),
      remedy="Give a tokenizer's folder, or a file of Jinja.",
    ) from None
  if not tokenizer.chat_template:
    raise UserError(
      "the tokenizer has no chat template.",
      where=str(folder),
      remedy="Put a chat_template.jinja in the folder, or give a file of "
      "Jinja as the template.",
    )
  try:
    text = tokenizer.get_chat_template()
  except ValueError as error:  # several, and none is the default
    raise UserError(
      f"the tokenizer has several chat templates ({error}).",
      where=str(folder),
      remedy="Give the file of one of them as the template.",
    ) from None
  tokens = tokenizer.special_tokens_map
  return ChatTemplate(
    text,
    {name: t for name, t in tokens.items() if isinstance(t, str)},
    str(folder),
  )


def _check(template: ChatTemplate) -> None:
  import jinja2
  from transformers.utils.chat_template_utils import render_jinja_template

  try:
    render_jinja_template([[]], chat_template=template.text)
  except jinja2.TemplateSyntaxError as error:
    raise UserError(
      f"the chat template is not Jinja ({error}).",
      where=template.name,
      remedy="Mend it; see transformers' documentation of chat templates.",
    ) from None
  except Exception:
    pass  # it compiles: what it says to no message at all doesn't matter
  read = set(_SPECIAL.findall(template.text))
  unknown = sorted(read - set(template.variables))
  # Folders leave out the tokens that they don't have; their templates cope.
  if unknown and not os.path.isdir(template.name):
    raise UserError(
      f"the chat template writes {', '.join(unknown)}, which Jinja would "
      "silently leave empty.",
      where=template.name,
      remedy="Give the tokenizer's folder as the template, or "
      f"load_template(..., {unknown[0]}=TEXT).",
    )


def _render(
  template: ChatTemplate, messages: Sequence[Message], prompt: bool
) -> tuple[str, list[tuple[int, int]]]:
  import jinja2
  from transformers.utils.chat_template_utils import render_jinja_template

  marked = template.marks_assistant
  try:
    rendered: Any = render_jinja_template(
      conversations=[[dict(message) for message in messages]],
      chat_template=template.text,
      return_assistant_tokens_mask=marked,
      add_generation_prompt=prompt,
      **template.variables,
    )
  except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
    raise BadRow(
      "template",
      f"the chat template refuses the conversation ({error}).",
      f"Mend its turns, or use another template. {SKIP}",
    ) from None
  texts, spans = rendered
  return texts[0], [(a, b) for a, b in spans[0]] if marked else []


def _closed(text: str, end: str) -> str:
  """The text without the white space after a final end of sequence."""
  trimmed = text.rstrip()
  return trimmed if end and trimmed.endswith(end) else text


def _no_prefix(template: ChatTemplate, start: str, whole: str) -> BadRow:
  at = len(os.path.commonprefix([start, whole]))
  return BadRow(
    "prefix",
    f"{template.name or 'the template'} writes the prompt differently once a "
    "response follows: "
    f"{start[at : at + 30]!r} becomes {whole[at : at + 30]!r}.",
    "The model would be trained on prompts that it never sees. Use a template "
    "whose prompt, with its generation prompt, begins the whole "
    f"conversation. {SKIP}",
  )

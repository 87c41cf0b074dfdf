"""Prompts to sample for: as they were given, and as the model reads them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jalign import data
from jalign.data.columns import Columns, Renamed
from jalign.data.containers import rows_of
from jalign.data.file_check import guess
from jalign.data.preferences import prompt_record
from jalign.data.rows import BadRow
from jalign.errors import UserError
from jalign.experiment.data.prepare import opening

_VARIABLES = ("tools", "chat_template_kwargs")
_PROMPTS = ("prompt", "history", "instruction")
_SHOWN = (*_VARIABLES, *_PROMPTS, "chosen")


class Asked(NamedTuple):
  """A prompt to sample for.

  Attributes:
    prompt: a text or messages, as it was given.
    more: the row's other variables of the template, such as "tools".
    record: the text that the model reads, and where it comes from.
  """

  prompt: Any
  more: dict[str, Any]
  record: data.PromptRecord


def typed_prompts(
  texts: Sequence[str], template: data.ChatTemplate | None
) -> list[Asked]:
  """Makes prompts of texts from the command line.

  Args:
    texts: the texts; with a template, each is a user's turn.
    template: writes the prompts; None leaves the texts as they are.

  Raises:
    UserError: a text is empty, or the template refuses it.
  """
  asked = []
  for i, text in enumerate(texts, 1):
    where = f"prompt {i}"
    try:
      record = prompt_record({"prompt": text}, where, template)
    except BadRow as bad:
      raise UserError(bad.args[1], where=where) from None
    asked.append(Asked(text, {}, record))
  return asked


def read_prompts(
  path: str,
  source: str,
  template: data.ChatTemplate | None,
  columns: Columns | None = None,
) -> tuple[list[Asked], list[str]]:
  """Reads a prompt from every row of a file.

  Args:
    path: data of any kind that `jalign data check` reads; a conversation's
      prompt is what comes before its last answer.
    source: name of a reader; "" guesses it.
    template: writes texts and messages; None leaves texts as they are.
    columns: the file's names for the source's fields.

  Returns:
    (the prompts, lines that say what was read).

  Raises:
    UserError: the data is bad, or there are messages and no template.
  """
  name = source or guess(path, columns=columns)
  options: dict[str, Any] = {"columns": columns} if columns else {}
  if name not in data.WITHOUT_TEMPLATE:
    options["template"] = template
  records, report = data.read(name, path, **options)
  lines = [report.summary()]
  if name in data.WITHOUT_TEMPLATE and name != "conversations" and template:
    lines.append(f"prompts of {name} are written out: no template is applied")
  if isinstance(records[0], data.ConversationRecord):
    if template is None:
      raise UserError(
        "the rows are conversations, and there is no chat template to write"
        " them with.",
        where=path,
        remedy="Give --template=plain, a tokenizer's folder or a file"
        " of Jinja.",
      )
    return [
      Asked(_before(r), dict(r.variables), opening(r, template))
      for r in records
    ], lines
  renamed = Renamed(columns or {}, {*_SHOWN, *(columns or ())})
  read = renamed.rows(rows_of(path))
  rows = {where: row for where, row in read if isinstance(row, dict)}
  return [_asked(record, rows.get(record.source, {})) for record in records], (
    lines
  )


def _asked(record: Any, row: dict[str, Any]) -> Asked:
  more = {name: row[name] for name in _VARIABLES if row.get(name) is not None}
  text = data.PromptRecord(
    record.prompt, record.source, record.group, end=record.end
  )
  return Asked(_given(row, record.prompt), more, text)


def _given(row: dict[str, Any], text: str) -> Any:
  """The prompt as the row has it, else as the model reads it."""
  for name in _PROMPTS:
    if isinstance(row.get(name), str | list):
      return row[name]
  chosen = row.get("chosen")  # a whole conversation
  return chosen[:-1] if isinstance(chosen, list) else text


def _before(record: data.ConversationRecord) -> list[dict[str, Any]]:
  turns = [dict(message) for message in record.messages]
  return turns[
    : max(i for i, m in enumerate(turns) if m["role"] == "assistant")
  ]

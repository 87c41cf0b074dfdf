"""Reads what `jalign score` scores: a file's responses, as ids and as texts."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign import data
from jalign.data.columns import Columns
from jalign.data.file_check import guess, holds_messages
from jalign.errors import UserError
from jalign.experiment.disk.kept import ended, named, template_for
from jalign.experiment.disk.start import is_checkpoint


class Response(NamedTuple):
  """A response to score.

  Attributes:
    source: "file:line" of its row.
    name: "chosen", "rejected", "response 1", ... or "conversation".
    prompt: the prompt as the model reads it.
    response: text of the response; for a conversation, everything that follows
      the prompt of its first scored turn.
    encoded: ids of prompt and response.
    group: key of the prompt, by which errors cluster.
    given: the data's own score of the response, of which higher is better: 1
      for a chosen response and 0 for a rejected one; None if there is none.
    row: number of the data's row, from 0.
  """

  source: str
  name: str
  prompt: str
  response: str
  encoded: data.EncodedSequence
  group: str = ""
  given: float | None = None
  row: int = 0


class Read(NamedTuple):
  """Responses that were read.

  Attributes:
    responses: the responses, in the order of the data.
    template: name of the chat template that wrote them; "none" without one.
    lines: what was read, for readers.
  """

  responses: list[Response]
  template: str
  lines: list[str]


def read_responses(
  path: str,
  source: str,
  given: str,
  model: pathlib.Path,
  tokenizer: data.Tokenizer,
  *,
  closed: bool = False,
  skip_bad_rows: bool = False,
  columns: Columns | None = None,
) -> Read:
  """Reads and encodes every response of a file; nothing is cut.

  Args:
    path: data that `jalign data check` reads.
    source: name of a reader; "" guesses it.
    given: the template that is asked for, see `kept.template_for`. Without it,
      plain texts are written as the run's data was. For a checkpoint they stay
      as they are, since nobody says that they are chats.
    model: folder of the run or the checkpoint.
    tokenizer: the model's tokenizer.
    closed: whether to add what a template writes after the last turn's end,
      which reward models of the hub read, too.
    skip_bad_rows: whether to leave out rows that can't be read, such as one
      with an empty response; `lines` names them.
    columns: the file's names for the source's fields.

  Raises:
    UserError: the data is bad or has no response, or there are messages and no
      template.
  """
  name = source or guess(path, columns=columns)
  chats = name == "conversations" or holds_messages(path, columns=columns)
  template = None
  if name not in data.WITHOUT_TEMPLATE or name == "conversations":
    if chats or given or not is_checkpoint(model):
      template = template_for(given, model)
    if chats and template is None:
      raise UserError(
        "the data has messages, and there is no chat template to write them"
        " with.",
        where=path,
        remedy="Give --template=plain, a tokenizer's folder or a file of"
        " Jinja.",
      )
  options: dict[str, Any] = {"on_error": "skip"} if skip_bad_rows else {}
  if columns:
    options["columns"] = columns
  if template is not None and name not in data.WITHOUT_TEMPLATE:
    options["template"] = template
  records, report = data.read(name, path, **options)
  lines = [report.summary(), f"chat template: {named(template)}"]
  if template is None:
    lines[1] = "texts go to the model as they are: no chat template"
  tokenizer = ended(tokenizer, template)
  limits = data.Limits(max_tokens=2**30)
  if isinstance(records[0], data.ConversationRecord):
    assert template is not None  # checked above
    encoded, cut = data.encode_conversations(
      records, tokenizer, template, limits
    )
    responses = [
      _of_conversation(response, tokenizer)._replace(row=row)
      for row, response in enumerate(encoded)
    ]
  else:
    responses, cut = _of_records(records, tokenizer, limits)
  lines += cut.notes
  if not responses:
    raise UserError("the rows have no response to score.", where=path)
  if closed and template is not None:
    end = template.end  # "" if the template writes none
    after = template.tail.strip(" ").partition(end)[2] if end else ""
    more = tokenizer.encode(after) if after else []
    responses = [
      response._replace(encoded=_closed(response.encoded, more))
      for response in responses
    ]
  return Read(responses, named(template), lines)


def _of_records(
  records: Sequence[Any], tokenizer: data.Tokenizer, limits: data.Limits
) -> tuple[list[Response], data.Truncation]:
  named_texts = [
    (row, record, *told)
    for row, record in enumerate(records)
    for told in _texts(record)
  ]
  demonstrations = [
    data.DemonstrationRecord(
      record.prompt, text, record.source, record.group, end=record.end
    )
    for _, record, _, text, _ in named_texts
  ]
  encoded, cut = data.encode_demonstrations(demonstrations, tokenizer, limits)
  return [
    Response(
      record.source,
      name,
      record.prompt,
      text,
      sequence,
      record.group,
      given,
      row,
    )
    for (row, record, name, text, given), sequence in zip(named_texts, encoded)
  ], cut


def _texts(record: Any) -> list[tuple[str, str, float | None]]:
  """(name, text, the data's score or None) of each response of a record."""
  if isinstance(record, data.PreferenceRecord):
    return [("chosen", record.chosen, 1.0), ("rejected", record.rejected, 0.0)]
  if isinstance(record, data.RankedRecord):
    both = zip(record.responses, record.scores)
    return [(f"response {i}", x, y) for i, (x, y) in enumerate(both, 1)]
  if isinstance(record, data.PromptRecord):
    return []
  return [("response", record.response, None)]


def _of_conversation(
  sequence: data.EncodedSequence, tokenizer: data.Tokenizer
) -> Response:
  at = int(np.flatnonzero(sequence.mask)[0])
  text = lambda ids: tokenizer.backend.decode(
    ids.tolist(), skip_special_tokens=False
  )
  before, after = text(sequence.ids[:at]), text(sequence.ids[at:])
  return Response(sequence.source, "conversation", before, after, sequence)


def _closed(
  sequence: data.EncodedSequence, more: Sequence[int]
) -> data.EncodedSequence:
  """The sequence with some more tokens at its end, which aren't scored."""
  return dataclasses.replace(
    sequence,
    ids=np.concatenate([sequence.ids, np.array(more, np.int32)]),
    mask=np.concatenate([sequence.mask, np.zeros(len(more), bool)]),
  )

"""Where sequences are cut, how, and how many were.

A row is

    [bos] prompt response end
                 ^^^^^^^^^^^^ scored

with the ids that the text has in one piece, but for the border between prompt
and response: it is a border between tokens whatever the response, as it is when
responses are sampled. Rows where a token would lie across it are counted.

What begins a text is what the tokenizer's own post-processor or the chat
template puts there, once; one token ends the response (`Tokenizer.end_ids`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.schema import Prompted
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError

_SAID = {  # what a part of an example is called in a sentence
  "prompts": "prompts (oldest tokens)",
  "chosen": "chosen responses (end)",
  "rejected": "rejected responses (end)",
  "responses": "responses (end)",
  "conversations": "conversations (end)",
}


@dataclasses.dataclass(frozen=True)
class Limits:
  """Where sequences are cut, in tokens.

  A prompt keeps its end: its oldest tokens go first (never the beginning of
  sequence). A response keeps its beginning; a cut response has no
  end, since it did not end there.

  Attributes:
    max_tokens: of prompt and response together: the longest bucket.
    max_prompt_tokens: of a prompt with its beginning-of-sequence token; None
      cuts no prompt.
    max_response_tokens: of a response with its end; None
      for what the prompt leaves of `max_tokens`.
  """

  max_tokens: int
  max_prompt_tokens: int | None = None
  max_response_tokens: int | None = None

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 1 if field.name == "max_response_tokens" else 2
      if value is not None and value < least:
        raise UserError(
          f"{field.name} is {value}.", remedy=f"Give {least} or more."
        )
    if self.max_prompt_tokens and self.max_prompt_tokens >= self.max_tokens:
      raise UserError(
        f"max_prompt_tokens is {self.max_prompt_tokens}, which leaves no room "
        f"for a response: the longest bucket has {self.max_tokens} tokens.",
        remedy="Lower max_prompt_tokens or add a longer bucket.",
      )


class Cut(NamedTuple):
  """What the limits cut from one part of the examples.

  Attributes:
    of: texts of that part.
    cut: those that lost tokens.
    tokens: tokens dropped from them.
  """

  of: int
  cut: int
  tokens: int


@dataclasses.dataclass(frozen=True)
class Truncation:
  """What the limits cut from some examples.

  Attributes:
    noun: what an example is, in the plural: "pairs".
    count: examples encoded.
    parts: "prompts", "chosen", ... -> what they lost.
    identical: pairs whose two responses became equal: they teach nothing.
    joined: responses whose first token would begin in the prompt if both were
      encoded as one text.
    parted: (conversations taken apart into turns, turns that they became).
  """

  noun: str
  count: int
  parts: Mapping[str, Cut]
  identical: int = 0
  joined: int = 0
  parted: tuple[int, int] = (0, 0)

  @property
  def notes(self) -> list[str]:
    """What else became of the examples, in sentences."""
    notes = []
    if self.joined:
      notes.append(
        f"{self.joined} responses begin with what would be one token with the"
        " prompt's end: kept apart"
      )
    if self.parted[0]:
      notes.append(
        f"{self.parted[0]} conversations as {self.parted[1]} demonstrations,"
        " turn by turn: the template writes their earlier turns differently"
      )
    return notes

  def summary(self) -> str:
    """One line of counts and shares."""
    parts = [
      f"{n} {_SAID[name]} ({n / of:.1%}, {tokens} tokens)"
      for name, (of, n, tokens) in self.parts.items()
      if n
    ]
    apart = "".join(f"; {note}" for note in self.notes)
    if not parts:
      return f"none of {self.count} {self.noun} truncated{apart}"
    text = f"of {self.count} {self.noun}, truncated {', '.join(parts)}"
    if self.identical:
      text += (
        f"; {self.identical} {self.noun} have equal responses once truncated"
      )
    return text + apart

  def to_dict(self) -> dict[str, Any]:
    """The same as plain values for a JSON file."""
    parts = self.parts.items()
    return {
      self.noun: self.count,
      "cut": {name: part.cut for name, part in parts},
      "share": {name: part.cut / max(part.of, 1) for name, part in parts},
      "tokens": {name: part.tokens for name, part in parts},
      "identical": self.identical,
      "joined": self.joined,
      "parted": list(self.parted),
    }


def count_cuts(dropped: Iterable[int]) -> Cut:
  """A `Cut` from the tokens dropped from each text of a part."""
  tokens = list(dropped)
  return Cut(len(tokens), sum(n > 0 for n in tokens), sum(tokens))


class Encoded(NamedTuple):
  """Token ids of a prompt and of responses to it, cut to the limits.

  Attributes:
    prompt: [n] int32, n > 0.
    responses: one [n] int32 each, with the end that closes it, unless cut.
    cut: tokens dropped from (prompt, first response, second ...).
    joined: responses whose first token would begin in the prompt if both were
      encoded as one text; the border is kept.
  """

  prompt: np.ndarray
  responses: tuple[np.ndarray, ...]
  cut: tuple[int, ...]
  joined: int


def encode_texts(
  record: Prompted,
  responses: Sequence[str],
  tokenizer: Tokenizer,
  limits: Limits,
) -> Encoded:
  """Token ids of a record's prompt and of responses to it.

  Args:
    record: whose prompt it is.
    responses: the texts.
    tokenizer: of all of them.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  if record.end is not None:  # a template's
    tokenizer = tokenizer.ended_by(record.end)
  prompt, prompt_cut = prompt_ids(record, tokenizer, limits.max_prompt_tokens)
  room = limits.max_tokens - len(prompt)
  if room < 1:
    raise UserError(
      f"the prompt has {len(prompt)} tokens, which leaves no room for a "
      f"response: the longest bucket has {limits.max_tokens}.",
      where=record.source,
      remedy="Set max_prompt_tokens, or add a longer bucket.",
    )
  room = min(room, limits.max_response_tokens or room)
  encoded, cut, joined = [], [prompt_cut], 0
  for response in responses:
    ids, kept_apart = response_ids(record.prompt, response, tokenizer)
    encoded.append(np.array(ids[:room], np.int32))
    cut.append(max(len(ids) - room, 0))
    joined += kept_apart
  return Encoded(prompt, tuple(encoded), tuple(cut), joined)


def prompt_ids(
  record: Prompted, tokenizer: Tokenizer, limit: int | None
) -> tuple[np.ndarray, int]:
  """A prompt's tokens, as the tokenizer or its chat template begins a text.

  Args:
    record: whose prompt it is.
    tokenizer: before a plain text it puts its `prefix_ids`, once; a template
      writes what it wants there itself.
    limit: the oldest tokens beyond it are dropped, but not those that begin
      the text; None for all.

  Returns:
    (ids [n] int32, tokens dropped).

  Raises:
    UserError: the prompt has no token.
  """
  ids = start_ids(record.prompt, tokenizer, record.end is not None)
  first = len(tokenizer.prefix_ids)
  if tuple(ids[:first]) != tokenizer.prefix_ids:
    first = int(ids[:1] == [tokenizer.bos_id])
  if len(ids) == first:
    raise UserError(
      "the prompt has no token.",
      where=record.source,
      remedy="Write a prompt, or leave the row out.",
    )
  keep = len(ids) if limit is None else min(len(ids), limit)
  cut = len(ids) - keep
  return np.array(ids[:first] + ids[first + cut :], np.int32), cut


def start_ids(text: str, tokenizer: Tokenizer, chat: bool) -> list[int]:
  """Token ids of a text with what begins it.

  Args:
    text: from its beginning.
    tokenizer: of the text.
    chat: a chat template wrote the text, with all its special tokens. Those
      trained here read no special token in a text: they begin it all the same.
  """
  prefix = tokenizer.prefix_ids
  if tokenizer.plain_specials:
    text = text.removeprefix(tokenizer.bos_text) if prefix else text
    return [*prefix, *tokenizer.encode(text)]
  ids = tokenizer.encode(text)
  if chat or tuple(ids[: len(prefix)]) == prefix:
    return ids
  return [*prefix, *ids]


def response_ids(
  prompt: str, text: str, tokenizer: Tokenizer
) -> tuple[list[int], bool]:
  """(a response's tokens with its end, whether the border had to be kept).

  Args:
    prompt: what comes before it.
    text: the response; an end that it has stays, or it gets the first one.
    tokenizer: of both.
  """
  text, end = tokenizer.split_end(text)
  if end is not None and not tokenizer.plain_specials:
    # In one piece: an end may take the white space before it.
    said = text + tokenizer.text_of(end)
    ids, kept_apart = tokenizer.encode_after(prompt, said)
    if ids[-1:] == [end]:
      return ids, kept_apart
  ids, kept_apart = tokenizer.encode_after(prompt, text)
  return [*ids, tokenizer.end_ids[0] if end is None else end], kept_apart

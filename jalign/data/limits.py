"""Where and how sequences are cut, and how many were.

A row is

    [bos] prompt response end
                 ^^^^^^^^^^^^ scored

Its ids are those of the text encoded in one piece, except at the border between
prompt and response. That is a border between tokens whatever the response, as
it is when responses are sampled. Rows in which a token would lie across the
border are counted.

The tokenizer's own post-processor or the chat template puts the beginning of
sequence there, once; one token ends the response (`Tokenizer.end_ids`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.schema import Prompted
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError

_SAID = {  # part of an example -> its name in a sentence
  "prompts": "prompts (oldest tokens)",
  "chosen": "chosen responses (end)",
  "rejected": "rejected responses (end)",
  "responses": "responses (end)",
  "conversations": "conversations (end)",
}


@dataclasses.dataclass(frozen=True)
class Limits:
  """Where sequences are cut, in tokens.

  A prompt keeps its end: its oldest tokens are dropped first, but never the
  beginning of sequence. A response keeps its beginning. A cut response has no
  end token, since the text did not end there.

  Attributes:
    max_tokens: limit of prompt and response together: the longest bucket.
    max_prompt_tokens: limit of a prompt including its beginning of sequence;
      None cuts no prompt.
    max_response_tokens: limit of a response including its end; None for what
      the prompt leaves of `max_tokens`.
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
    of: number of texts of that part.
    cut: number of those texts that lost tokens.
    tokens: number of tokens dropped from them.
  """

  of: int
  cut: int
  tokens: int


@dataclasses.dataclass(frozen=True)
class Truncation:
  """What the limits cut from some examples.

  Attributes:
    noun: what an example is, in the plural: "pairs".
    count: number of examples encoded.
    parts: "prompts", "chosen", ... -> what was cut from that part.
    identical: number of pairs (or lists) whose responses became equal, so that
      they teach nothing.
    joined: number of responses whose first token would begin in the prompt if
      prompt and response were encoded as one text.
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
    """What else happened to the examples, in sentences."""
    notes = []
    if self.joined:
      notes.append(
        f"{self.joined} responses begin inside what would be one token with"
        " the prompt's end; prompt and response are kept apart"
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
    """The counts as plain values for a JSON file."""
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
  """Makes a `Cut` from the tokens dropped from each text of a part."""
  tokens = list(dropped)
  return Cut(len(tokens), sum(n > 0 for n in tokens), sum(tokens))


class Encoded(NamedTuple):
  """Token ids of a prompt and of responses to it, cut to the limits.

  Attributes:
    prompt: [n] int32, n > 0.
    responses: int32 arrays [n], each with the token that ends the response
      unless it was cut.
    cut: numbers of tokens dropped from (prompt, first response, second ...).
    joined: number of responses whose first token would begin in the prompt if
      prompt and response were encoded as one text; they are kept apart.
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
  """Encodes a record's prompt and responses to it.

  Args:
    record: has the prompt.
    responses: texts of the responses.
    tokenizer: encodes the prompt and the responses.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  if record.end is not None:  # a chat template wrote the texts
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
  """A prompt's tokens, begun as the tokenizer or a chat template begins a text.

  Args:
    record: has the prompt.
    tokenizer: puts its `prefix_ids` before a plain text, once; a chat template
      writes what it wants there by itself.
    limit: longer prompts lose their oldest tokens, but not those that begin
      the text; None cuts nothing.

  Returns:
    (ids [n] int32, number of tokens dropped).

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
  """Token ids of a text, with the tokens that begin a text.

  Args:
    text: the text, from its beginning.
    tokenizer: encodes the text.
    chat: whether a chat template wrote the text, with all its special tokens.
      Tokenizers trained by this library read no special tokens in texts, and
      put their own before them all the same.
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
  """Encodes a response that follows a prompt.

  Args:
    prompt: the text before the response.
    text: the response. An end token that it has stays; otherwise it gets the
      tokenizer's first one.
    tokenizer: encodes both texts.

  Returns:
    (ids of the response with its end, whether the first of them would begin in
    the prompt if both were encoded as one text).
  """
  text, end = tokenizer.split_end(text)
  if end is not None and not tokenizer.plain_specials:
    # Encoded in one piece, since an end token may take the white space before.
    said = text + tokenizer.text_of(end)
    ids, kept_apart = tokenizer.encode_after(prompt, said)
    if ids[-1:] == [end]:
      return ids, kept_apart
  ids, kept_apart = tokenizer.encode_after(prompt, text)
  return [*ids, tokenizer.end_ids[0] if end is None else end], kept_apart

"""Where sequences are cut, how, and how many were.

Prompt and response are tokenised separately, so that the border between them
is a border between tokens whatever the response. A row is

    [bos] prompt response end
                 ^^^^^^^^^^^^ scored

with one beginning-of-sequence token if the tokenizer has one, and one token
that ends the response (`Tokenizer.end_ids`). A text that already begins or ends
with them gets no second one.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

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
  end-of-sequence token, since it did not end there.

  Attributes:
    max_tokens: of prompt and response together: the longest bucket.
    max_prompt_tokens: of a prompt with its beginning-of-sequence token; None
      cuts no prompt.
    max_response_tokens: of a response with its end-of-sequence token; None
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
  """

  noun: str
  count: int
  parts: Mapping[str, Cut]
  identical: int = 0

  def summary(self) -> str:
    """One line of counts and shares."""
    parts = [
      f"{n} {_SAID[name]} ({n / of:.1%}, {tokens} tokens)"
      for name, (of, n, tokens) in self.parts.items()
      if n
    ]
    if not parts:
      return f"none of {self.count} {self.noun} truncated"
    text = f"of {self.count} {self.noun}, truncated {', '.join(parts)}"
    if self.identical:
      text += (
        f"; {self.identical} {self.noun} have equal responses once truncated"
      )
    return text

  def to_dict(self) -> dict[str, Any]:
    """The same as plain values for a JSON file."""
    parts = self.parts.items()
    return {
      self.noun: self.count,
      "cut": {name: part.cut for name, part in parts},
      "share": {name: part.cut / max(part.of, 1) for name, part in parts},
      "tokens": {name: part.tokens for name, part in parts},
      "identical": self.identical,
    }


def count_cuts(dropped: Iterable[int]) -> Cut:
  """A `Cut` from the tokens dropped from each text of a part."""
  tokens = list(dropped)
  return Cut(len(tokens), sum(n > 0 for n in tokens), sum(tokens))


def prompt_ids(
  text: str, tokenizer: Tokenizer, limit: int | None, where: str
) -> tuple[np.ndarray, int]:
  """A prompt's tokens, the beginning of sequence first.

  Args:
    text: the prompt.
    tokenizer: its beginning of sequence comes first, once, if it has one.
    limit: the oldest tokens beyond it are dropped; None for all.
    where: "file:line", for errors.

  Returns:
    (ids [n] int32, tokens dropped).

  Raises:
    UserError: the prompt has no token.
  """
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  if tokenizer.bos_text:
    text = text.removeprefix(tokenizer.bos_text)
  ids = tokenizer.encode(text)
  if not ids:
    raise UserError(
      "the prompt has no token.",
      where=where,
      remedy="Write a prompt, or leave the row out.",
    )
  keep = len(ids) if limit is None else min(len(ids), limit - len(bos))
  cut = len(ids) - keep
  return np.array(bos + ids[cut:], np.int32), cut


def response_ids(
  text: str, tokenizer: Tokenizer, limit: int
) -> tuple[np.ndarray, int]:
  """A response's tokens with the end that closes it, unless cut.

  Returns:
    (ids [n] int32, tokens dropped).
  """
  text, end = tokenizer.split_end(text)
  ids = tokenizer.encode(text)
  ids.append(tokenizer.end_ids[0] if end is None else end)
  return np.array(ids[:limit], np.int32), max(len(ids) - limit, 0)


def response_room(prompt: np.ndarray, limits: Limits, where: str) -> int:
  """Tokens that a response to an encoded prompt may have.

  Raises:
    UserError: the prompt leaves none.
  """
  room = limits.max_tokens - len(prompt)
  if room < 1:
    raise UserError(
      f"the prompt has {len(prompt)} tokens, which leaves no room for a "
      f"response: the longest bucket has {limits.max_tokens}.",
      where=where,
      remedy="Set max_prompt_tokens, or add a longer bucket.",
    )
  return min(room, limits.max_response_tokens or room)

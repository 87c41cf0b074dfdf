"""Records become token ids.

Prompt and response are tokenised separately, so that the border between them
is a border between tokens whatever the response. A row is

    [bos] prompt response eos
                 ^^^^^^^^^^^^ scored

with one beginning-of-sequence token if the tokenizer has one, and the
end-of-sequence token appended once. A text that already begins or ends with
them gets no second one.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jalign.data.schema import PreferenceRecord, PromptRecord
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError


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


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPair:
  """Token ids of a pair; int32 arrays.

  Attributes:
    prompt: [n] ids with the beginning of sequence, n > 0.
    chosen: [n] ids with the end of sequence, unless cut.
    rejected: [n] the same.
    source: "file:line" of the record.
    preference: of the record.
    chosen_score: of the record.
    rejected_score: of the record.
    cut: tokens dropped from (prompt, chosen, rejected).
  """

  prompt: np.ndarray
  chosen: np.ndarray
  rejected: np.ndarray
  source: str
  preference: float | None = None
  chosen_score: float | None = None
  rejected_score: float | None = None
  cut: tuple[int, int, int] = (0, 0, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSequence:
  """A sequence with its scored tokens, for likelihood losses.

  Attributes:
    ids: [n] int32, from the beginning of sequence to the end.
    mask: [n] bool, True on the tokens to learn from; mask[0] is False.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, response).
  """

  ids: np.ndarray
  mask: np.ndarray
  source: str
  cut: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPrompt:
  """A prompt to generate from.

  Attributes:
    ids: [n] int32 with the beginning of sequence, n > 0; cut to the limit.
    text: the whole prompt, as annotators and reports see it.
    source: "file:line" of the record.
  """

  ids: np.ndarray
  text: str
  source: str


@dataclasses.dataclass(frozen=True)
class Truncation:
  """What the limits cut from some pairs.

  Attributes:
    pairs: pairs encoded.
    cut: prompts, chosen and rejected responses that lost tokens.
    tokens: tokens dropped from them.
    identical: pairs whose two responses became equal: they teach nothing.
  """

  pairs: int
  cut: tuple[int, int, int]
  tokens: tuple[int, int, int]
  identical: int

  def summary(self) -> str:
    """One line of counts and shares."""
    if not any(self.cut):
      return f"none of {self.pairs} pairs truncated"
    names = ("prompts (oldest tokens)", "chosen responses (end)")
    parts = [
      f"{n} {name} ({n / self.pairs:.1%}, {tokens} tokens)"
      for n, tokens, name in zip(
        self.cut, self.tokens, (*names, "rejected responses (end)")
      )
      if n
    ]
    text = f"of {self.pairs} pairs, truncated {', '.join(parts)}"
    if self.identical:
      text += f"; {self.identical} pairs have equal responses once truncated"
    return text

  def to_dict(self) -> dict[str, Any]:
    """The same as plain values for a JSON file."""
    names = ("prompts", "chosen", "rejected")
    return {
      "pairs": self.pairs,
      "cut": dict(zip(names, self.cut)),
      "share": {n: c / self.pairs for n, c in zip(names, self.cut)},
      "tokens": dict(zip(names, self.tokens)),
      "identical": self.identical,
    }


def encode_prompts(
  records: Iterable[PreferenceRecord | PromptRecord],
  tokenizer: Tokenizer,
  max_prompt_tokens: int | None = None,
) -> list[EncodedPrompt]:
  """Token ids of the records' prompts.

  Args:
    records: anything with `prompt` and `source`.
    tokenizer: its beginning of sequence comes first, once, if it has one.
    max_prompt_tokens: the oldest tokens beyond it are dropped; None for all.

  Raises:
    UserError: a prompt has no token.
  """
  return [
    EncodedPrompt(
      _prompt(record, tokenizer, max_prompt_tokens)[0],
      record.prompt,
      record.source,
    )
    for record in records
  ]


def encode_pair(
  record: PreferenceRecord, tokenizer: Tokenizer, limits: Limits
) -> EncodedPair:
  """Token ids of a pair, cut to the limits.

  Args:
    record: the pair.
    tokenizer: for prompt and responses, each encoded by itself.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  prompt, prompt_cut = _prompt(record, tokenizer, limits.max_prompt_tokens)
  room = limits.max_tokens - len(prompt)
  if room < 1:
    raise UserError(
      f"the prompt has {len(prompt)} tokens, which leaves no room for a "
      f"response: the longest bucket has {limits.max_tokens}.",
      where=record.source,
      remedy="Set max_prompt_tokens, or add a longer bucket.",
    )
  room = min(room, limits.max_response_tokens or room)
  chosen, chosen_cut = _response(record.chosen, tokenizer, room)
  rejected, rejected_cut = _response(record.rejected, tokenizer, room)
  return EncodedPair(
    prompt=prompt,
    chosen=chosen,
    rejected=rejected,
    source=record.source,
    preference=record.preference,
    chosen_score=record.chosen_score,
    rejected_score=record.rejected_score,
    cut=(prompt_cut, chosen_cut, rejected_cut),
  )


def encode_pairs(
  records: Iterable[PreferenceRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedPair], Truncation]:
  """`encode_pair` of each record, and what was cut.

  Raises:
    UserError: as `encode_pair`; or some records have a preference or a score
      and some have none, since a loss would use it for all or for none.
  """
  records = list(records)
  for field in ("preference", "chosen_score", "rejected_score"):
    all_or_none(records, field)
  pairs = [encode_pair(record, tokenizer, limits) for record in records]
  cuts = np.array([pair.cut for pair in pairs], np.int64).reshape(-1, 3)
  return pairs, Truncation(
    pairs=len(pairs),
    cut=tuple((cuts > 0).sum(0).tolist()),
    tokens=tuple(cuts.sum(0).tolist()),
    identical=sum(np.array_equal(p.chosen, p.rejected) for p in pairs),
  )


def pair_length(pair: EncodedPair) -> int:
  """Tokens of the longer of a pair's two rows."""
  return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def chosen_length(pair: EncodedPair) -> int:
  """Tokens of the prompt with the chosen response."""
  return len(pair.prompt) + len(pair.chosen)


def prompt_length(prompt: EncodedPrompt) -> int:
  """Tokens of a prompt."""
  return len(prompt.ids)


def _prompt(
  record: PreferenceRecord | PromptRecord,
  tokenizer: Tokenizer,
  limit: int | None,
) -> tuple[np.ndarray, int]:
  """(ids, tokens dropped)."""
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  text = record.prompt
  if tokenizer.bos_text:
    text = text.removeprefix(tokenizer.bos_text)
  ids = tokenizer.encode(text)
  if not ids:
    raise UserError(
      "the prompt has no token.",
      where=record.source,
      remedy="Write a prompt, or leave the row out.",
    )
  keep = len(ids) if limit is None else min(len(ids), limit - len(bos))
  cut = len(ids) - keep
  return np.array(bos + ids[cut:], np.int32), cut


def _response(
  text: str, tokenizer: Tokenizer, limit: int
) -> tuple[np.ndarray, int]:
  """(ids with the end of sequence unless cut, tokens dropped)."""
  ids = tokenizer.encode(text.removesuffix(tokenizer.eos_text))
  if not ids or ids[-1] != tokenizer.eos_id:
    ids.append(tokenizer.eos_id)
  return np.array(ids[:limit], np.int32), max(len(ids) - limit, 0)


def all_or_none(records: Sequence[Any], field: str) -> np.ndarray | None:
  """[n] float32 of a field that all records have; None if none has it."""
  values = [getattr(record, field) for record in records]
  missing = [r.source for r, v in zip(records, values) if v is None]
  if len(missing) == len(values):
    return None
  if missing:
    raise UserError(
      f"has no {field!r}, though {len(values) - len(missing)} of "
      f"{len(values)} records have one.",
      where=missing[0],
      remedy="Give it for all records or for none.",
    )
  return np.array(values, np.float32)

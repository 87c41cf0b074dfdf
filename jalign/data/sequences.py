"""Texts to imitate become token ids: one sequence, some of it scored."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jalign.data.chat import ChatTemplate
from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  encode_texts,
  start_ids,
)
from jalign.data.rows import BadRow
from jalign.data.schema import ConversationRecord, DemonstrationRecord
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSequence:
  """A sequence with its scored tokens, for likelihood losses.

  Attributes:
    ids: [n] int32, from the beginning of sequence to the end.
    mask: [n] bool, True on the tokens to learn from; mask[0] is False.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, response).
    joined: of `limits.Encoded`; of a conversation, its turns' borders.
    reward: of the response.
    value: expected reward of the prompt.
  """

  ids: np.ndarray
  mask: np.ndarray
  source: str
  cut: tuple[int, ...] = (0, 0)
  joined: int = 0
  reward: float | None = None
  value: float | None = None


def encode_demonstration(
  record: DemonstrationRecord, tokenizer: Tokenizer, limits: Limits
) -> EncodedSequence:
  """Token ids of a prompt and its response, cut to the limits.

  Args:
    record: the demonstration.
    tokenizer: for prompt and response.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  found = encode_texts(record, (record.response,), tokenizer, limits)
  ids = np.concatenate([found.prompt, *found.responses])
  return EncodedSequence(
    ids=ids,
    mask=np.arange(len(ids)) >= len(found.prompt),
    source=record.source,
    cut=found.cut,
    joined=found.joined,
  )


def encode_demonstrations(
  records: Iterable[DemonstrationRecord],
  tokenizer: Tokenizer,
  limits: Limits,
) -> tuple[list[EncodedSequence], Truncation]:
  """`encode_demonstration` of each record, and what was cut.

  Raises:
    UserError: as `encode_demonstration`.
  """
  found = [encode_demonstration(r, tokenizer, limits) for r in records]
  return found, Truncation(
    noun="demonstrations",
    count=len(found),
    parts={
      name: count_cuts(sequence.cut[i] for sequence in found)
      for i, name in enumerate(("prompts", "responses"))
    },
    joined=sum(sequence.joined for sequence in found),
  )


def encode_conversation(
  record: ConversationRecord,
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> EncodedSequence:
  """Token ids of a conversation; all assistant turns are scored.

  A turn is scored to its end: the token that closes it is. As everywhere, what
  is scored is tokenised apart from what comes before it, so that the tokens are
  those of generation: a conversation of one turn is its demonstration. The last
  turn gets an end if the template writes none.

  Args:
    record: the conversation.
    tokenizer: of all its parts.
    template: writes it; see `ChatTemplate.spans`.
    limits: `max_tokens` alone applies; a long conversation loses its end.

  Raises:
    UserError: the template refuses the conversation, or writes a turn
      differently once others follow; or no scored token is left.
  """
  try:
    text, spans = template.given(record.variables).spans(record.messages)
  except BadRow as bad:
    _, problem, remedy = bad.args
    raise UserError(problem, where=record.source, remedy=remedy) from None
  tokenizer = tokenizer.ended_by(template.end)
  at = spans[0][0] if spans else 0
  ids = start_ids(text[:at], tokenizer, not template.plain)
  mask = [False] * len(ids)
  joined = 0
  for start, stop in spans:
    for piece, scored in ((text[at:start], False), (text[start:stop], True)):
      found, kept_apart = tokenizer.encode_after(text[:at], piece)
      ids += found
      mask += [scored] * len(found)
      joined += kept_apart
      at += len(piece)
  rest, _ = tokenizer.split_end(text[at:])
  if rest.strip():
    ids += tokenizer.encode_after(text[:at], rest)[0]
    mask += [False] * (len(ids) - len(mask))
  answered = record.messages[-1]["role"] == "assistant"
  if answered and ids[-1] not in tokenizer.end_ids:
    ids.append(tokenizer.end_ids[0])
    mask.append(True)
  mask[0] = False  # nothing predicts the first token
  length = min(len(ids), limits.max_tokens)
  if not any(mask[:length]):
    raise UserError(
      f"no assistant token is left in the first {length} of {len(ids)} tokens.",
      where=record.source,
      remedy="Add a longer bucket, or leave the conversation out.",
    )
  return EncodedSequence(
    ids=np.array(ids[:length], np.int32),
    mask=np.array(mask[:length], bool),
    source=record.source,
    cut=(0, len(ids) - length),
    joined=joined,
  )


def encode_conversations(
  records: Iterable[ConversationRecord],
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> tuple[list[EncodedSequence], Truncation]:
  """`encode_conversation` of each record, and what was cut.

  Raises:
    UserError: as `encode_conversation`; or the template ends turns with a
      token that the tokenizer reads as plain text, or that isn't its own.
  """
  end = tokenizer.eos_text
  theirs = template.variables.get("eos_token") or end
  if tokenizer.backend.token_to_id(theirs) is None:
    raise UserError(
      f"the template ends texts with {theirs!r}, which isn't a token of the "
      f"tokenizer; its own end is {end!r}.",
      where=template.name,
      remedy="Take both from one folder.",
    )
  if ("eos_token" in template.text or end in template.text) and (
    tokenizer.encode(end) != [tokenizer.eos_id]
  ):
    raise UserError(
      f"the template writes {end!r}, which the tokenizer reads as plain text.",
      where=template.name,
      remedy="Use a template without special tokens (the end of sequence is "
      "added), or a Hugging Face tokenizer.",
    )
  found = [
    encode_conversation(record, tokenizer, template, limits)
    for record in records
  ]
  return found, Truncation(
    noun="conversations",
    count=len(found),
    parts={"conversations": count_cuts(one.cut[1] for one in found)},
    joined=sum(one.joined for one in found),
  )


def sequence_length(sequence: EncodedSequence) -> int:
  """Tokens of a sequence."""
  return len(sequence.ids)

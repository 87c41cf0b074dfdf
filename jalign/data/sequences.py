"""Turns texts to imitate into token ids: a sequence, parts of it scored."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jalign.data.chat import ChatTemplate
from jalign.data.conversations import end_of
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
    cut: numbers of tokens dropped from (prompt, response).
    reward: reward of the response, if it is known.
    value: expected reward of responses to the prompt, if it is known.
  """

  ids: np.ndarray
  mask: np.ndarray
  source: str
  cut: tuple[int, ...] = (0, 0)
  reward: float | None = None
  value: float | None = None


def encode_demonstration(
  record: DemonstrationRecord, tokenizer: Tokenizer, limits: Limits
) -> EncodedSequence:
  """Encodes a prompt and its response as one sequence, cut to the limits.

  Args:
    record: the demonstration.
    tokenizer: encodes prompt and response.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  return _encode(record, tokenizer, limits)[0]


def _encode(
  record: DemonstrationRecord, tokenizer: Tokenizer, limits: Limits
) -> tuple[EncodedSequence, int]:
  """(encoded sequence, `limits.Encoded.joined` of it)."""
  encoded = encode_texts(record, (record.response,), tokenizer, limits)
  ids = np.concatenate([encoded.prompt, *encoded.responses])
  sequence = EncodedSequence(
    ids=ids,
    mask=np.arange(len(ids)) >= len(encoded.prompt),
    source=record.source,
    cut=encoded.cut,
  )
  return sequence, encoded.joined


def encode_demonstrations(
  records: Iterable[DemonstrationRecord],
  tokenizer: Tokenizer,
  limits: Limits,
) -> tuple[list[EncodedSequence], Truncation]:
  """Encodes each record with `encode_demonstration`.

  Returns:
    (encoded sequences, what was cut from them).

  Raises:
    UserError: as in `encode_demonstration`.
  """
  encoded = [_encode(record, tokenizer, limits) for record in records]
  sequences = [sequence for sequence, _ in encoded]
  return sequences, Truncation(
    noun="demonstrations",
    count=len(sequences),
    parts={
      name: count_cuts(sequence.cut[i] for sequence in sequences)
      for i, name in enumerate(("prompts", "responses"))
    },
    joined=sum(joined for _, joined in encoded),
  )


def encode_conversation(
  record: ConversationRecord,
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> EncodedSequence:
  """Encodes a conversation; all of the assistant's turns are scored.

  A turn is scored up to and including the token that ends it. As everywhere,
  the scored text is tokenised apart from the text before it, so that the tokens
  are those of generation: a conversation with one answer is encoded like the
  demonstration. The last turn gets an end token if the template writes none.

  Args:
    record: the conversation.
    tokenizer: encodes all parts of the conversation.
    template: writes the conversation; see `ChatTemplate.spans`.
    limits: only `max_tokens` applies; a long conversation loses its end.

  Raises:
    UserError: the template refuses the conversation, or writes a turn
      differently once others follow (`encode_conversations` takes such a
      conversation apart); or no scored token is left.
  """
  try:
    text, spans = template.given(record.variables).spans(record.messages)
  except BadRow as bad:
    raise _said(bad, record) from None
  return _encode_spans(record, text, spans, tokenizer, template, limits)[0]


def _encode_spans(
  record: ConversationRecord,
  text: str,
  spans: Sequence[tuple[int, int]],
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> tuple[EncodedSequence, int]:
  """(a conversation's text encoded, with its spans scored; number of spans and
  gaps whose border was kept, see `Tokenizer.encode_after`)."""
  tokenizer = tokenizer.ended_by(template.end)
  at = spans[0][0] if spans else 0
  ids = start_ids(text[:at], tokenizer, not template.plain)
  mask = [False] * len(ids)
  joined = 0
  for start, stop in spans:
    if tokenizer.split_end(text[start:stop])[1] is None:
      # The mark that opens the next turn may be what ends this turn.
      after = [end for end in tokenizer.ends if text.startswith(end, stop)]
      stop += max(map(len, after), default=0)
    for piece, scored in ((text[at:start], False), (text[start:stop], True)):
      piece_ids, kept_apart = tokenizer.encode_after(text[:at], piece)
      ids += piece_ids
      mask += [scored] * len(piece_ids)
      joined += kept_apart
      at += len(piece)
  tail, _ = tokenizer.split_end(text[at:])
  if tail.strip():
    ids += tokenizer.encode_after(text[:at], tail)[0]
    mask += [False] * (len(ids) - len(mask))
  answered = record.messages[-1]["role"] == "assistant"
  if answered and ids[-1] not in tokenizer.end_ids:
    ids.append(tokenizer.end_ids[0])
    mask.append(True)
  mask[0] = False  # nothing predicts the first token
  length = min(len(ids), limits.max_tokens)
  if not any(mask[:length]):
    raise _nothing_left(record, length, len(ids))
  sequence = EncodedSequence(
    ids=np.array(ids[:length], np.int32),
    mask=np.array(mask[:length], bool),
    source=record.source,
    cut=(0, len(ids) - length),
  )
  return sequence, joined


def _turn_by_turn(
  record: ConversationRecord,
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> tuple[list[EncodedSequence], list[int], int]:
  """(turns as demonstrations, tokens dropped from each turn, borders kept).

  A turn is left out if its prompt alone exceeds the limit.
  """
  own = template.given(record.variables)
  end = end_of(template)
  whole = Limits(max_tokens=2**30)
  encoded: list[EncodedSequence] = []
  cut: list[int] = []
  joined = 0
  try:
    turns = own.turns(record.messages)
  except BadRow as bad:
    raise _said(bad, record) from None
  for number, texts in enumerate(turns, 1):
    source = f"{record.source}#{number}"
    turn = DemonstrationRecord(*texts, source, record.group, end=end)
    sequence, kept_apart = _encode(turn, tokenizer, whole)
    length = min(len(sequence.ids), limits.max_tokens)
    cut.append(len(sequence.ids) - length)
    sequence = dataclasses.replace(
      sequence,
      ids=sequence.ids[:length],
      mask=sequence.mask[:length],
      cut=(0, cut[-1]),
    )
    if sequence.mask.any():
      encoded.append(sequence)
      joined += kept_apart
  if not encoded:
    raise _nothing_left(record, limits.max_tokens, limits.max_tokens + cut[0])
  return encoded, cut, joined


def _nothing_left(
  record: ConversationRecord, length: int, total: int
) -> UserError:
  return UserError(
    f"no assistant token is left in the first {length} of {total} tokens.",
    where=record.source,
    remedy="Add a longer bucket, or leave the conversation out.",
  )


def _said(bad: BadRow, record: ConversationRecord) -> UserError:
  _, problem, remedy = bad.args
  return UserError(problem, where=record.source, remedy=remedy)


def encode_conversations(
  records: Iterable[ConversationRecord],
  tokenizer: Tokenizer,
  template: ChatTemplate,
  limits: Limits,
) -> tuple[list[EncodedSequence], Truncation]:
  """Encodes conversations with `encode_conversation`.

  A template may write a turn differently once others follow, say without the
  thoughts of earlier turns. Then each assistant turn of the conversation
  becomes a demonstration of its own, after the text that the template writes
  before the turn: "FILE:LINE#1", "#2" and so on. Every turn is scored once.
  `Truncation.parted` counts such conversations.

  Returns:
    (encoded sequences, what was cut from them).

  Raises:
    UserError: the template refuses a conversation, or no scored token of it is
      left; or the template ends turns with a token that the tokenizer reads as
      plain text or doesn't have.
  """
  end = tokenizer.eos_text
  theirs = template.variables.get("eos_token") or end
  if tokenizer.backend.token_to_id(theirs) is None:
    raise UserError(
      f"the template ends texts with {theirs!r}, which isn't a token of the "
      f"tokenizer; its own end is {end!r}.",
      where=template.name,
      remedy="Take the template and the tokenizer from one folder.",
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
  encoded: list[EncodedSequence] = []
  count, joined, parted, turns = 0, 0, 0, 0
  cut: list[int] = []
  for record in records:
    count += 1
    try:
      spans = template.given(record.variables).spans(record.messages)
    except BadRow as bad:
      if bad.args[0] != "prefix":
        raise _said(bad, record) from None
      some, lost, apart = _turn_by_turn(record, tokenizer, template, limits)
      parted, turns = parted + 1, turns + len(some)
      cut += lost
    else:
      sequence, apart = _encode_spans(
        record, *spans, tokenizer, template, limits
      )
      some = [sequence]
      cut.append(sequence.cut[1])
    encoded += some
    joined += apart
  return encoded, Truncation(
    noun="conversations",
    count=count,
    parts={"conversations": count_cuts(cut)},
    joined=joined,
    parted=(parted, turns),
  )


def sequence_length(sequence: EncodedSequence) -> int:
  """Number of tokens of a sequence."""
  return len(sequence.ids)

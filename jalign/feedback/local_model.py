"""Language models on the run's own devices, decoded by the library's loop.

All processes ask together. A completion depends on the question, the model and
the settings alone: the randomness of a row comes from a hash of its messages
and from the number of the sample.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.data.limits import start_ids
from jalign.data.rows import BadRow
from jalign.decode import Sampler, continuation_logprobs, generate
from jalign.errors import UserError
from jalign.feedback.completions import Completion, LanguageModel, Question
from jalign.feedback.counts import Tally
from jalign.sharding import batch_ways, fetch
from jalign.types import Model, Params

ROWS = 32  # rows that are decoded at a time


class Loaded(NamedTuple):
  """A language model with what it reads texts by.

  Attributes:
    model: the model's functions.
    params: the model's parameters, on the mesh that is set when it is asked.
    tokenizer: the model's tokenizer.
    template: writes the messages; None joins their texts with empty lines.
    positions: the most tokens that the model can read; 0 for no limit.
  """

  model: Model
  params: Params
  tokenizer: data.Tokenizer
  template: data.ChatTemplate | None
  positions: int = 0


def local_model(
  load: Callable[[], Loaded],
  draw: Sampler,
  *,
  identity: Mapping[str, Any],
  max_new_tokens: int = 512,
  labels: Sequence[str] = (),
  rows: int = ROWS,
  seed: int = 0,
) -> LanguageModel:
  """Makes a language model that the library decodes.

  Questions are sorted by length, so that few programs are compiled. The samples
  of a question share its prefill.

  Args:
    load: `() -> Loaded`, called when the model is first asked.
    draw: the sampler.
    identity: what decides the completions beside the options here: the hash of
      the parameters, the template, the sampler's settings.
    max_new_tokens: the most tokens of a completion.
    labels: labels whose log-probs are wanted at the place of the verdict: the
      last place of a completion where one of them stands as a word.
    rows: number of completions that are decoded at a time.
    seed: seed of the draws.

  Raises:
    UserError: an option is out of range.
  """
  for name, value in (("rows", rows), ("max_new_tokens", max_new_tokens)):
    if value < 1:
      raise UserError(f"{value} is below 1.", where=name)
  loaded, tally = functools.cache(load), Tally()

  def complete(
    questions: Sequence[Question],
  ) -> Iterator[tuple[int, Completion]]:
    own = loaded()
    places: dict[Any, dict[int, int]] = {}  # messages -> sample -> question
    for i, question in enumerate(questions):
      places.setdefault(question.messages, {})[question.sample] = i
    by_samples: dict[tuple[int, ...], list[Any]] = {}
    for messages, samples in places.items():
      by_samples.setdefault(tuple(samples), []).append(messages)
    for numbers, asked in by_samples.items():
      for messages, completions in _completed(
        own, asked, numbers, draw, max_new_tokens, tuple(labels), rows, seed
      ):
        tally.add(_cost(completions))
        for sample, completion in zip(numbers, completions, strict=True):
          yield places[messages][sample], completion

  whole = {
    **identity,
    "max_new_tokens": max_new_tokens,
    "labels": list(labels),
    "seed": seed,
  }
  return LanguageModel(complete, whole, tally, together=True)


def written(own: Loaded, question: Question) -> str:
  """The text that the model continues.

  Raises:
    UserError: the chat template refuses the messages.
  """
  if own.template is None:
    return question.text
  return rendered(own.template, question.chat, prompt=True)


def encoded(own: Loaded, text: str) -> np.ndarray:
  """[n] int32 ids of a text from its beginning."""
  chat = own.template is not None and not own.template.plain
  return np.array(start_ids(text, own.tokenizer, chat), np.int32)


def padded(rows: Sequence[np.ndarray], pad_id: int) -> tuple[Any, np.ndarray]:
  """([B, T] int32, [B] int32 lengths) of B rows of ids."""
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.full((len(rows), max(int(lengths.max()), 1)), pad_id, np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return tokens, lengths


def parts_of(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
  """Indices of rows in parts of `rows`, sorted by length.

  The number of rows is rounded up to what the mesh divides, and the last part
  is filled up with its own rows, so that all parts have one number of rows.
  """
  ways = batch_ways()
  size = -(-min(rows, len(lengths)) // ways) * ways
  order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
  for start in range(0, len(order), size):
    part = order[start : start + size]
    yield [part[i % len(part)] for i in range(size)]


def _completed(
  own: Loaded,
  asked: Sequence[Any],
  samples: tuple[int, ...],
  draw: Sampler,
  max_new_tokens: int,
  labels: tuple[str, ...],
  rows: int,
  seed: int,
) -> Iterator[tuple[Any, list[Completion]]]:
  """Yields (messages, a completion for each sample)."""
  texts = [written(own, Question(messages)) for messages in asked]
  ids = [encoded(own, text) for text in texts]
  _check_lengths(own, ids, max_new_tokens)
  tokenizer = own.tokenizer
  if own.template is not None:
    tokenizer = tokenizer.ended_by(own.template.end)
  root = jax.random.key(seed)
  for part in parts_of(list(map(len, ids)), max(rows // len(samples), 1)):
    tokens, lengths = padded([ids[i] for i in part], tokenizer.pad_id)
    hashes = np.array([_hash(asked[i]) for i in part], np.uint32)
    rollout = generate(
      own.model,
      own.params,
      tokens,
      lengths,
      _keys(root, hashes, np.array(samples, np.uint32)),
      max_new_tokens=max_new_tokens,
      stop_ids=tokenizer.end_ids,
      pad_id=tokenizer.pad_id,
      draw=draw,
      samples=len(samples),
    )
    drawn, mask, finished = fetch(
      (rollout.sequences.tokens, rollout.sequences.mask, rollout.finished)
    )
    completions = []
    for row, live, ended in zip(drawn, mask, finished):
      said = row[live].tolist()
      kept = said[:-1] if said and said[-1] in tokenizer.end_ids else said
      completions.append(
        Completion(tokenizer.decode(kept), 0, len(said), not bool(ended))
      )
    if labels:
      repeated = [texts[i] for i in part for _ in samples]
      logps = label_logps(own, repeated, [c.text for c in completions], labels)
      completions = [
        c._replace(label_logps=known) for c, known in zip(completions, logps)
      ]
    for at, i in enumerate(dict.fromkeys(part)):
      first = at * len(samples)
      some = completions[first : first + len(samples)]
      # The prompt is read once for all of its samples.
      counted = some[0]._replace(prompt_tokens=len(ids[i]))
      yield asked[i], [counted, *some[1:]]


def label_logps(
  own: Loaded,
  prompts: Sequence[str],
  texts: Sequence[str],
  labels: Sequence[str],
) -> list[dict[str, float]]:
  """Log-probs of labels where each text has its verdict.

  Args:
    own: the model.
    prompts: B texts that the model has continued.
    texts: B completions.
    labels: F labels.

  Returns:
    For each text, label -> log-prob of the label after what stands before the
    last label in the text; {} for a text without any label.
  """
  word = "|".join(map(re.escape, labels))
  found = [
    list(re.finditer(rf"(?<!\w)(?:{word})(?!\w)", text)) for text in texts
  ]
  before = [
    prompt + (text[: places[-1].start()] if places else "")
    for prompt, text, places in zip(prompts, texts, found, strict=True)
  ]
  logps = scored_after(own, before, [list(labels)] * len(before))
  return [
    # Labels may have different numbers of tokens, with NaN after the shorter.
    dict(zip(labels, map(float, np.nansum(row, -1)))) if places else {}
    for row, places in zip(logps, found)
  ]


def scored_after(
  own: Loaded, before: Sequence[str], said: Sequence[Sequence[str]]
) -> list[np.ndarray]:
  """Log-probs of the tokens of F continuations of each text.

  Args:
    own: the model.
    before: B texts, from their beginnings.
    said: B lists of F continuations.

  Returns:
    B arrays [F, C] float64, nats; NaN beyond the tokens of a continuation.
  """
  ids = [encoded(own, text) for text in before]
  after = [
    [own.tokenizer.encode_after(text, one)[0] for one in some]
    for text, some in zip(before, said, strict=True)
  ]
  pad = own.tokenizer.pad_id
  tokens, lengths = padded(ids, pad)
  count = len(said[0])
  flat = [np.array(one, np.int32) for some in after for one in some]
  continuations, sizes = padded(flat, pad)
  shape = (len(before), count, continuations.shape[1])
  logps = continuation_logprobs(
    own.model,
    own.params,
    tokens,
    lengths,
    continuations.reshape(shape),
    sizes.reshape(shape[:2]),
  )
  live = np.arange(shape[2]) < sizes.reshape(*shape[:2], 1)
  return list(np.where(live, fetch(logps).astype(np.float64), np.nan))


def rendered(
  template: data.ChatTemplate, chat: Sequence[Mapping[str, Any]], prompt: bool
) -> str:
  """The text that a chat template writes; its refusal is a UserError."""
  return refused(template.render, chat, prompt)


def refused(write: Callable[..., Any], *arguments: Any) -> Any:
  """Calls a method of a chat template; its refusal becomes a UserError."""
  try:
    return write(*arguments)
  except BadRow as bad:
    raise UserError(
      bad.args[1],
      where="template",
      remedy="Write a judge's prompt whose roles the model's template knows; a"
      " template without a system role takes one [user] message.",
    ) from None


def _check_lengths(
  own: Loaded, ids: Sequence[np.ndarray], max_new_tokens: int
) -> None:
  longest = max(map(len, ids))
  if own.positions and longest + max_new_tokens > own.positions:
    raise UserError(
      f"a question has {longest} tokens, and with {max_new_tokens} more it is"
      f" beyond the model's {own.positions} positions.",
      where="max_new_tokens",
      remedy="Give a smaller max_new_tokens, shorter responses, or another"
      " model.",
    )


def _cost(completions: Sequence[Completion]) -> dict[str, float]:
  return {
    "calls": len(completions),
    "prompt tokens": sum(c.prompt_tokens for c in completions),
    "completion tokens": sum(c.tokens for c in completions),
  }


def _hash(messages: Any) -> int:
  digest = hashlib.sha256(repr(messages).encode()).digest()
  return int.from_bytes(digest[:4], "big")


@jax.jit
def _keys(root, hashes, samples):
  """[B * K] keys of rows, from the questions' hashes and the samples."""
  fold = jax.random.fold_in
  of_question = lambda h: jax.vmap(lambda k: fold(fold(root, h), k))(samples)
  return jax.vmap(of_question)(hashes).reshape(-1)

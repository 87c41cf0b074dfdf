"""Scores of given responses: log-probs, entropies and implicit rewards.

Rows go to a parquet file as they are computed, and the vocabulary is streamed:
memory doesn't grow with the data's length or with the vocabulary.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.data.check import guess, holds_messages
from jalign.errors import UserError
from jalign.evaluation.finite import check_finite
from jalign.experiment.inspect import (
  Loaded,
  check_same_tokenizer,
  load_policy,
)
from jalign.experiment.kept import template_for
from jalign.experiment.prepare import place
from jalign.experiment.score_table import check_out, table
from jalign.logprobs import token_logprobs, token_statistics
from jalign.models import hf
from jalign.sharding import make_mesh
from jalign.training.progress import Progress
from jalign.types import Model, Params, Sequences

_SHORTEST = 32  # tokens of the shortest bucket; others double
_CHUNK = 1024  # responses that are sorted by length together


class Scored(NamedTuple):
  """What was scored, in sums.

  Attributes:
    responses: how many.
    tokens: their scored tokens.
    logprob: sum of their log-probs, nats.
    entropy: sum over the tokens, nats.
    margins: chosen less rejected log-prob of each pair.
    reward_margins: the same of implicit rewards.
  """

  responses: int
  tokens: int
  logprob: float
  entropy: float
  margins: list[float]
  reward_margins: list[float]


def score(
  model: str,
  path: str,
  out: pathlib.Path,
  *,
  reference: str = "",
  source: str = "",
  template: str = "",
  beta: float = 0.1,
  batch_size: int = 8,
) -> list[str]:
  """Scores every response of a file under a model.

  Args:
    model: a run or a checkpoint.
    path: data that `jalign data check` reads; nothing of it is cut.
    out: parquet file, written whole or not at all. A row a response: its
      tokens, their log-probs and the entropies of the distributions that they
      came from (nats), their sum, mean and mean.
    reference: another one of the same tokenizer: its log-probs, and beta times
      the difference as the implicit reward (Rafailov et al. 2023,
      arXiv:2305.18290, equation 5, up to a constant of the prompt).
    source: name of a reader; "" guesses it.
    template: of conversations; "" takes the model's own.
    beta: of the implicit reward.
    batch_size: responses at a time.

  Returns:
    Lines that say what was done.

  Raises:
    UserError: something can't be read or written, the data has no responses,
      or the tokenizers differ.
  """
  if batch_size < 1:
    raise UserError("must be at least 1.", where="--batch_size")
  check_out(out, path)
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    policy = load_policy(model, mesh)
    other = load_policy(reference, mesh) if reference else None
    if other is not None:
      check_same_tokenizer(policy.tokenizer, other.tokenizer, reference)
    encoded, lines = _read(path, source, template, model, policy.tokenizer)
    longest = max(map(data.sequence_length, encoded))
    for which in filter(None, (policy, other)):
      most = which.config.learned_positions
      if most and longest > most:
        raise UserError(
          f"a sequence has {longest} tokens, and the model positions for"
          f" {most}.",
          where=path,
        )
    sums = Scored(0, 0, 0.0, 0.0, [], [])
    with table(out, bool(reference)) as write:
      progress = Progress("scores", "response", len(encoded), leave=True)
      for rows in _rows(encoded, policy, other, beta, batch_size, mesh):
        write(rows)
        sums = _added(sums, rows)
        progress.update(len(rows))
      progress.close()
  return [*lines, *_said(sums, reference), f"-> {out}"]


def _read(path, source, template, model, tokenizer):
  """(sequences, lines that say what was read)."""
  name = source or guess(path)
  options: dict[str, Any] = {}
  if name not in data.WITHOUT_TEMPLATE and holds_messages(path):
    options["template"] = _template(template, model)
  records, report = data.read(name, path, **options)
  limits = data.Limits(max_tokens=2**30)
  lines = [report.summary()]
  if isinstance(records[0], data.ConversationRecord):
    found = _template(template, model)
    return data.encode_conversations(records, tokenizer, found, limits)[
      0
    ], lines
  responses = [
    data.DemonstrationRecord(
      record.prompt,
      text,
      f"{record.source}\t{name}",
      record.group,
      end=record.end,
    )
    for record in records
    for name, text in _responses(record)
  ]
  if not responses:
    raise UserError("its rows have no response to score.", where=path)
  return data.encode_demonstrations(responses, tokenizer, limits)[0], lines


def _responses(record) -> list[tuple[str, str]]:
  """Name and text of each response of a record."""
  if isinstance(record, data.PreferenceRecord):
    return [("chosen", record.chosen), ("rejected", record.rejected)]
  if isinstance(record, data.RankedRecord):
    return [(f"response {i}", x) for i, x in enumerate(record.responses, 1)]
  if isinstance(record, data.PromptRecord):
    return []
  return [("response", record.response)]


def _template(given: str, model: str) -> data.ChatTemplate:
  """The template that is asked for, or the model's own."""
  folder = hf.resolve(model)
  found = template_for(given, folder)
  if found is None:
    raise UserError(
      "the data has messages, and the model has no chat template.",
      where=str(folder),
      remedy="Give --template=plain, a tokenizer's folder or a file of Jinja.",
    )
  return found


def _measure(
  model: Model, other: Model | None
) -> Callable[[Params, Params | None, Sequences], dict[str, jax.Array]]:
  """`(params, ref_params, sequences) -> {name: [B, T - 1]}`, jitted."""

  def logps(which, params, sequences):
    hidden = which.forward(params, sequences.tokens)[:, :-1]
    return hidden, which.head(params), sequences.tokens[:, 1:]

  @jax.jit
  def measure(params, ref_params, sequences):
    mask = sequences.mask[:, 1:]
    found = token_statistics(
      *logps(model, params, sequences), want=("entropy",), mask=mask
    )
    out = {"logps": found.logps, "entropy": found.entropy}
    if other is not None:
      out["ref"] = token_logprobs(
        *logps(other, ref_params, sequences), mask=mask
      )
    return out

  return measure


def _rows(
  encoded: Sequence[data.EncodedSequence],
  policy: Loaded,
  other: Loaded | None,
  beta: float,
  batch_size: int,
  mesh: jax.sharding.Mesh,
) -> Iterator[list[dict[str, Any]]]:
  """Scored rows in the order of the data, some at a time."""
  measure = _measure(policy.model, other.model if other else None)
  collate = functools.partial(
    data.collate_sequences, pad_id=policy.tokenizer.pad_id
  )
  lengths = [data.sequence_length(x) for x in encoded]
  buckets = [_SHORTEST]
  while buckets[-1] < max(lengths):
    buckets.append(2 * buckets[-1])
  for start in range(0, len(encoded), _CHUNK):
    chunk = encoded[start : start + _CHUNK]
    own = lengths[start : start + _CHUNK]
    rows: list[Any] = [None] * len(chunk)
    for batch in data.plan(
      own, batch_size, tuple(buckets), seed=0, epoch=0, shuffle=False
    ):
      some = [chunk[i] for i in batch.examples]
      record = collate(some, batch_size, batch.length)
      found = jax.device_get(
        measure(
          policy.params,
          other.params if other else None,
          place(record, mesh).sequences,
        )
      )
      for at, i in enumerate(batch.examples):
        rows[i] = _row(chunk[i], {k: x[at] for k, x in found.items()}, beta)
    for key in ("logprob", "ref_logprob"):
      values = [row[key] for row in rows if key in row]
      check_finite(values, [row["source"] for row in rows], key)
    yield rows


def _row(sequence, found, beta):
  """A row of the table, out of arrays of T - 1 tokens."""
  at = np.flatnonzero(sequence.mask)
  logps, entropies = found["logps"][at - 1], found["entropy"][at - 1]
  total = float(np.sum(logps, dtype=np.float64))
  source, _, response = sequence.source.partition("\t")
  row = {
    "source": source,
    "response": response or "conversation",
    "prompt_tokens": int(at[0]),
    "response_tokens": len(at),
    "logprob": total,
    "logprob_per_token": total / len(at),
    "entropy": float(np.mean(entropies, dtype=np.float64)),
    "tokens": sequence.ids[at],
    "token_logprobs": logps,
    "token_entropies": entropies,
  }
  if "ref" in found:
    ref = found["ref"][at - 1]
    row["ref_token_logprobs"] = ref
    row["ref_logprob"] = float(np.sum(ref, dtype=np.float64))
    row["implicit_reward"] = beta * (total - row["ref_logprob"])
  return row


def _added(sums: Scored, rows: list[dict[str, Any]]) -> Scored:
  margins, rewards = list(sums.margins), list(sums.reward_margins)
  for a, b in zip(rows[:-1], rows[1:]):
    if (a["response"], b["response"]) == ("chosen", "rejected"):
      margins.append(a["logprob"] - b["logprob"])
      if "implicit_reward" in a:
        rewards.append(a["implicit_reward"] - b["implicit_reward"])
  return Scored(
    sums.responses + len(rows),
    sums.tokens + sum(row["response_tokens"] for row in rows),
    sums.logprob + sum(row["logprob"] for row in rows),
    sums.entropy + sum(r["entropy"] * r["response_tokens"] for r in rows),
    margins,
    rewards,
  )


def _said(sums: Scored, reference: str) -> Iterator[str]:
  tokens = sums.tokens
  yield (
    f"{sums.responses} responses, {tokens} tokens:"
    f" {sums.logprob / tokens:.4f} nats a token,"
    f" entropy {sums.entropy / tokens:.4f} nats"
  )
  share = lambda x: 100 * float(np.mean(0.5 + 0.5 * np.sign(x)))
  if sums.margins:
    yield f"chosen likelier than rejected: {share(sums.margins):.1f} %"
  if sums.reward_margins:
    yield (
      f"implicit reward over {reference} higher for chosen:"
      f" {share(sums.reward_margins):.1f} %"
    )

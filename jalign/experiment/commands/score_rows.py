"""Scores responses by a policy: log-probs and entropies."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.evaluation.finite import check_finite
from jalign.experiment.commands.inspect import Loaded
from jalign.experiment.commands.score_data import Response
from jalign.logprobs import token_logprobs, token_statistics
from jalign.sharding import fetch, place
from jalign.types import Sequences

_SHORTEST = 32  # tokens of the shortest bucket; each other bucket doubles
_CHUNK = 1024  # number of responses that are sorted by length together

Row = dict[str, Any]


class Scorer(NamedTuple):
  """How rows are computed.

  Attributes:
    measure: `sequences -> {name: [B, ...]}`, jitted.
    row: `(response, {name: [...]}) -> columns`.
    pad_id: id that fills rows.
  """

  measure: Callable[[Sequences], dict[str, jax.Array]]
  row: Callable[[Response, dict[str, np.ndarray]], Row]
  pad_id: int


def by_policy(policy: Loaded, other: Loaded | None, beta: float) -> Scorer:
  """Log-probs and entropies under a policy, and log-probs under a reference.

  Args:
    policy: the model that scores.
    other: the reference, or None.
    beta: factor of the implicit reward over the reference.
  """

  def logps(which, params, sequences):
    hidden = which.model.forward(params, sequences.tokens)[:, :-1]
    return hidden, which.model.head(params), sequences.tokens[:, 1:]

  @jax.jit
  def measure(params, ref_params, sequences):
    mask = sequences.mask[:, 1:]
    statistics = token_statistics(
      *logps(policy, params, sequences), want=("entropy",), mask=mask
    )
    out = {"logps": statistics.logps, "entropy": statistics.entropy}
    if other is not None:
      out["ref"] = token_logprobs(
        *logps(other, ref_params, sequences), mask=mask
      )
    return out

  both = policy.params, other.params if other else None
  return Scorer(
    lambda sequences: measure(*both, sequences),
    functools.partial(_policy_row, beta=beta),
    policy.tokenizer.pad_id,
  )


def scored_rows(
  responses: Sequence[Response],
  scorer: Scorer,
  batch_size: int,
  mesh: jax.sharding.Mesh,
) -> Iterator[list[Row]]:
  """Yields rows in the order of the data, some at a time.

  Raises:
    UserError: a number isn't finite; the error names a response.
  """
  collate = functools.partial(data.collate_sequences, pad_id=scorer.pad_id)
  lengths = [data.sequence_length(response.encoded) for response in responses]
  buckets = [_SHORTEST]
  while buckets[-1] < max(lengths):
    buckets.append(2 * buckets[-1])
  for start in range(0, len(responses), _CHUNK):
    chunk = responses[start : start + _CHUNK]
    own = lengths[start : start + _CHUNK]
    rows: list[Any] = [None] * len(chunk)
    for batch in data.plan(
      own, batch_size, tuple(buckets), seed=0, epoch=0, shuffle=False
    ):
      some = [chunk[i].encoded for i in batch.examples]
      record = collate(some, batch_size, batch.length)
      measured = fetch(scorer.measure(place(record, mesh).sequences))
      for at, i in enumerate(batch.examples):
        response = chunk[i]
        rows[i] = described(response) | scorer.row(
          response, {k: x[at] for k, x in measured.items()}
        )
    sources = [row["source"] for row in rows]
    for name in ("logprob", "ref_logprob"):
      if name in rows[0]:
        check_finite([row[name] for row in rows], sources)
    yield rows


def described(response: Response) -> Row:
  """The columns that don't depend on a model."""
  scored = _scored(response)
  return {
    "source": response.source,
    "name": response.name,
    "prompt": response.prompt,
    "response": response.response,
    "prompt_tokens": int(scored[0]),
    "response_tokens": len(scored),
    "tokens": response.encoded.ids[scored],
  }


def _scored(response: Response) -> np.ndarray:
  return np.flatnonzero(response.encoded.mask)


def _policy_row(response: Response, measured, *, beta: float) -> Row:
  """Columns from arrays of T - 1 tokens."""
  at = _scored(response)
  logps, entropies = measured["logps"][at - 1], measured["entropy"][at - 1]
  total = float(np.sum(logps, dtype=np.float64))
  row = {
    "logprob": total,
    "logprob_per_token": total / len(at),
    "entropy": float(np.mean(entropies, dtype=np.float64)),
    "token_logprobs": logps,
    "token_entropies": entropies,
  }
  if "ref" in measured:
    ref = measured["ref"][at - 1]
    row["ref_token_logprobs"] = ref
    row["ref_logprob"] = float(np.sum(ref, dtype=np.float64))
    row["implicit_reward"] = beta * (total - row["ref_logprob"])
  return row

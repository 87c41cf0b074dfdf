"""Measures a policy's log-probs on held-out preference pairs."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.evaluation.finite import check_finite
from jalign.evaluation.win_rate import WinRate, win_rate
from jalign.logprobs import sequence_logprobs
from jalign.sharding import fetch
from jalign.types import Model, Params


class PairScores(NamedTuple):
  """Summed log-probs of N held-out pairs, in the order of the batches.

  Attributes:
    chosen: [N] log-probs of chosen responses, nats.
    rejected: [N] log-probs of rejected responses, nats.
    chosen_tokens: [N] scored tokens of chosen responses.
    rejected_tokens: [N] scored tokens of rejected responses.
    sources: N places that the pairs come from.
  """

  chosen: np.ndarray
  rejected: np.ndarray
  chosen_tokens: np.ndarray
  rejected_tokens: np.ndarray
  sources: tuple[str, ...]


def make_scorer(model: Model) -> Callable[..., PairScores]:
  """Makes `(params, batches, place) -> PairScores`, compiled once per shape.

  `batches` yields records with `.data` (a PairBatch) and `.sources`; `place`
  puts a batch on the devices. The function raises UserError if a log-prob isn't
  finite.
  """
  logps = jax.jit(lambda p, s: sequence_logprobs(model, p, s))

  def score(
    params: Params, batches: Iterable[Any], place: Callable[[Any], Any]
  ) -> PairScores:
    rows, lengths, sources = [], [], []
    for batch in batches:
      live = np.flatnonzero(np.asarray(batch.data.weights) > 0)
      out = fetch(logps(params, place(batch.data).sequences))
      mask = np.asarray(batch.data.sequences.mask)
      rows.append(out.reshape(-1, 2)[live])
      lengths.append(mask.sum(-1).reshape(-1, 2)[live])
      sources += list(batch.sources)
    x, n = np.concatenate(rows).astype(np.float64), np.concatenate(lengths)
    check_finite(x, sources)
    return PairScores(x[:, 0], x[:, 1], n[:, 0], n[:, 1], tuple(sources))

  return score


def ranking_accuracy(scores: PairScores, groups: Any = None) -> WinRate:
  """Share of the pairs whose chosen response is likelier; ties count 1/2.

  Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
  Rankings", arXiv:2405.19534, definition 3.1.

  Args:
    scores: the policy's.
    groups: [N] cluster of each pair, for the interval; by default each pair is
      its own.
  """
  return _share(scores.chosen - scores.rejected, groups)


def ranking_accuracy_per_token(
  scores: PairScores, groups: Any = None
) -> WinRate:
  """`ranking_accuracy` of log-probs per token."""
  per_token = lambda x, n: x / np.maximum(n, 1)
  return _share(
    per_token(scores.chosen, scores.chosen_tokens)
    - per_token(scores.rejected, scores.rejected_tokens),
    groups,
  )


def reward_accuracy(
  scores: PairScores, reference: PairScores, groups: Any = None
) -> WinRate:
  """Share of the pairs whose chosen response gained more over the reference.

  This is the accuracy of DPO's implicit reward (Rafailov et al. 2023,
  arXiv:2305.18290, section 4); ties count 1/2.

  Args:
    scores: the policy's.
    reference: the reference's, on the same pairs in the same order.
    groups: [N] cluster of each pair, for the interval; by default each pair is
      its own.

  Raises:
    ValueError: the two scored different pairs.
  """
  if scores.sources != reference.sources:
    raise ValueError("the policy and the reference scored different pairs")
  margin = (scores.chosen - reference.chosen) - (
    scores.rejected - reference.rejected
  )
  return _share(margin, groups)


def _share(margin, groups):
  return win_rate(0.5 + 0.5 * np.sign(margin), groups)

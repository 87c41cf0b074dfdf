"""Online alignment: sample two responses, ask which is better, take a step.

An algorithm is a row of `ALGORITHMS`: who samples, what becomes of the two
responses and the preference, which loss. The update is the offline one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import PromptBatch
from jalign.decode import MixtureParams, Sampler, generate, geometric, sampler
from jalign.errors import UserError
from jalign.feedback import (
  Judge,
  assess,
  compare,
  make_answers,
  reward_statistics,
)
from jalign.feedback.answers import Row
from jalign.training.misuse import check_record, check_reference
from jalign.types import (
  Array,
  Model,
  PairBatch,
  Params,
  Rollout,
  SequenceBatch,
  Sequences,
)

Decode = Callable[[Any], str]  # token ids -> text


class Algorithm(NamedTuple):
  """A row of the table.

  Attributes:
    loss: name in `losses.CATALOGUE`.
    mixture: for each of the two responses, whether it is drawn from the
      geometric mixture with the reference, rather than from the policy.
    arrange: `(sequences of 2P rows, [P] P(first > second), [P] weights, key) ->
      batch` for the loss.
    paper: where it comes from.
  """

  loss: str
  mixture: tuple[bool, bool]
  arrange: Callable[[Sequences, np.ndarray, np.ndarray, Array], Any]
  paper: str


def drawn_pairs(
  sequences: Sequences, preference: np.ndarray, weights: np.ndarray, key: Array
) -> PairBatch:
  """Pairs that one Bernoulli draw of the preference orders."""
  uniforms = np.asarray(jax.random.uniform(key, preference.shape))
  sequences = _ordered(sequences, uniforms < preference)
  return PairBatch(sequences, jnp.asarray(weights))


def soft_pairs(
  sequences: Sequences, preference: np.ndarray, weights: np.ndarray, key: Array
) -> PairBatch:
  """Pairs with the preference itself for a label.

  The likelier response comes first, so that "chosen" in the metrics means it;
  a loss of soft labels doesn't change under the swap.
  """
  del key
  soft = jnp.asarray(np.maximum(preference, 1.0 - preference))
  sequences = _ordered(sequences, preference >= 0.5)
  return PairBatch(sequences, jnp.asarray(weights), preference=soft)


def first_responses(
  sequences: Sequences, preference: np.ndarray, weights: np.ndarray, key: Array
) -> SequenceBatch:
  """The first of the two responses, with how often it beats the second."""
  del key
  return SequenceBatch(
    jax.tree.map(lambda x: x[0::2], sequences),
    jnp.asarray(weights),
    preference=jnp.asarray(preference),
  )


def _ordered(sequences: Sequences, first_wins: np.ndarray) -> Sequences:
  """2P rows with the winner of each pair first."""
  if first_wins.all():
    return sequences
  rows = np.arange(2 * len(first_wins)).reshape(-1, 2)
  order = np.where(first_wins[:, None], rows, rows[:, ::-1]).reshape(-1)
  return jax.tree.map(lambda x: x[order], sequences)


_POLICY, _MIXTURE = (False, False), (True, True)
_AGAINST_MIXTURE = (False, True)
_DPO, _IPO, _NASH = "arXiv:2402.04792", "arXiv:2403.08635", "arXiv:2312.00886"
ALGORITHMS = {
  "online_dpo": Algorithm("dpo", _POLICY, drawn_pairs, _DPO),
  "online_ipo": Algorithm("ipo_soft", _POLICY, soft_pairs, _IPO),
  "ipo_md": Algorithm("ipo_soft", _MIXTURE, soft_pairs, _IPO),
  "nash_md": Algorithm("nash_md", _AGAINST_MIXTURE, first_responses, _NASH),
  "nash_md_token_kl": Algorithm(
    "nash_md_token_kl", _AGAINST_MIXTURE, first_responses, _NASH
  ),
}


class Sampled(NamedTuple):
  """One online batch.

  Attributes:
    batch: of P examples, as the algorithm's loss takes them.
    rollout: 2P rows, the two responses of a prompt adjacent.
    values: metrics of the sampling: lengths in tokens, shares, and
      `jalign.feedback.reward_statistics` under a judge of a reward or a cost.
  """

  batch: Any
  rollout: Rollout
  values: dict[str, float]


def make_sampling(
  algorithm: Algorithm,
  model: Model,
  judge: Judge,
  decode: Decode,
  *,
  max_new_tokens: int,
  stop_ids: tuple[int, ...],
  pad_id: int = 0,
  mix_ref: float = 0.125,
  draw: Sampler | None = None,
  slots: int | None = None,
) -> Callable[..., Sampled]:
  """Makes the step from prompts to an annotated batch.

  Every loss here is on the policy's own samples: keep the sampler at
  temperature 1 without truncation unless you mean to be off-policy.

  Args:
    algorithm: a row of `ALGORITHMS`.
    model: functions of policy and reference.
    judge: of the responses; with a reward or a preference.
    decode: token ids of a response, its stop token dropped -> text.
    max_new_tokens: of a response at most, the stop token included.
    stop_ids: tokens that end a response.
    pad_id: fills columns after a response.
    mix_ref: weight of the reference in the mixture, where there is one;
      Calandriello et al. 2024 select 0.125, as do Munos et al. 2023. At 0
      Nash-MD is self-play, at 1 it goes for the best response.
    draw: the sampler, temperature 1 by default.
    slots: responses decoded at a time, see `jalign.decode.generate`.

  Returns:
    `(params, ref_params, prompts, key, rows=None) -> Sampled`, with P prompts
    as a jalign.data.PromptBatch and P rows of the data that the judge sees.
  """
  mixed = any(algorithm.mixture)
  policy = geometric(model, model) if mixed else model
  draw = draw or sampler()

  def sample(
    params: Params,
    ref_params: Params,
    prompts: PromptBatch,
    key: Array,
    rows: Sequence[Row] | None = None,
  ) -> Sampled:
    check_record(prompts)
    texts = prompts.texts
    if mixed:
      if ref_params is None:
        raise UserError(
          "the algorithm samples a mixture with the reference, which isn't"
          " given.",
          where="sample",
          remedy="Pass ref_params: sample(params, ref_params, prompts, key).",
        )
      check_reference(params, ref_params)
      share = jnp.tile(jnp.float32(algorithm.mixture) * mix_ref, len(texts))
      params = MixtureParams(params, ref_params, share)
    sample_key, label_key = jax.random.split(key)
    rollout = generate(
      policy,
      params,
      jnp.asarray(prompts.tokens),
      jnp.asarray(prompts.lengths),
      jax.random.split(sample_key, 2 * len(texts)),
      max_new_tokens=max_new_tokens,
      stop_ids=stop_ids,
      pad_id=pad_id,
      draw=draw,
      samples=2,
      slots=slots,
    )
    responses = response_texts(rollout, decode, stop_ids)
    a, b = responses[0::2], responses[1::2]
    # First all of one side, then all of the other: once a response.
    sides = np.arange(2 * len(texts)).reshape(-1, 2).T
    answers = make_answers(
      [*texts, *texts],
      [*a, *b],
      None if rows is None else [*rows, *rows],
      jax.tree.map(lambda x: x[sides.reshape(-1)], rollout.sequences)
      if judge.reads_tokens
      else None,
    )
    assessed = assess(judge, answers)
    first = np.arange(len(texts))
    second = first + len(texts)
    preference = compare(judge, assessed.take(first), assessed.take(second))
    live = prompts.weights > 0
    twice = np.repeat(live, 2)
    counts = np.asarray(rollout.sequences.mask.sum(-1))
    values = {
      "response_tokens": float(np.mean(counts[twice])),
      "finished": float(np.mean(np.asarray(rollout.finished)[twice])),
      "preference_certainty": float(np.mean(np.abs(2 * preference - 1)[live])),
      "identical_pairs": float(
        np.mean([x == y for x, y, z in zip(a, b, live) if z])
      ),
    }
    counted = assessed.take(np.flatnonzero(np.tile(live, 2)))
    values |= reward_statistics(counted, np.tile(np.flatnonzero(live), 2))
    if algorithm.mixture == _AGAINST_MIXTURE:
      values["win_rate_over_mixture"] = float(np.mean(preference[live]))
    batch = algorithm.arrange(
      rollout.sequences, preference, prompts.weights, label_key
    )
    return Sampled(batch, rollout, values)

  return sample


def response_texts(
  rollout: Rollout, decode: Decode, stop_ids: tuple[int, ...]
) -> list[str]:
  """The sampled responses as texts, without their stop token."""
  tokens, mask = jax.device_get(
    (rollout.sequences.tokens, rollout.sequences.mask)
  )
  responses = []
  for row, live in zip(tokens, mask):
    ids = row[live].tolist()
    responses.append(decode(ids[:-1] if ids and ids[-1] in stop_ids else ids))
  return responses

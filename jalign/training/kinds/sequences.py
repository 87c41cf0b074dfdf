"""Single responses, as sums over responses or as single tokens."""

import jax.numpy as jnp

from jalign import data, losses
from jalign.errors import UserError
from jalign.training.kinds.kind import (
  Arrays,
  Kind,
  Reading,
  Sums,
  by_token,
  mean,
  optional,
)
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array, SequenceBatch

_SCORED = ("rewards", "values")  # arrays of responses from ranked lists
_ONLINE = ("preference", "greedy_rewards", "target_logps", "baselines")
# Arrays of tokens, and of their response, that only samples have.
_SAMPLED = (
  "preference",
  "old_token_logps",
  "anchor_token_logps",
  "advantages",
  "old_token_values",
  "returns",
)


def _arrays(
  outputs: Outputs, batch: SequenceBatch, names: tuple[str, ...]
) -> Arrays:
  arrays = {
    "logps": outputs.sums(),
    "lengths": counts_of(batch.sequences),
  }
  if outputs.needs_reference:
    arrays["ref_logps"] = outputs.ref_sums()
  return arrays | optional(batch, names, (*_SCORED, *_ONLINE))


def _observe(arrays: Arrays, weights: Array) -> Sums:
  of = lambda x: mean(x, weights)
  logps, count = of(arrays["logps"])
  tokens, _ = of(arrays["lengths"])
  metrics = {
    "nll_nats_per_token": (-logps, tokens),
    "response_tokens": (tokens, count),
  }
  if "ref_logps" in arrays:
    metrics["log_ratio_nats"] = of(arrays["logps"] - arrays["ref_logps"])
  return metrics


def _no_scores(records):
  """A check that refuses losses on scores, which such records don't have."""

  def check(title, names, examples) -> None:
    del examples
    scored = [name for name in names if name in _SCORED]
    if scored:
      raise UserError(
        f"{title} takes {', '.join(scored)}: scores of ranked lists, and the"
        f" data has {records}.",
        where="data",
        remedy="Choose a source of ranked lists.",
      )

  return check


def _check_rewards(title, names, examples) -> None:
  del examples
  if "rewards" not in names:
    raise UserError(
      f"{title} takes no rewards, and would imitate the worst responses of a"
      " list as much as the best.",
      where="data.convert",
      remedy="Set data.convert to 'best_demonstrations'.",
    )


_RECORDS = {
  "pairs": Reading(
    data.collate_chosen,
    data.chosen_length,
    lacks=_SCORED,
    chosen_alone=True,
    check=_no_scores("pairs"),
  ),
  "sequences": Reading(
    data.collate_sequences,
    data.sequence_length,
    lacks=_SCORED,
    check=_no_scores("sequences"),
  ),
  "lists": Reading(
    data.collate_sequences,
    data.sequence_length,
    data.lists_as_sequences,
    check=_check_rewards,
  ),
}
SEQUENCES = Kind(
  name="sequences",
  about="a response",
  gives={
    "logps": "B",
    "ref_logps": "B",
    "lengths": "B",
    "rewards": "B",
    "values": "B",
    **dict.fromkeys(_ONLINE, "B"),
  },
  arrays=_arrays,
  observe=_observe,
  counts={"tokens": lambda batch: counts_of(batch.sequences)},
  elsewhere={
    "aligned_logps": "BI",
    "aligned_lengths": "BI",
  },
  records=_RECORDS,
  online=_ONLINE,
  precomputed=("ref_logps",),
)


# --------------------------------------------------------------------- tokens


def _token_arrays(
  outputs: Outputs, batch: SequenceBatch, names: tuple[str, ...]
) -> Arrays:
  ids, mask = batch.sequences.tokens[:, 1:], batch.sequences.mask[:, 1:]
  arrays = {"mask": mask}
  if "candidate_logps" in names:
    logps, candidates = outputs.tokens_and_candidates()
    arrays["token_logps"] = logps
    arrays["candidate_logps"] = candidates
    arrays["candidate_mask"] = losses.previous_token_candidates(ids, mask)
  else:
    arrays["token_logps"] = outputs.tokens()
  if "repeats" in names:
    arrays["repeats"] = losses.repeated_ngrams(ids, mask)
  if outputs.needs_reference:
    arrays["ref_token_logps"] = outputs.ref_tokens()
  if "token_values" in names:
    arrays["token_values"] = outputs.token_values()
  arrays |= optional(batch, names, (*_SCORED, *_SAMPLED))
  if "advantages" in arrays:
    arrays["advantages"] = by_token(arrays["advantages"], mask)
  return arrays


def _observe_tokens(arrays: Arrays, weights: Array) -> Sums:
  summed = {
    "logps": jnp.sum(arrays["token_logps"], -1),
    "lengths": jnp.sum(arrays["mask"], -1),
  }
  if "ref_token_logps" in arrays:
    summed["ref_logps"] = jnp.sum(arrays["ref_token_logps"], -1)
  metrics = _observe(summed, weights)
  if "old_token_logps" in arrays:
    ratio = summed["logps"] - jnp.sum(arrays["old_token_logps"], -1)
    metrics["old_log_ratio_nats"] = mean(ratio, weights)
  if "repeats" in arrays:
    repeats = jnp.sum(arrays["repeats"] & arrays["mask"], -1)
    repeated, _ = mean(repeats, weights)
    metrics["repeated_share"] = (repeated, metrics["response_tokens"][0])
  return metrics


TOKENS = Kind(
  name="tokens",
  about="the tokens of a response",
  gives={
    "token_logps": "BT",
    "ref_token_logps": "BT",
    "old_token_logps": "BT",
    "anchor_token_logps": "BT",
    "candidate_logps": "BTC",
    "candidate_mask": "BTC bool",
    "repeats": "BT bool",
    "advantages": "BT",
    "token_values": "BT",
    "old_token_values": "BT",
    "returns": "BT",
    "rewards": "B",
    "values": "B",
    "preference": "B",
    "mask": "BT bool",
  },
  arrays=_token_arrays,
  observe=_observe_tokens,
  counts={"tokens": lambda batch: counts_of(batch.sequences)},
  elsewhere={
    "positive_token_logps": "BT",
    "negative_token_logps": "BT",
    "aligned": "B bool",
  },
  records=_RECORDS,
  online=(*_SAMPLED, "token_values"),
)

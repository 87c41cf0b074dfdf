"""The signature of a loss is its contract; this reads it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

# The positional names that a loss may use, by the kind of its batch, and what
# they are: axes, and "bool" where it isn't float. Letters as in jalign.types,
# and I: one response under each of I other models; C: candidate tokens; Z: an
# embedding; 2: the two segments of a pair. A new kind of batch is a new row,
# here and, if a model's outputs make it, in jalign.training.objective.
VOCABULARY: dict[str, dict[str, str]] = {
  "pairs": {
    "chosen_logps": "B",
    "rejected_logps": "B",
    "ref_chosen_logps": "B",
    "ref_rejected_logps": "B",
    "chosen_lengths": "B",
    "rejected_lengths": "B",
    "chosen_scores": "B",
    "rejected_scores": "B",
    "preference": "B",
    # Margin rewards of M other objectives.
    "chosen_margin_scores": "BM",
    "rejected_margin_scores": "BM",
    # Sums over the first min(|y_w|, |y_l|) tokens of each.
    "chosen_shared_logps": "B",
    "rejected_shared_logps": "B",
    "ref_chosen_shared_logps": "B",
    "ref_rejected_shared_logps": "B",
    # Sums of log sum_v pi(v)^2 over the response.
    "chosen_collision_logps": "B",
    "rejected_collision_logps": "B",
    # Under the policy that drew the responses.
    "old_chosen_logps": "B",
    "old_rejected_logps": "B",
    # Responses beside the pair.
    "gold_logps": "B",
    "rationale_logps": "B",
    "explore_logps": "B",
    "ref_explore_logps": "B",
    # False for a pair that only fills the batch; coupled losses take it.
    "valid": "B bool",
  },
  "lists": {
    "logps": "BK",
    "ref_logps": "BK",
    "lengths": "BK",
    "scores": "BK",
    "valid": "BK bool",
  },
  "unpaired": {
    "logps": "B",
    "ref_logps": "B",
    "lengths": "B",
    "desirable": "B bool",
    "mismatched_logps": "B",
    "ref_mismatched_logps": "B",
    "desirable_rate": "B",
    "valid": "B bool",
  },
  "sequences": {
    "logps": "B",
    "ref_logps": "B",
    "lengths": "B",
    "rewards": "B",
    "values": "B",
    "greedy_rewards": "B",
    "target_logps": "B",
    "aligned_logps": "BI",
    "aligned_lengths": "BI",
  },
  "tokens": {
    "token_logps": "BT",
    "ref_token_logps": "BT",
    "old_token_logps": "BT",
    "positive_token_logps": "BT",
    "negative_token_logps": "BT",
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
    "aligned": "B bool",
    "mask": "BT bool",
  },
  "rollouts": {
    "token_logps": "BKT",
    "old_token_logps": "BKT",
    "ref_token_logps": "BKT",
    "mask": "BKT bool",
    "rewards": "BK",
    "valid": "BK bool",
  },
  "segments": {
    "step_logps": "B2T",
    "ref_step_logps": "B2T",
    "step_rewards": "B2T",
    "step_advantages": "B2T",
    "preference": "B",
    "mask": "B2T bool",
  },
  "ranked_segments": {
    "step_logps": "BKT",
    "ref_step_logps": "BKT",
    "scores": "BK",
    "valid": "BK bool",
    "mask": "BKT bool",
  },
  "scores": {
    "chosen_scores": "B",
    "rejected_scores": "B",
    "margin": "B",
    "preference": "B",
    "logits": "B",
    "swapped_logits": "B",
    "first_embeddings": "BZ",
    "second_embeddings": "BZ",
    "harmful_costs": "B",
    "harmless_costs": "B",
    "harmful_unsafe": "B bool",
    "harmless_unsafe": "B bool",
    # A reward model's scores of a ranked list; rank 1 is the best.
    "scores": "BK",
    "ranks": "BK",
    "valid": "BK bool",
  },
  "distributions": {
    "student_logits": "BTV",
    "dpo_logits": "BTV",
    "reverse_dpo_logits": "BTV",
    "ref_logits": "BTV",
    "mask": "BT bool",
  },
  "errors": {
    "chosen_errors": "B",
    "rejected_errors": "B",
    "ref_chosen_errors": "B",
    "ref_rejected_errors": "B",
  },
}


def array_parameters(loss: Callable[..., Any]) -> tuple[str, ...]:
  """Names of the positional parameters, in order; bound ones are gone.

  A parameter with a default is no array: a loss needs all of its arrays.
  """
  return tuple(
    p.name
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    and p.default is inspect.Parameter.empty
  )


def hyperparameters(loss: Callable[..., Any]) -> dict[str, Any]:
  """Keyword-only parameters and their defaults, or what a partial bound."""
  return {
    p.name: p.default
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
  }


def name_of(loss: Callable[..., Any]) -> str:
  """Name of a loss, through functools.partial."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  return getattr(loss, "__name__", repr(loss))


def formula_of(loss: Callable[..., Any]) -> str:
  """The formula in a loss's docstring: its second paragraph, in one line."""
  while isinstance(loss, functools.partial):
    loss = loss.func
  paragraphs = (inspect.getdoc(loss) or "").split("\n\n")
  return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""

"""Reward models that write before they score: critiques and rewrites."""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  as_floats,
  check_range,
  floats_with_axes,
  per_token,
  same_floats,
  where_scored,
)
from jalign.types import Array


def critique_reward(
  chosen_scores: Array,
  rejected_scores: Array,
  chosen_critique_logps: Array,
  rejected_critique_logps: Array,
  chosen_critique_lengths: Array,
  rejected_critique_lengths: Array,
  *,
  ranking: float = 1.0,
) -> Array:
  """Critique-based reward model: likelihood of critiques plus Bradley-Terry.

  l = -(log pi(c_w) + log pi(c_l)) / (|c_w| + |c_l|)
      - ranking log sigmoid(s_w - s_l),
  c = critique of a response,  s = score after the prompt, response and critique

  The scores are read after the given critiques in training, and after the
  model's own critiques in use: report both, because the gap between them is the
  price of a wrong critique. Pairs without critiques, of length 0, give
  Bradley-Terry alone. The mean over both critiques' tokens and the weight are
  our parametrisation of the sum of the two losses.

  Zhang et al. 2025, "MM-RLHF: The Next Step Forward in Multimodal LLM
  Alignment", arXiv:2502.10391.

  Args:
    chosen_scores: [B] scores of the preferred responses.
    rejected_scores: [B] the same for the dispreferred responses.
    chosen_critique_logps: [B] summed log-probs (nats) of the preferred
      responses' critiques, given prompt and response.
    rejected_critique_logps: [B] the same for the dispreferred responses.
    chosen_critique_lengths: [B] numbers of tokens of the preferred responses'
      critiques.
    rejected_critique_lengths: [B] the same for the dispreferred responses.
    ranking: weight of Bradley-Terry, >= 0; 0 trains a critic alone.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("ranking", ranking, 0, ends="[)")
  chosen, rejected, chosen_logps, rejected_logps, *lengths = same_floats(
    chosen_scores,
    rejected_scores,
    chosen_critique_logps,
    rejected_critique_logps,
    chosen_critique_lengths,
    rejected_critique_lengths,
  )
  likelihood = per_token(chosen_logps + rejected_logps, lengths[0] + lengths[1])
  return ranking * jax.nn.softplus(rejected - chosen) - likelihood


def divergence_scores(tokens: Array, emitted: Array, mask: Array) -> Array:
  """Rewards of tokens: +1 where a rewriting model agrees, -1 where it doesn't.

  A seq2seq reward model rewrites a response y into a better response. A token
  of y scores +1 / |y| if the model, given the true tokens before it, would emit
  it too, and -1 / |y| if not. With greedy decoding the tokens before the first
  difference are those of the rewrite, so that one pass over y, whose argmax at
  each position is `emitted`, is enough.

  Zhou et al. 2024, "Sequence to Sequence Reward Modeling: Improving RLHF by
  Language Feedback", arXiv:2409.00162 (the rule). The values +1 and -1 over the
  length are our parametrisation.

  Args:
    tokens: [B, T] the response's tokens.
    emitted: [B, T] the model's most probable token at each position, given the
      response's tokens before it.
    mask: [B, T] bool, True on the response's tokens.

  Returns:
    [B, T] float32 scores, 0 outside the response; a response's sum is in
    [-1, 1].

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(tokens, 2)
  chex.assert_equal_shape([tokens, emitted, mask])
  (agree,) = as_floats(jnp.where(tokens == emitted, 1.0, -1.0))
  scores = jnp.where(mask, agree, 0.0)
  return per_token(scores, jnp.sum(mask, -1, keepdims=True, dtype=agree.dtype))


def centred_token_scores(token_logps: Array, mask: Array) -> Array:
  """Rewards of tokens: a rewriting model's log-probs, less their mean.

  The scores of a response sum to 0: they say where the response is weak, and
  not how good it is. Long responses gain nothing by their length.

  Zhou et al. 2024, arXiv:2409.00162, leave the form of a score open: this is
  our parametrisation.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens under the
      rewriting model, given prompt and response.
    mask: [B, T] bool, True on the response's tokens.

  Returns:
    [B, T] float32 scores, 0 outside the response.

  Raises:
    AssertionError: shapes differ.
  """
  logps, mask = floats_with_axes("BT BT", token_logps, jnp.asarray(mask, bool))
  (logps,) = where_scored(mask, logps)
  lengths = jnp.sum(mask, -1, keepdims=True, dtype=logps.dtype)
  mean = per_token(jnp.sum(logps, -1, keepdims=True), lengths)
  return jnp.where(mask, logps - mean, 0.0)

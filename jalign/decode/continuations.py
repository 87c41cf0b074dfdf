"""Log-probs of given continuations, which share their prompt's prefill."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jalign.decode.buckets import bucket, count_compiled
from jalign.decode.categorical import log_prob
from jalign.decode.generate import as_policy
from jalign.decode.regroup import regroup
from jalign.sharding import spread
from jalign.types import Array, Params


def continuation_logprobs(
  policy: Any,
  params: Params,
  prompts: Array | np.ndarray,
  prompt_lengths: Array | np.ndarray,
  continuations: Array | np.ndarray,
  lengths: Array | np.ndarray,
) -> Array:
  """Log-probs of the tokens of F continuations of each prompt.

  The prompt is read once, and its cache is repeated: F continuations of C
  tokens cost C - 1 decode steps of F rows a prompt. The program is jitted, one
  for each bucket of lengths.

  Args:
    policy: a `Policy` or `Model`; no mixture.
    params: the policy's params.
    prompts: [B, T] int32, right-padded.
    prompt_lengths: [B] int32, each at least 1.
    continuations: [B, F, C] int32, right-padded.
    lengths: [B, F] int32 tokens of each continuation, 0 to C.

  Returns:
    [B, F, C] float32, nats; 0 beyond a continuation's length.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(
    [prompts, prompt_lengths, continuations, lengths], [2, 1, 3, 2]
  )
  chex.assert_equal_shape_prefix([prompts, prompt_lengths, continuations], 1)
  chex.assert_equal_shape_prefix([continuations, lengths], 2)
  width, longest = prompts.shape[1], continuations.shape[2]
  as_ids = lambda x: x if isinstance(x, jax.Array) else np.asarray(x, np.int32)
  given = spread(
    tuple(map(as_ids, (prompts, prompt_lengths, continuations, lengths)))
  )
  tokens, starts, said, sizes = map(jnp.asarray, given)
  tokens = jnp.pad(tokens, [(0, 0), (0, bucket(width) - width)])
  said = jnp.pad(said, [(0, 0), (0, 0), (0, bucket(longest) - longest)])
  with regroup(policy.layout.tensor) as home:
    logps = _score(
      as_policy(policy), params, tokens, starts, said, sizes, home=home
    )
  return logps[..., :longest]


@functools.partial(jax.jit, static_argnames=("policy", "home"))
def _score(policy, params, tokens, starts, said, sizes, *, home=None):
  (batch, width), (_, count, longest) = tokens.shape, said.shape
  count_compiled(
    f"{batch} rows of {width} tokens, {count} continuations of {longest}"
  )
  params = policy.prepare(params, batch * count, home)
  cache = policy.init_cache(params, batch, width + longest)
  logits, cache = policy.extend(params, tokens, starts, cache)
  logits, cache = jax.tree.map(
    lambda x: jnp.repeat(x, count, axis=0), (logits, cache)
  )
  said, sizes = said.reshape(batch * count, longest), sizes.reshape(-1)

  def read(carry, column):
    logits, cache = carry
    token, live = column
    logp = jnp.where(live, log_prob(logits, token, policy.layout), 0.0)
    after = policy.extend(params, token[:, None], live.astype(jnp.int32), cache)
    return after, logp

  live = jnp.arange(longest)[:, None] < sizes
  first = (said.T[:-1], live[:-1])
  (logits, _), logps = jax.lax.scan(read, (logits, cache), first)
  last = log_prob(logits, said[:, -1], policy.layout)
  last = jnp.where(live[-1], last, 0.0)
  logps = jnp.concatenate([logps, last[None]]).T
  return logps.reshape(batch, count, longest)

"""One jitted loop from prompts to a `Rollout`: prefill, then token by token."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jalign.decode.samplers import Sampler, sampler
from jalign.types import Array, MixedLogits, Params, Policy, Rollout, Sequences

_DEFAULT = sampler()


def generate(
  policy: Any,
  params: Params,
  prompts: Array,
  prompt_lengths: Array,
  keys: Array,
  *,
  max_new_tokens: int,
  stop_ids: tuple[int, ...],
  pad_id: int = 0,
  draw: Sampler = _DEFAULT,
) -> Rollout:
  """Samples a response to every prompt; stops early when all have ended.

  Jitted; one executable for each shape, policy and sampler, whatever the
  params. Each row's randomness comes from its own key folded with the
  position of the token, so it doesn't depend on the row's neighbours, the
  padding or the mesh.

  Args:
    policy: a `Policy` or `Model`, plain or a mixture.
    params: its params.
    prompts: [B, T] int32, right-padded.
    prompt_lengths: [B] int32, each at least 1.
    keys: [B] PRNG keys, one a row.
    max_new_tokens: N, tokens of a response at most, the stop token included.
    stop_ids: tokens that end a response; the stop token itself is scored.
    pad_id: fills columns after a response.
    draw: the sampler (jalign.decode.sampler); temperature 1 by default.

  Returns:
    Rollout with T + N columns; each response directly follows its prompt.
  """
  chex.assert_rank([prompts, prompt_lengths], [2, 1])
  chex.assert_equal_shape_prefix([prompts, prompt_lengths, keys], 1)
  return _generate(
    Policy(policy.init_cache, policy.extend, policy.prepare),
    params,
    jnp.asarray(prompts, jnp.int32),
    jnp.asarray(prompt_lengths, jnp.int32),
    keys,
    max_new_tokens=max_new_tokens,
    stop_ids=tuple(stop_ids),
    pad_id=pad_id,
    draw=draw,
  )


@functools.partial(
  jax.jit,
  static_argnames=("policy", "max_new_tokens", "stop_ids", "pad_id", "draw"),
)
def _generate(
  policy: Policy,
  params,
  prompts,
  prompt_lengths,
  keys,
  *,
  max_new_tokens,
  stop_ids,
  pad_id,
  draw,
):
  batch, width = prompts.shape
  total = width + max_new_tokens
  params = policy.prepare(params)
  cache = policy.init_cache(params, batch, total)
  logits, cache = policy.extend(params, prompts, prompt_lengths, cache)
  stops = jnp.asarray(stop_ids, jnp.int32)

  def pick(logits, step, ended):
    """Token, its log-prob as drawn, and under each model, at one step."""
    mixed, parts = (
      logits if isinstance(logits, MixedLogits) else (logits, (logits,))
    )
    uniforms = jax.vmap(
      lambda key, at: jax.random.uniform(jax.random.fold_in(key, at))
    )(keys, prompt_lengths + step)
    filtered = draw.filter(mixed)
    token = jnp.where(ended, pad_id, draw.draw(filtered, uniforms))
    score = lambda z: jnp.where(ended, 0.0, _log_prob(z, token))
    return token, score(filtered), jnp.stack([score(z) for z in parts])

  def ends(token):
    return jnp.any(token[:, None] == stops, -1)

  def body(carry):
    step, last, ended, cache, tokens, alive, logps, model_logps = carry
    appended = jnp.where(ended, 0, 1)
    logits, cache = policy.extend(params, last[:, None], appended, cache)
    token, logp, model_logp = pick(logits, step, ended)
    tokens = tokens.at[:, step].set(token)
    alive = alive.at[:, step].set(~ended)
    logps = logps.at[:, step].set(logp)
    model_logps = model_logps.at[:, :, step].set(model_logp)
    ended |= ends(token)
    return step + 1, token, ended, cache, tokens, alive, logps, model_logps

  def going(carry):
    return (carry[0] < max_new_tokens) & ~jnp.all(carry[2])

  token, logp, model_logp = pick(logits, 0, jnp.zeros(batch, bool))
  first = lambda x, dtype, fill=0: (
    jnp.full((*x.shape, max_new_tokens), fill, dtype).at[..., 0].set(x)
  )
  carry = (
    jnp.int32(1),
    token,
    ends(token),
    cache,
    first(token, jnp.int32, pad_id),
    first(jnp.ones(batch, bool), bool),
    first(logp, jnp.float32),
    first(model_logp, jnp.float32),
  )
  _, _, ended, _, tokens, alive, logps, model_logps = jax.lax.while_loop(
    going, body, carry
  )

  # Column j of a row holds prompt token j or response token j - prompt length.
  index = jnp.arange(total, dtype=jnp.int32) - prompt_lengths[:, None]
  inside = (index >= 0) & (index < max_new_tokens)
  index = jnp.clip(index, 0, max_new_tokens - 1)
  align = lambda x, fill: jnp.where(
    inside, jnp.take_along_axis(x, index, axis=-1), fill
  )
  padded = jnp.pad(prompts, [(0, 0), (0, max_new_tokens)])
  in_prompt = jnp.arange(total) < prompt_lengths[:, None]
  return Rollout(
    sequences=Sequences(
      tokens=jnp.where(in_prompt, padded, align(tokens, pad_id)),
      mask=align(alive, False),
      lengths=prompt_lengths + jnp.sum(alive, -1, dtype=jnp.int32),
    ),
    prompt_lengths=prompt_lengths,
    logps=align(logps, 0.0),
    model_logps=jax.vmap(lambda x: align(x, 0.0))(model_logps),
    finished=ended,
  )


def _log_prob(logits, token):
  """log softmax of one entry a row: [B, V], [B] -> [B]."""
  picked = jnp.take_along_axis(logits, token[:, None], -1)[:, 0]
  return picked - jax.nn.logsumexp(logits, -1)

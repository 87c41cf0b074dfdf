"""One jitted loop from prompts to a `Rollout`: prefill, then token by token."""

import functools
from collections.abc import Iterable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jalign.decode.buckets import bucket, count_compiled
from jalign.decode.refill import refilled
from jalign.decode.regroup import regroup
from jalign.decode.row_state import (
  DecodeOptions,
  Output,
  Prompts,
  Rows,
  draw_next,
  empty_output,
  mark_seen,
  rollout_of,
  start,
)
from jalign.decode.samplers import Sampler, sampler
from jalign.errors import UserError
from jalign.sharding import constrain, spread
from jalign.types import Array, Params, Policy, Rollout

_DEFAULT = sampler()


def generate(
  policy: Any,
  params: Params,
  prompts: Array | np.ndarray,
  prompt_lengths: Array | np.ndarray,
  keys: Array,
  *,
  max_new_tokens: int,
  stop_ids: Iterable[int | tuple[int, ...]],
  pad_id: int = 0,
  draw: Sampler = _DEFAULT,
  samples: int = 1,
  slots: int | None = None,
  chunk: int = 64,
  admit: int | None = None,
  entropy: bool = False,
  top_k_mass: int = 0,
) -> Rollout:
  """Samples responses to every prompt; stops when all responses have ended.

  The loop is jitted: one program for each bucket of lengths
  (`jalign.decode.bucket`), batch size, policy and sampler, whatever the params'
  values. The randomness of a row comes from the row's key folded with the
  position of the token, so that a response doesn't depend on the other rows,
  the padding or the mesh.

  Args:
    policy: a `Policy` or `Model`, plain or a mixture.
    params: the policy's params.
    prompts: [B, T] int32, right-padded.
    prompt_lengths: [B] int32, each at least 1.
    keys: [B * K] PRNG keys, one for each row of the result.
    max_new_tokens: N, the most tokens of a response, stop tokens included.
    stop_ids: stop sequences, which end a response: token ids or tuples of
      several ids, all of which the response has to contain. The stop sequence
      is part of the response and is scored.
    pad_id: token id that fills the columns after a response.
    draw: the sampler (jalign.decode.sampler); temperature 1 by default.
    samples: K, responses to each prompt, adjacent in the result. The model
      reads the prompt once for all of them, unless `slots` is given.
    slots: number of rows that are decoded at a time; all by default. With
      fewer, a row whose response ends takes the next prompt, so that no row
      waits for the longest response of a batch; each of the K samples then
      reads the prompt anew.
    chunk: tokens of a prompt that a row reads at once; only with `slots`.
    admit: number of rows that read prompts together, as soon as that many are
      idle; only with `slots`. By default a sixteenth of the slots, at least 1.
    entropy: whether to record the policy's entropy at each token.
    top_k_mass: k, to record the probability of the policy's k most probable
      tokens; 0 to record nothing.

  Returns:
    Rollout of B * K rows with T + N columns; each response directly follows
    its prompt.

  Raises:
    AssertionError: shapes differ, or there isn't one key per row.
    UserError: a count is below 1, or a stop sequence is empty.
  """
  chex.assert_rank([prompts, prompt_lengths], [2, 1])
  chex.assert_equal_shape_prefix([prompts, prompt_lengths], 1)
  width = prompts.shape[1]
  padded, static = static_arguments(
    prompts.shape,
    keys,
    max_new_tokens=max_new_tokens,
    stop_ids=stop_ids,
    pad_id=pad_id,
    draw=draw,
    samples=samples,
    slots=slots,
    chunk=chunk,
    admit=admit,
    entropy=entropy,
    top_k_mass=top_k_mass,
  )
  prompts, prompt_lengths, keys = spread(
    (_integers(prompts), _integers(prompt_lengths), keys)
  )
  tokens = jnp.asarray(prompts, jnp.int32)
  if padded > width:
    tokens = jnp.pad(tokens, [(0, 0), (0, padded - width)])
  lengths = jnp.asarray(prompt_lengths, jnp.int32)
  rows = Prompts(tokens, lengths, keys, jnp.int32(max_new_tokens))
  with regroup(policy.layout.tensor) as home:
    rollout = _generate(as_policy(policy), params, rows, home=home, **static)
  return _cut(rollout, width + max_new_tokens)


def lower(
  policy: Any,
  params: Params,
  prompts: Any,
  prompt_lengths: Any,
  keys: Any,
  *,
  platforms: tuple[str, ...] | None = None,
  **options: Any,
) -> jax.stages.Lowered:
  """Lowers the program of `generate`, from shapes alone.

  Args:
    policy: as for `generate`.
    params: the shapes and shardings of the policy's params.
    prompts: [B, T] int32, its shape and sharding.
    prompt_lengths: [B] int32.
    keys: [B * K] PRNG keys.
    platforms: what to lower for; by default what the arguments lie on.
    **options: the options of `generate`.
  """
  defaults = generate.__kwdefaults__ or {}
  padded, static = static_arguments(prompts.shape, keys, **(defaults | options))
  tokens = prompts.update(shape=(prompts.shape[0], padded))
  limit: Any = jax.ShapeDtypeStruct((), jnp.int32)
  rows = Prompts(tokens, prompt_lengths, keys, limit)
  with regroup(policy.layout.tensor) as home:
    program = _generate.trace(
      as_policy(policy), params, rows, home=home, **static
    )
    return program.lower(lowering_platforms=platforms)


def as_policy(policy: Any) -> Policy:
  """The functions of a `Policy` alone; a `Model` has others, too."""
  return Policy(*(getattr(policy, name) for name in Policy._fields))


def static_arguments(
  shape, keys, *, max_new_tokens, stop_ids, samples, slots, chunk, admit, **how
) -> tuple[int, dict[str, Any]]:
  """Columns of padded prompts, and the static arguments of `_generate`."""
  batch, width = shape
  for name, value in (
    ("max_new_tokens", max_new_tokens),
    ("samples", samples),
    ("slots", 1 if slots is None else slots),
    ("chunk", chunk),
    ("admit", 1 if admit is None else admit),
  ):
    if value < 1:
      raise UserError(f"{value} is below 1.", where=f"generate.{name}")
  _check_keys(keys, batch * samples)
  stops = tuple(
    tuple(map(int, stop)) if isinstance(stop, tuple) else (int(stop),)
    for stop in stop_ids
  )
  if not all(stops):
    raise UserError("a stop sequence is empty.", where="generate.stop_ids")
  padded = bucket(width)
  refill = None
  if slots is not None:
    slots = min(slots, batch * samples)
    admit = min(admit or max(slots // 16, 1), slots)
    refill = slots, min(chunk, padded), admit
  options = DecodeOptions(bucket(max_new_tokens), stops, **how)
  return padded, dict(options=options, samples=samples, refill=refill)


def _integers(x: Any) -> Any:
  return x if isinstance(x, jax.Array) else np.asarray(x, np.int32)


def _check_keys(keys: Array, rows: int) -> None:
  """Raises AssertionError unless there is one PRNG key for each row."""
  typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
  wanted = (rows,) if typed else (rows, *keys.shape[1:2])
  if keys.shape == wanted and (typed or keys.ndim == 2):
    return
  given = "one key" if keys.ndim == (0 if typed else 1) else "keys"
  raise AssertionError(
    f"generate.keys: {given} of shape {keys.shape} for {rows} rows; each row"
    " of the result draws with a key of its own. Pass"
    f" jax.random.split(key, {rows})."
  )


def _cut(rollout: Rollout, columns: int) -> Rollout:
  """Removes the columns that were added to round the lengths up."""
  total = rollout.sequences.tokens.shape[1]
  if columns == total:
    return rollout
  by_row = rollout.sequences.lengths, rollout.prompt_lengths, rollout.finished
  cut = jax.tree.map(lambda x: x[..., :columns], rollout)
  lengths, prompt_lengths, finished = by_row
  return cut.replace(
    sequences=cut.sequences.replace(lengths=lengths),
    prompt_lengths=prompt_lengths,
    finished=finished,
  )


def _split_rows(tree, *, layout, mesh=None, at=0):
  """Splits axis `at` of all arrays as a policy's rows are split."""
  rules = (("batch", layout.batch_axes),)

  def split(x):
    axes = ["batch" if i == at else None for i in range(x.ndim)]
    return constrain(x, axes, rules, mesh)

  return jax.tree.map(split, tree)


@functools.partial(
  jax.jit, static_argnames=("policy", "options", "samples", "refill", "home")
)
def _generate(policy, params, prompts, *, options, samples, refill, home=None):
  batch, width = prompts.tokens.shape
  name = f"{batch * samples} rows of {width} + {options.capacity} tokens"
  count_compiled(name + (f" in {refill[0]} slots" if refill else ""))
  split = functools.partial(_split_rows, layout=policy.layout)
  prompts = split(split(prompts, mesh=home))
  rows = refill[0] if refill else batch * samples
  params = policy.prepare(params, rows, home)
  repeat = functools.partial(
    jax.tree.map, lambda x: jnp.repeat(x, samples, axis=0)
  )
  tokens, lengths = prompts.tokens, prompts.lengths
  prompts = prompts.replace(tokens=repeat(tokens), lengths=repeat(lengths))

  def ended(output):
    rollout = rollout_of(prompts, output, options)
    by_model = split(rollout.model_logps, mesh=home, at=1)
    return split(rollout, mesh=home).replace(model_logps=by_model)

  if refill:
    slots, chunk, admit = refill
    output = refilled(
      policy,
      params,
      prompts,
      options,
      slots=slots,
      chunk=chunk,
      admit=admit,
    )
    return ended(output)

  cache = policy.init_cache(params, batch, width + options.capacity)
  logits, cache = policy.extend(params, tokens, lengths, cache)
  logits, cache = repeat((logits, cache))
  parts = logits if isinstance(logits, tuple) else (logits,)
  count = batch * samples
  rows = start(
    cache, jnp.arange(count, dtype=jnp.int32), options, parts[0].shape[-1]
  )
  valid = jnp.arange(width) < prompts.lengths[:, None]
  rows = rows.replace(
    live=jnp.ones(count, bool),
    seen=mark_seen(rows.seen, prompts.tokens, valid),
  )
  output = empty_output(count, len(parts), options)
  carry = draw_next(policy, params, options, prompts, rows, logits, output)
  following = functools.partial(step, policy, options, params, prompts)
  _, output = jax.lax.while_loop(
    lambda carry: jnp.any(carry[0].live), lambda carry: following(*carry), carry
  )
  return ended(output)


def step(
  policy: Policy,
  options: DecodeOptions,
  params: Params,
  prompts: Prompts,
  rows: Rows,
  output: Output,
) -> tuple[Rows, Output]:
  """One turn of the loop: reads the last token of every row, draws the next.

  Args:
    policy: the policy's functions.
    options: how to draw and when to stop.
    params: the policy's parameters, prepared.
    prompts: the prompts of all rows.
    rows: the state of the rows.
    output: what was drawn before.
  """
  logits, cache = policy.extend(
    params, rows.last[:, None], rows.live.astype(jnp.int32), rows.cache
  )
  rows = rows.replace(cache=cache)
  return draw_next(policy, params, options, prompts, rows, logits, output)

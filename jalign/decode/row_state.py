"""The state of rows that are being decoded, and the draw of their next token.

Letters: S rows, Q prompts, N columns of a response, W tokens of the longest
stop sequence.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jalign.decode import categorical, filters
from jalign.decode.samplers import Sampler
from jalign.types import Array, Params, Policy, Rollout, Sequences

_NONE = -1  # no token


class DecodeOptions(NamedTuple):
  """Options of decoding; hashable, because they are static in the jitted loop.

  Attributes:
    capacity: N, columns for tokens of a response.
    stops: sequences of tokens that end a response.
    pad_id: token id that fills the columns after a response.
    draw: the sampler.
    entropy: whether the policy's entropy is recorded.
    top_k_mass: k of the recorded top-k probability; 0 to record none.
  """

  capacity: int
  stops: tuple[tuple[int, ...], ...]
  pad_id: int
  draw: Sampler
  entropy: bool
  top_k_mass: int


class Prompts(struct.PyTreeNode):
  """The prompts that are decoded, with a key for each.

  Attributes:
    tokens: [Q, T] int32, right-padded.
    lengths: [Q] int32.
    keys: [Q] PRNG keys.
    limit: [] int32, the most tokens of a response.
  """

  tokens: Array
  lengths: Array
  keys: Array
  limit: Array


class Rows(struct.PyTreeNode):
  """The state of S rows, which are the first axis of every leaf.

  Attributes:
    cache: the policy's cache.
    prompt: [S] int32 index of the row's prompt; Q or more for a row without a
      prompt.
    read: [S] int32, number of tokens of the prompt that the row has read; only
      refilled decoding keeps count.
    step: [S] int32, number of tokens drawn so far.
    last: [S] int32, the token drawn last.
    live: [S] bool, whether another token is to be drawn.
    recent: [S, W - 1] int32, the tokens drawn last, to compare with stop
      sequences; -1 where there are none yet.
    seen: [S, V] bool, the tokens that have occurred; None unless the sampler
      needs them.
  """

  cache: Any
  prompt: Array
  read: Array
  step: Array
  last: Array
  live: Array
  recent: Array
  seen: Array | None


class Output(struct.PyTreeNode):
  """The tokens that have been drawn, and what is recorded of each.

  Attributes:
    tokens: [Q, N] int32, negative where nothing was drawn.
    values: [Q, N, C] float32: the log-prob under the distribution that was
      drawn from, the log-prob under each of the M models, then entropy and
      top-k mass where they are asked for.
  """

  tokens: Array
  values: Array


def start(
  cache: Any, prompt: Array, options: DecodeOptions, vocab: int
) -> Rows:
  """Rows that have read nothing and draw nothing yet.

  Args:
    cache: a new cache of S rows.
    prompt: [S] int32 index of each row's prompt.
    options: how to draw and when to stop.
    vocab: V.
  """
  count = prompt.shape[0]
  zeros = jnp.zeros(count, jnp.int32)
  width = max((len(stop) for stop in options.stops), default=1)
  seen = None
  if options.draw.reads_seen:
    seen = jnp.zeros((count, vocab), bool)
  return Rows(
    cache=cache,
    prompt=prompt,
    read=zeros,
    step=zeros,
    last=zeros,
    live=jnp.zeros(count, bool),
    recent=jnp.full((count, width - 1), _NONE, jnp.int32),
    seen=seen,
  )


def empty_output(count: int, models: int, options: DecodeOptions) -> Output:
  """The output for `count` prompts before anything is drawn."""
  columns = 1 + models + options.entropy + bool(options.top_k_mass)
  shape = count, options.capacity
  return Output(jnp.full(shape, _NONE, jnp.int32), jnp.zeros((*shape, columns)))


def mark_seen(seen: Array | None, tokens: Array, valid: Array) -> Array | None:
  """Marks tokens [S, C] as seen in their rows, where `valid` [S, C] is True."""
  if seen is None:
    return None
  rows = jnp.arange(tokens.shape[0])[:, None]
  return seen.at[rows, tokens].max(valid)


def draw_next(
  policy: Policy,
  params: Params,
  options: DecodeOptions,
  prompts: Prompts,
  rows: Rows,
  logits: Any,
  output: Output,
) -> tuple[Rows, Output]:
  """Draws and records the next token of every live row.

  Args:
    policy: the policy's functions.
    params: the policy's parameters.
    options: how to draw and when to stop.
    prompts: the prompts of all rows.
    rows: the state of S rows.
    logits: logits that `policy.extend` has returned for these rows.
    output: what was drawn before.

  Returns:
    The rows and the output after the draw.
  """
  parts = logits if isinstance(logits, tuple) else (logits,)
  at = jnp.minimum(rows.prompt, prompts.lengths.shape[0] - 1)
  mixed = policy.combine(params, parts, at)
  # The draw depends on the row's key and the token's position, and not on the
  # other rows.
  positions = prompts.lengths[at] + rows.step
  uniforms = jax.vmap(
    lambda key, position: jax.random.uniform(jax.random.fold_in(key, position))
  )(prompts.keys[at], positions)
  token, logp = options.draw.draw(mixed, uniforms, rows.seen, policy.layout)
  if options.draw.plain and len(parts) == 1:
    values = [logp, logp]
  else:
    values = [logp]
    values += [categorical.log_prob(z, token, policy.layout) for z in parts]
  values += _indicators(parts[0], options)
  # Rows that draw nothing write to a column that doesn't exist.
  column = jnp.where(rows.live, rows.step, options.capacity)
  output = Output(
    output.tokens.at[rows.prompt, column].set(token, mode="drop"),
    output.values.at[rows.prompt, column].set(
      jnp.stack(values, -1), mode="drop"
    ),
  )
  window = jnp.concatenate([rows.recent, token[:, None]], -1)
  step = rows.step + rows.live
  rows = rows.replace(
    step=step,
    last=jnp.where(rows.live, token, rows.last),
    live=rows.live & ~_ends(window, options.stops) & (step < prompts.limit),
    recent=window[:, 1:],
    seen=mark_seen(rows.seen, token[:, None], rows.live[:, None]),
  )
  return rows, output


def _ends(window: Array, stops: tuple[tuple[int, ...], ...]) -> Array:
  """Whether the last tokens of a window [S, W] are a stop sequence."""
  ended = jnp.zeros(window.shape[0], bool)
  for stop in stops:
    tail = window[:, window.shape[1] - len(stop) :]
    ended |= jnp.all(tail == jnp.asarray(stop, jnp.int32), -1)
  return ended


def _indicators(logits: Array, options: DecodeOptions) -> list[Array]:
  """Entropy and top-k mass of softmax(logits), as far as they are asked for."""
  indicators: list[Array] = []
  if not options.entropy and not options.top_k_mass:
    return indicators
  shifted = logits - jnp.max(logits, -1, keepdims=True)
  mass = jnp.exp(shifted)
  total = jnp.sum(mass, -1)
  if options.entropy:
    mean = jnp.sum(jnp.where(mass > 0, mass * shifted, 0.0), -1) / total
    indicators.append(jnp.log(total) - mean)
  if options.top_k_mass:
    filtered = filters.keep_top_k(logits, k=options.top_k_mass)
    top = jnp.sum(jnp.where(filtered > -jnp.inf, mass, 0.0), -1)
    indicators.append(top / total)
  return indicators


def rollout_of(
  prompts: Prompts, output: Output, options: DecodeOptions
) -> Rollout:
  """Puts prompts and responses into the columns of a `Rollout`."""
  count, width = prompts.tokens.shape
  total = width + options.capacity
  lengths = jnp.sum(output.tokens >= 0, -1, dtype=jnp.int32)
  longest = max((len(stop) for stop in options.stops), default=1)
  last = lengths[:, None] + jnp.arange(-longest, 0)
  window = jnp.take_along_axis(output.tokens, jnp.maximum(last, 0), -1)
  window = jnp.where(last >= 0, window, _NONE)

  # Column j of a row holds prompt token j or response token j - prompt length.
  index = jnp.arange(total, dtype=jnp.int32) - prompts.lengths[:, None]
  inside = (index >= 0) & (index < lengths[:, None])
  index = jnp.clip(index, 0, options.capacity - 1)
  align = lambda x, fill: jnp.where(
    inside, jnp.take_along_axis(x, index, axis=-1), fill
  )
  padded = jnp.pad(prompts.tokens, [(0, 0), (0, options.capacity)])
  in_prompt = jnp.arange(total) < prompts.lengths[:, None]
  values = [align(v, 0.0) for v in jnp.moveaxis(output.values, -1, 0)]
  mass = values.pop() if options.top_k_mass else None
  entropy = values.pop() if options.entropy else None
  return Rollout(
    sequences=Sequences(
      tokens=jnp.where(in_prompt, padded, align(output.tokens, options.pad_id)),
      mask=inside,
      lengths=prompts.lengths + lengths,
    ),
    prompt_lengths=prompts.lengths,
    logps=values[0],
    model_logps=jnp.stack(values[1:]),
    finished=_ends(window, options.stops),
    entropy=entropy,
    top_k_mass=mass,
  )

"""Bytes that a device moves at the least, by formula: memory and links.

Of memory, each product reads its operands and writes its result once. Of links,
a device sends its part of each collective around a ring: of a gather or a
scatter of B bytes over n devices (n - 1) / n B, and of a sum twice that.

Letters: those of formulas.py, and N, tokens of a device.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jalign.models import ModelConfig
from jalign.plan import memory
from jalign.plan.workload import Rollout, Score, Update, Work
from jalign.sharding import BATCH_AXES, axis_size


class Traffic(NamedTuple):
  """Bytes that each device moves.

  Attributes:
    memory: read from and written to the device's memory.
    links: sent over its links, by what for: "gather parameters", "scatter
      gradients", "sum activations", "sum gradients".
  """

  memory: float
  links: Mapping[str, float]

  @property
  def sent(self) -> float:
    """All bytes sent over links."""
    return sum(self.links.values())


def of(c: ModelConfig, work: Work, mesh: Any) -> Traffic:
  """Bytes that a device moves during a program.

  Args:
    c: the model's config.
    work: what the program computes.
    mesh: the mesh, or whatever has the sizes of its axes in `.shape`.
  """
  if isinstance(work, Update):
    return update(c, work, mesh)
  if isinstance(work, Score):
    return score(c, work, mesh)
  return rollout(c, work, mesh)


def ring(count: int) -> float:
  """The share of a gathered array that a device sends: (n - 1) / n."""
  return (count - 1) / count


def update(c: ModelConfig, work: Update, mesh: Any) -> Traffic:
  """Bytes of an update."""
  fsdp, tensor = (axis_size(mesh, name) for name in ("fsdp", "tensor"))
  n = _rows(work.rows, mesh) * work.tokens
  times = work.microbatches
  size = jnp.dtype(c.dtype).itemsize
  weights = memory.decoding_bytes(c, mesh)  # gathered over fsdp
  again = c.remat != "none"
  # Forward, for the gradients by states, and again for what isn't kept.
  passes = times * (2 + work.reference)
  own = memory.trained_bytes(c, work, mesh)
  # Of trained weights: gradients written and read, parameters and moments read
  # and written.
  kept = jnp.dtype(work.moments).itemsize / 4
  optimiser = own * (2 + 2 + 4 * kept)
  states = _states(c, work.tokens, n, mesh) * (3 + again + work.reference)
  tiles = 4.0 * n * work.counted * c.vocab_size / tensor
  tiles *= 2 * (2 + work.reference)
  gradients = own * times
  moved = weights * (passes + times * again) + gradients + optimiser + states
  tokens = n * c.hidden_size * size * c.num_hidden_layers
  # Two sums of a forward and two of a backward pass; the mlp's isn't computed
  # again.
  sums = 2 * (2 + 2 + again + 2 * work.reference)
  links = {
    "gather parameters": weights * passes * ring(fsdp),
    "scatter gradients": times * own * fsdp * ring(fsdp),
    "sum activations": tokens * sums * ring(tensor),
    "sum gradients": 2 * times * own * ring(axis_size(mesh, "data")),
  }
  return Traffic(moved + tiles, links)


def score(c: ModelConfig, work: Score, mesh: Any) -> Traffic:
  """Bytes of forward passes."""
  fsdp, tensor = (axis_size(mesh, name) for name in ("fsdp", "tensor"))
  n = _rows(work.rows, mesh) * work.tokens
  weights = memory.decoding_bytes(c, mesh)
  states = _states(c, work.tokens, n, mesh)
  tiles = 2 * 4.0 * n * work.counted * c.vocab_size / tensor
  tokens = n * c.hidden_size * jnp.dtype(c.dtype).itemsize
  links = {
    "gather parameters": weights * ring(fsdp),
    "sum activations": tokens * c.num_hidden_layers * 4 * ring(tensor),
  }
  links = {name: work.passes * value for name, value in links.items()}
  return Traffic(work.passes * (weights + states + tiles), links)


def rollout(c: ModelConfig, work: Rollout, mesh: Any) -> Traffic:
  """Bytes of a rollout: a prefill, and a step for each token of a response.

  A step reads all weights and the whole cache, its empty slots included.
  """
  fsdp, tensor = (axis_size(mesh, name) for name in ("fsdp", "tensor"))
  rows = _rows(work.slots or work.rows, mesh)
  rounds = math.ceil(work.rows / (work.slots or work.rows))
  steps = work.new * rounds
  weights = step_weights(c, mesh)
  cache = rows * work.capacity * memory.cache_bytes(c, mesh)
  logits = 2 * 4.0 * rows * c.vocab_size / tensor
  n = _rows(work.prompts, mesh) * work.width
  prefill = weights + _states(c, work.width, n, mesh) + cache
  size = jnp.dtype(c.dtype).itemsize
  tokens = (n + rows * steps) * c.hidden_size * size * c.num_hidden_layers
  whole = memory.decoding_bytes(c, mesh)
  links = {
    "gather parameters": work.models * whole * ring(fsdp),
    "sum activations": work.models * tokens * 4 * ring(tensor),
  }
  moved = work.models * (prefill + steps * (weights + cache + logits))
  return Traffic(moved, links)


def step_weights(c: ModelConfig, mesh: Any) -> float:
  """Bytes of the weights that a decoding step reads on a device.

  An embedding that isn't the head, too, is only looked up in.
  """
  whole = memory.decoding_bytes(c, mesh)
  if c.tie_word_embeddings:
    return whole
  table = c.vocab_size * c.hidden_size / axis_size(mesh, "tensor")
  return whole - table * jnp.dtype(c.dtype).itemsize


def _rows(rows: int, mesh: Any) -> int:
  """The most rows of a device."""
  return math.ceil(rows / axis_size(mesh, BATCH_AXES))


def _states(c: ModelConfig, tokens: int, n: float, mesh: Any) -> float:
  """Bytes that a forward pass reads and writes for the states of N tokens.

  Each product reads its input and writes its output; attention reads queries,
  keys and values, and writes as much as there are queries.
  """
  tensor = axis_size(mesh, "tensor")
  d, e = c.hidden_size, c.head_dim
  h, g = c.num_attention_heads / tensor, c.num_key_value_heads / tensor
  f = c.intermediate_size * max(c.num_experts_per_tok, 1) / tensor
  projections = 3 * d + (h + 2 * g) * e + (h * e + d)
  attended = (h + 2 * g) * e + h * e
  inner = (1 + c.mlp_gated) * (d + f) + f + d
  entries = projections + attended + inner
  return n * c.num_hidden_layers * entries * jnp.dtype(c.dtype).itemsize

"""Bytes of a device's memory by formula, by category.

What lies in arrays by design (parameters, moments, caches) is exact. What the
compiler decides (which temporaries live at the same time) is an estimate, which
`tests/plan/memory_test.py` holds against compiled programs.

Letters: those of formulas.py, and N, tokens of a microbatch on a device.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp

from jalign.logprobs import tiles
from jalign.models import (
  ModelConfig,
  attention,
  lora,
  param_specs,
  query_blocks,
)
from jalign.plan.rules import bytes_a_device
from jalign.plan.workload import Rollout, Score, Update, Work
from jalign.sharding import BATCH_AXES, axis_size, by_path

Bytes = dict[str, float]


def of(c: ModelConfig, work: Work, mesh: Any, *, dense: bool = False) -> Bytes:
  """Bytes of a device while a program runs, by category.

  Args:
    c: the model's config.
    work: what the program computes.
    mesh: the mesh, or whatever has the sizes of its axes in `.shape`.
    dense: whether training's attention holds the scores of all pairs.
  """
  if isinstance(work, Update):
    return update(c, work, mesh, dense)
  if isinstance(work, Score):
    return score(c, work, mesh, dense)
  return rollout(c, work, mesh)


def dense_attention(c: ModelConfig, platform: str) -> bool:
  """Whether training's attention computes and holds the scores of all pairs."""

  def unfit(name):
    windowed = name == "splash" and any(c.windows)
    return "unfit" if c.attn_logit_softcapping or windowed else ""

  return attention.choose(c, "training", platform, unfit) == "xla"


def update(c: ModelConfig, work: Update, mesh: Any, dense: bool) -> Bytes:
  """Bytes of a device during an update."""
  whole = held_bytes(c, mesh)
  own = trained_bytes(c, work, mesh)
  size = jnp.dtype("float32" if work.rank else c.param_dtype).itemsize
  moments = 2 * own // size * jnp.dtype(work.moments).itemsize
  frozen = whole if work.rank else whole - own
  shares = bool(work.rank)  # the frozen parameters are the reference
  n = _tokens(work.rows // work.microbatches, work.tokens, mesh)
  kept = c.num_hidden_layers * n * _kept(c, work, n, mesh, dense)
  # Sums over microbatches are in memory before and after a part is added.
  gradients = own * (1 if work.microbatches == 1 else 3)
  layers = {
    "gradients": gradients,
    "activations": kept + _working(c, work, n, mesh, dense),
    "gathered weights": _gathered(c, mesh, gradients=not work.rank),
  }
  head = {
    "gradients": gradients if work.microbatches > 1 else _tables(c, work, mesh),
    "activations": kept,
    "logits": _logits(c, n * work.counted, mesh, gradients=True),
  }
  return {
    "parameters": own + frozen,
    "optimiser": moments,
    "reference": whole * (work.reference or work.kept) * (not shares),
    **_larger(layers, head),
  }


def _larger(*phases: Bytes) -> Bytes:
  """What is in memory in the phase that needs most of it."""
  return max(phases, key=lambda phase: sum(phase.values()))


def score(c: ModelConfig, work: Score, mesh: Any, dense: bool) -> Bytes:
  """Bytes of a device while log-probs are computed."""
  n = _tokens(work.rows, work.tokens, mesh)
  forward = Update(work.rows, work.tokens, counted=work.counted)
  layers = {
    "activations": _working(c, forward, n, mesh, dense),
    "gathered weights": _gathered(c, mesh, gradients=False),
  }
  logits = _logits(c, n * work.counted, mesh, gradients=False)
  return {
    "parameters": held_bytes(c, mesh),
    **_larger(layers, {"logits": logits}),
  }


def rollout(c: ModelConfig, work: Rollout, mesh: Any) -> Bytes:
  """Bytes of a device during a rollout on one mesh.

  The parameters lie there twice: as training has them, and laid out for
  decoding, in the dtype of the products and split over `tensor` only.
  """
  rows = -(-(work.slots or work.rows) // axis_size(mesh, BATCH_AXES))
  n = -(-work.prompts // axis_size(mesh, BATCH_AXES)) * work.width
  tensor = axis_size(mesh, "tensor")
  parameters = held_bytes(c, mesh)
  prefill = Update(work.prompts, work.width, counted=0.0)
  return {
    "parameters": work.models * parameters,
    "decoding weights": work.models * decoding_bytes(c, mesh),
    "cache": work.models * rows * work.capacity * cache_bytes(c, mesh),
    "activations": _working(c, prefill, n, mesh, False),
    "logits": work.models * 2.0 * rows * c.vocab_size / tensor * 4,
  }


@functools.lru_cache
def decoding_bytes(c: ModelConfig, mesh: Any) -> int:
  """Bytes of the parameters as decoding has them, on a device."""
  rules = tuple((name, axes) for name, axes in c.rules if name != "embed")
  return bytes_a_device(param_specs(c), mesh, rules, c.dtype)


def cache_bytes(c: ModelConfig, mesh: Any) -> float:
  """Bytes of a token of a row in the cache, on a device that has the row."""
  dtype = jnp.dtype(c.cache_dtype or c.dtype)
  entry = c.head_dim * dtype.itemsize + (4 if dtype == jnp.int8 else 0)
  heads = c.num_key_value_heads / axis_size(mesh, "tensor")
  return 2.0 * c.num_hidden_layers * heads * entry


@functools.lru_cache
def held_bytes(c: ModelConfig, mesh: Any) -> int:
  """Bytes of the parameters as training has them, on a device."""
  return bytes_a_device(param_specs(c), mesh, c.rules, c.param_dtype)


@functools.lru_cache
def trained_bytes(c: ModelConfig, work: Update, mesh: Any) -> int:
  """Bytes of the trained parameters on a device."""
  if work.rank:
    change = lora.LoraConfig(
      work.rank, targets=tuple(f"blocks/{name}" for name in work.changed)
    )
    # A change is float32, whatever the parameters are.
    return bytes_a_device(lora.delta_specs(c, change), mesh, c.rules)
  specs = by_path(param_specs(c)).items()
  trained = {path: spec for path, spec in specs if work.trains(path)}
  return bytes_a_device(trained, mesh, c.rules, c.param_dtype)


def _tokens(rows: float, tokens: int, mesh: Any) -> float:
  """N: the most tokens of a device."""
  return math.ceil(rows / axis_size(mesh, BATCH_AXES)) * tokens


def _widths(c: ModelConfig, mesh: Any) -> tuple[float, float, float]:
  """Entries of a token: of states, of queries with keys and values, of mlps."""
  tensor = axis_size(mesh, "tensor")
  heads = c.num_attention_heads + 2 * c.num_key_value_heads
  inner = c.intermediate_size * max(c.num_experts_per_tok, 1)
  return c.hidden_size, heads * c.head_dim / tensor, inner / tensor


def _kept(c, work: Update, n: float, mesh, dense: bool) -> float:
  """Bytes of a token that a layer's backward pass finds in memory."""
  size = jnp.dtype(c.dtype).itemsize
  states, attended, inner = _widths(c, mesh)
  if c.remat == "block":
    return states * size
  products = 3 * states + attended + (1 + c.mlp_gated) * inner
  if c.remat == "dots":
    return products * size
  sent = 2 * c.num_experts_per_tok if c.num_experts else 0
  others = (3 + sent) * states + 2 * attended + inner
  return (products + others) * size + _scores(c, work, n, mesh, dense) / n


def _working(c, work: Update, n: float, mesh, dense: bool) -> float:
  """Bytes that a layer's products need at a time, for N tokens.

  Some states, and the larger of the mlp's inner values with their gradients and
  of attention's operands.
  """
  states, attended, inner = _widths(c, mesh)
  sent = 2 * c.num_experts_per_tok if c.num_experts else 0
  mlp = n * ((4 + sent) * states + (1 + c.mlp_gated) * inner)
  operands = n * (4 * states + 2 * attended)
  size = jnp.dtype(c.dtype).itemsize
  return max(mlp * size, operands * size + _scores(c, work, n, mesh, dense))


def _scores(c, work: Update, n: float, mesh, dense: bool) -> float:
  """Bytes of attention's scores and weights of a layer, where it has them.

  Long sequences have those of a block of queries at a time (`query_blocks`).
  """
  heads, queries = c.num_attention_heads / axis_size(mesh, "tensor"), n
  if query_blocks.divide(work.tokens):
    queries = n / work.tokens * query_blocks.QUERIES
  return 2.0 * queries * work.tokens * heads * 4 * dense


def _gathered(c: ModelConfig, mesh: Any, gradients: bool) -> float:
  """Bytes of a layer's weights as products take them.

  Of a gradient, the largest weight's is whole before and after it is summed.
  """
  tensor, size = axis_size(mesh, "tensor"), jnp.dtype(c.dtype).itemsize
  tables = (2 - c.tie_word_embeddings) * c.vocab_size * c.hidden_size
  layer = decoding_bytes(c, mesh) - tables / tensor * size
  inner = c.intermediate_size * max(c.num_experts, 1)
  largest = max(inner, c.num_attention_heads * c.head_dim) / tensor
  whole = 2 * largest * c.hidden_size * 4
  summed = gradients and axis_size(mesh, "fsdp") > 1
  return layer / c.num_hidden_layers + whole * summed


def _tables(c: ModelConfig, work: Update, mesh: Any) -> float:
  """Bytes of the gradient by the head's table, if it is trained."""
  name = "embed" if c.tie_word_embeddings else "unembed"
  if not work.trains(name):
    return 0.0
  specs = {name: by_path(param_specs(c))[name]}
  return bytes_a_device(specs, mesh, c.rules, c.param_dtype)


def _logits(c: ModelConfig, n: float, mesh: Any, gradients: bool) -> float:
  """Bytes of a tile of logits, of the head's rows, and of states and gradients.

  Logits are float32, and gradients by them have the dtype of the products.
  """
  if not n:
    return 0.0
  columns = c.vocab_size // axis_size(mesh, "tensor")
  tile = max(int(tiles.TILE_BYTES // (4 * n)), tiles.LEAST_COLUMNS)
  tile, size = min(tile, columns), jnp.dtype(c.dtype).itemsize
  part = 2.0 * tile * c.hidden_size * size
  states = n * c.hidden_size * (size + 4 * gradients)
  return n * tile * (4 + size * gradients) + part + states

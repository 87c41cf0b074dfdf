"""FLOPs of a program by formula: those of its products, on the whole mesh.

A multiplication and an addition are 2 FLOPs. Norms, rotations, softmax and the
optimiser are left out: they cost memory traffic rather than FLOPs. The
compiler's own count can't serve: it counts the body of a loop once.

Letters: L layers, D hidden size, H and G query and key heads of width E, F
inner width, X experts of which K are active, V vocabulary, T tokens of a row.
"""

import functools
from typing import NamedTuple

from jalign.models import ModelConfig
from jalign.models.spec import inputs, param_specs
from jalign.plan.workload import Rollout, Score, Step, Update, Work


class Flops(NamedTuple):
  """FLOPs of a program on all devices together.

  Attributes:
    forward: the policy's forward pass, or all passes that have no gradients.
    backward: gradients by states and by trained weights.
    recomputed: what the backward pass computes again, to save memory.
    reference: the reference's forward pass.
  """

  forward: float
  backward: float = 0.0
  recomputed: float = 0.0
  reference: float = 0.0

  @property
  def total(self) -> float:
    """All FLOPs."""
    return sum(self)

  @property
  def useful(self) -> float:
    """FLOPs without those computed again."""
    return self.total - self.recomputed


def of(c: ModelConfig, work: Work | Step, block: int = 1) -> Flops:
  """FLOPs of a program.

  Args:
    c: the model's config.
    work: what the program computes.
    block: keys and queries of a block of training's attention, see `pairs`.
  """
  if isinstance(work, Update):
    return update(c, work, block)
  if isinstance(work, Score):
    once = _pass(c, work.rows, work.tokens, work.counted, block)
    return Flops(work.passes * once)
  if isinstance(work, Step):
    return Flops(work.models * work.rows * _token(c, work.capacity))
  return rollout(c, work)


def products(c: ModelConfig) -> dict[str, float]:
  """FLOPs of a layer's products for one token, by the names of the weights.

  Of experts, only the K that a token goes to count.
  """
  share = c.num_experts_per_tok / c.num_experts if c.num_experts else 1.0
  flops = {}
  for name, spec in param_specs(c)["blocks"].items():
    if name in ("wq", "wk", "wv", "wo", "router"):
      flops[name] = 2.0 * _count(spec)
    elif name in ("gate", "up", "down"):
      flops[name] = 2.0 * _count(spec) * share
  return flops


def _count(spec) -> int:
  """Entries of one layer's part of a stacked parameter."""
  count = 1
  for size in spec.shape[1:]:
    count *= size
  return count


@functools.lru_cache
def pairs(tokens: int, window: int = 0, block: int = 1) -> int:
  """Pairs of a query and a key in a row of T tokens.

  Args:
    tokens: T.
    window: keys that a query sees, its own included; 0 for all earlier ones.
    block: kernels compute whole blocks of so many queries and keys, if any pair
      of a block counts. 1 counts the pairs themselves; T is an implementation
      that computes all pairs and masks them.
  """
  total = 0
  for first in range(0, tokens, block):
    last = min(first + block, tokens) - 1  # the block's last query
    begin = max(first - window + 1, 0) if window else 0
    keys = min((last // block + 1) * block, tokens) - begin // block * block
    total += (last + 1 - first) * keys
  return total


def attention(c: ModelConfig, tokens: int, block: int = 1) -> float:
  """FLOPs of the two products of attention for a row, in all layers."""
  return sum(
    4.0 * c.num_attention_heads * c.head_dim * pairs(tokens, window, block)
    for window in c.windows
  )


def head(c: ModelConfig) -> float:
  """FLOPs of the logits of one token."""
  return 2.0 * c.vocab_size * c.hidden_size


def _pass(c, rows, tokens, counted, block) -> float:
  """A forward pass of whole rows."""
  layers = c.num_hidden_layers * sum(products(c).values())
  states = rows * (tokens * layers + attention(c, tokens, block))
  return states + rows * tokens * counted * head(c)


def update(c: ModelConfig, work: Update, block: int = 1) -> Flops:
  """FLOPs of an update.

  The gradient by a weight costs as much as the product, and so does the
  gradient by its input. `remat` decides what of a layer is computed again: with
  "block" all but the mlp's last product, which no gradient needs; with "dots"
  attention. The head's logits are always computed again.
  """
  tokens = work.rows * work.tokens
  counted = tokens * work.counted
  by_weight = products(c)
  layer = sum(by_weight.values())
  attended = work.rows * attention(c, work.tokens, block)
  forward = _pass(c, work.rows, work.tokens, work.counted, block)
  trained = sum(
    flops for name, flops in by_weight.items() if work.trains(f"blocks/{name}")
  )
  change = 2.0 * work.rank * sum(_sides(c, name) for name in work.changed)
  backward = c.num_hidden_layers * tokens * (layer + trained) + 2 * attended
  name = "embed" if c.tie_word_embeddings else "unembed"
  backward += counted * head(c) * (1 + work.trains(name))
  forward += c.num_hidden_layers * tokens * change
  backward += c.num_hidden_layers * tokens * 2 * change
  recomputed = counted * head(c)
  if c.remat == "block":
    # A norm after the mlp needs the mlp's output, as do the experts' factors.
    last = 0.0
    if c.norm_position == "pre" and not c.num_experts:
      outer = 2.0 * work.rank * c.hidden_size * ("down" in work.changed)
      last = by_weight["down"] + outer
    recomputed += c.num_hidden_layers * tokens * (layer - last + change)
  if c.remat != "none":
    recomputed += attended
  reference = (
    _pass(c, work.rows, work.tokens, work.counted, block)
    if work.reference
    else 0.0
  )
  return Flops(forward, backward, recomputed, reference)


def _sides(c, name) -> int:
  """Inputs plus outputs of a layer's matrix."""
  shape = param_specs(c)["blocks"][name].shape[1:]
  cut = inputs(name)
  first = last = 1
  for i, size in enumerate(shape):
    first, last = (first * size, last) if i < cut else (first, last * size)
  return first + last


def rollout(c: ModelConfig, work: Rollout) -> Flops:
  """FLOPs of a rollout in which every response has all its tokens.

  A step's attention reads the whole cache; of a prompt's logits only the last
  token's are computed.
  """
  layers = c.num_hidden_layers * sum(products(c).values())
  # With slots, each response reads its prompt anew.
  reads = work.rows if work.slots else work.prompts
  prefill = reads * (work.width * layers + attention(c, work.width) + head(c))
  steps = work.rows * work.new * _token(c, work.capacity)
  return Flops(work.models * (prefill + steps))


def _token(c: ModelConfig, capacity: int) -> float:
  """FLOPs of a step of decoding for one row."""
  layers = c.num_hidden_layers * sum(products(c).values())
  per_key = 4.0 * c.num_attention_heads * c.head_dim * c.num_hidden_layers
  return layers + per_key * capacity + head(c)

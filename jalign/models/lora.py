"""LoRA: trained low-rank changes of some weights, with the weights frozen.

A policy is a base and a delta, joined without copying (`join`). Its reference
is the base by itself, so that both share the base's memory. Only the delta has
gradients and optimiser states.

Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023 (rank-stabilised LoRA),
arXiv:2312.03732; Liu et al. 2024 (DoRA), arXiv:2402.09353.
"""

import dataclasses
import fnmatch
import functools
import math

import jax

from jalign.errors import UserError
from jalign.models.config import ModelConfig
from jalign.models.lowrank import LowRank, lengths, whole
from jalign.models.spec import (
  ParamSpec,
  init_params,
  inputs,
  matrices,
  param_specs,
)
from jalign.types import Array, Params


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Which weights get a low-rank change, and of what rank.

  Attributes:
    rank: r, the rank of the changes A B; 0 for no LoRA.
    alpha: the change is A B times alpha / r.
    targets: shell patterns of paths of weights, such as "blocks/w[qv]" for
      queries and values. A pattern applies to all layers, as they are stacked.
    use_rslora: whether the change is A B times alpha / sqrt(r) instead, which
      doesn't vanish as r grows.
    use_dora: whether the length of each output's column is trained too (DoRA).
  """

  rank: int = 0
  alpha: float = 16.0
  targets: tuple[str, ...] = ("blocks/*",)
  use_rslora: bool = False
  use_dora: bool = False

  def __post_init__(self):
    for name, valid, rule in (
      ("rank", self.rank >= 0, "must not be negative"),
      ("alpha", self.alpha > 0, "must be positive"),
      ("targets", bool(self.targets), "names no weight"),
    ):
      if not valid:
        raise UserError(f"{getattr(self, name)} {rule}.", where=f"lora.{name}")

  @property
  def scale(self) -> float:
    """The factor on A B."""
    rank = max(self.rank, 1)
    return self.alpha / (math.sqrt(rank) if self.use_rslora else rank)


def targets(c: ModelConfig, lora: LoraConfig) -> tuple[str, ...]:
  """Names in `blocks` of the weights that get a change.

  Raises:
    UserError: a pattern matches no matrix of a layer; experts' matrices can't
      have a change.
  """
  paths = {f"blocks/{name}": name for name in matrices(c)}
  for pattern in lora.targets:
    if not fnmatch.filter(paths, pattern):
      raise UserError(
        f"{pattern!r} matches no weight that can have a low-rank change.",
        where="lora.targets",
        remedy=f"There are: {', '.join(paths)}.",
      )
  return tuple(
    name
    for path, name in paths.items()
    if any(fnmatch.fnmatch(path, pattern) for pattern in lora.targets)
  )


def delta_specs(c: ModelConfig, lora: LoraConfig) -> Params:
  """Specs of the parameters of a delta, which are float32.

  A starts as PyTorch's linear layers do, uniform up to 1 / sqrt(inputs), and B
  starts at zero, so that a new delta changes nothing.
  """
  blocks = param_specs(c)["blocks"]
  changes = {}
  for name in targets(c, lora):
    spec, n = blocks[name], 1 + inputs(name)  # the first axis is the layers'
    bound = math.prod(spec.shape[1:n]) ** -0.5
    first, last = spec.shape[:1], spec.axes[:1]
    changes[name] = {
      "a": ParamSpec(
        (*spec.shape[:n], lora.rank), (*spec.axes[:n], None), _uniform(bound)
      ),
      "b": ParamSpec(
        (*first, lora.rank, *spec.shape[n:]),
        (*last, None, *spec.axes[n:]),
        jax.nn.initializers.zeros,
      ),
    }
    if lora.use_dora:
      changes[name]["magnitude"] = ParamSpec(
        (*first, *spec.shape[n:]),
        (*last, *spec.axes[n:]),
        jax.nn.initializers.ones,  # init_delta sets the columns' lengths
      )
  return {"blocks": changes}


def _uniform(bound):
  def init(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def init_delta(
  c: ModelConfig, lora: LoraConfig, base: Params, key: Array
) -> Params:
  """A new delta, which changes nothing yet.

  Args:
    c: the model's config.
    lora: which weights get a change, and of what rank.
    base: parameters of the model; the lengths of their columns are DoRA's first
      magnitudes.
    key: PRNG key of A's values.
  """
  delta = init_params(delta_specs(c, lora), key)
  if lora.use_dora:
    for name, change in delta["blocks"].items():
      measure = jax.vmap(functools.partial(lengths, inputs=inputs(name)))
      change["magnitude"] = measure(base["blocks"][name])
  return delta


def join(lora: LoraConfig, delta: Params, base: Params) -> Params:
  """The policy's parameters: the base with the delta's changes beside it.

  Nothing is computed, and no array is copied.
  """
  changed = {
    name: LowRank(base["blocks"][name], scale=lora.scale, **change)
    for name, change in delta["blocks"].items()
  }
  return base | {"blocks": base["blocks"] | changed}


def merge(params: Params) -> Params:
  """Parameters with every low-rank change added to its weight."""
  return params | {
    "blocks": {
      name: jax.vmap(whole)(x) if isinstance(x, LowRank) else x
      for name, x in params["blocks"].items()
    }
  }

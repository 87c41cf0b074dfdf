"""What of a policy is trained: everything, some by path, or a low-rank change.

The policy is in two trees: the state's, which updates change, and the frozen
rest, which they don't: it has neither gradients nor optimiser states, and it
may be the reference's memory, too.
"""

import fnmatch
import functools
from collections.abc import Callable
from typing import NamedTuple

from flax import traverse_util

from jalign.errors import UserError
from jalign.models import ModelConfig, lora, param_specs
from jalign.types import Array, Params


class Trainable(NamedTuple):
  """One way to cut a policy in two.

  Attributes:
    specs: of the trained parameters.
    start: `(policy, key) -> trained parameters`.
    frozen: `policy -> the rest`, without copying.
    join: `(trained, rest) -> policy`, without computing.
    whole: `policy -> plain parameters`.
    title: for people; "" where everything is trained.
  """

  specs: Params
  start: Callable[[Params, Array], Params]
  frozen: Callable[[Params], Params]
  join: Callable[[Params, Params], Params]
  whole: Callable[[Params], Params] = lambda policy: policy
  title: str = ""


def everything(c: ModelConfig) -> Trainable:
  """All parameters."""
  return Trainable(
    param_specs(c),
    start=lambda policy, key: policy,
    frozen=lambda policy: {},
    join=lambda trained, frozen: trained,
  )


def by_path(c: ModelConfig, patterns: tuple[str, ...]) -> Trainable:
  """The parameters whose paths match.

  Args:
    c: the model's config.
    patterns: as a shell has them: "blocks/*", "embed". Layers are stacked: a
      pattern is of all layers.

  Raises:
    UserError: a pattern matches nothing.
  """
  specs = traverse_util.flatten_dict(param_specs(c), sep="/")
  for pattern in patterns:
    if not fnmatch.filter(specs, pattern):
      raise UserError(
        f"{pattern!r} matches no parameter.",
        where="trainable",
        remedy=f"There are: {', '.join(specs)}.",
      )

  def chosen(tree, wanted=True):
    flat = traverse_util.flatten_dict(tree, sep="/")
    parameters = {
      path: x
      for path, x in flat.items()
      if any(fnmatch.fnmatch(path, p) for p in patterns) == wanted
    }
    return traverse_util.unflatten_dict(parameters, sep="/")

  def join(trained, frozen):
    flat = (traverse_util.flatten_dict(t, sep="/") for t in (frozen, trained))
    return traverse_util.unflatten_dict(
      functools.reduce(lambda a, b: a | b, flat), sep="/"
    )

  return Trainable(
    chosen(param_specs(c)),
    start=lambda policy, key: chosen(policy),
    frozen=functools.partial(chosen, wanted=False),
    join=join,
    title=f"the parameters {', '.join(patterns)}",
  )


def low_rank(c: ModelConfig, config: lora.LoraConfig) -> Trainable:
  """LoRA: the rest is the whole start, which the reference can be, too."""
  kind = "DoRA" if config.use_dora else "LoRA"
  return Trainable(
    lora.delta_specs(c, config),
    start=functools.partial(lora.init_delta, c, config),
    frozen=lambda policy: policy,
    join=functools.partial(lora.join, config),
    whole=lora.merge,
    title=f"{kind} of rank {config.rank} on "
    + ", ".join(lora.targets(c, config)),
  )


def trainable(
  c: ModelConfig, config: lora.LoraConfig, patterns: tuple[str, ...]
) -> Trainable:
  """What a stage's settings ask for.

  Raises:
    UserError: for both at once; or see `by_path` and `lora.targets`.
  """
  if config.rank and patterns:
    raise UserError(
      "a low-rank change is trained instead of parameters.",
      where="trainable",
      remedy="Leave it empty, or set lora.rank to 0.",
    )
  if config.rank:
    return low_rank(c, config)
  return by_path(c, patterns) if patterns else everything(c)

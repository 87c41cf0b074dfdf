"""Which part of a policy is trained: all, some paths, or a low-rank change.

The policy lies in two trees: the state's, which updates change, and the frozen
rest, which they don't. The frozen tree has neither gradients nor optimiser
states, and may share the reference's memory.
"""

import fnmatch
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import traverse_util

from jalign.errors import UserError
from jalign.models import ModelConfig, lora, param_specs
from jalign.models.spec import ParamSpec
from jalign.types import Array, Params

MODEL, HEAD = "model", "head"  # the two trees of a model with a score head


class Trainable(NamedTuple):
  """A way to divide a policy into a trained and a frozen part.

  Attributes:
    specs: partition specs of the trained parameters.
    start: `(policy, key) -> trained parameters`.
    frozen: `policy -> frozen parameters`, without copying.
    join: `(trained, frozen) -> policy`, without computing.
    whole: `policy -> plain parameters`, with a low-rank change merged in.
    title: description for readers; "" if everything is trained.
  """

  specs: Params
  start: Callable[[Params, Array], Params]
  frozen: Callable[[Params], Params]
  join: Callable[[Params, Params], Params]
  whole: Callable[[Params], Params] = lambda policy: policy
  title: str = ""


def everything(c: ModelConfig) -> Trainable:
  """Trains all parameters."""
  return Trainable(
    param_specs(c),
    start=lambda policy, key: policy,
    frozen=lambda policy: {},
    join=lambda trained, frozen: trained,
  )


def by_path(c: ModelConfig, patterns: tuple[str, ...]) -> Trainable:
  """Trains the parameters whose paths match.

  Args:
    c: the model's config.
    patterns: patterns as in a shell: "blocks/*", "embed". Layers are stacked,
      so that a pattern matches all layers.

  Raises:
    UserError: a pattern matches nothing.
  """
  specs = traverse_util.flatten_dict(param_specs(c), sep="/")
  for pattern in patterns:
    if not fnmatch.filter(specs, pattern):
      raise UserError(
        f"{pattern!r} matches no parameter.",
        where="trainable",
        remedy=f"The parameters are: {', '.join(specs)}.",
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
  """Trains a LoRA or DoRA change.

  The frozen part is the whole policy at the start, which may also serve as the
  reference.
  """
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


def nothing(c: ModelConfig) -> Trainable:
  """Trains no parameter of the model, as where only a head is trained."""
  del c
  return Trainable(
    {},
    start=lambda policy, key: {},
    frozen=lambda policy: policy,
    join=lambda trained, frozen: frozen,
    title="none of the model's parameters",
  )


def has_head(params: Params) -> bool:
  """Whether parameters are a model's with those of a score head."""
  return set(params) == {MODEL, HEAD}


def model_of(params: Params) -> Params:
  """The parameters of the model, without those of a score head."""
  return params[MODEL] if has_head(params) else params


def with_head(part: Trainable, init: Callable[[Array], Params]) -> Trainable:
  """Trains a score head beside a part of the model that it reads.

  The policy, and the trained parameters, are then {"model": ..., "head": ...}.
  A start that has a head goes on with this head; another start gets a new one.

  Args:
    part: the part of the model that is trained.
    init: `key -> parameters` of a new head.

  Returns:
    The way to divide models with a head. Its `start` raises UserError for a
    start whose head has other parameters.
  """
  shapes = jax.eval_shape(init, jax.random.key(0))
  zeros = jax.nn.initializers.zeros  # never used: `init` makes the head
  alone = lambda x: ParamSpec(x.shape, (None,) * x.ndim, zeros)
  both = lambda model, head: {MODEL: model, HEAD: head}

  def start(policy, key):
    if not has_head(policy):
      return both(part.start(policy, key), init(jax.random.fold_in(key, 1)))
    check_head(policy[HEAD], shapes)
    return both(part.start(policy[MODEL], key), policy[HEAD])

  return Trainable(
    both(part.specs, jax.tree.map(alone, shapes)),
    start,
    frozen=lambda policy: part.frozen(model_of(policy)),
    join=lambda trained, frozen: both(
      part.join(trained[MODEL], frozen), trained[HEAD]
    ),
    whole=lambda policy: both(part.whole(policy[MODEL]), policy[HEAD]),
    title=f"a head and {part.title}" if part.title else "",
  )


def check_head(params: Params, shapes: Params) -> None:
  """Checks that a head's parameters have some shapes.

  Args:
    params: parameters of a head.
    shapes: parameters, or their shapes, of the head that is asked for.

  Raises:
    UserError: names or shapes differ.
  """
  told = lambda tree: {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(x.shape)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }
  there, asked = told(params), told(shapes)
  if there != asked:
    raise UserError(
      f"what the stage starts from has another head: {_shown(there)}, not"
      f" {_shown(asked)}.",
      where="head",
      remedy="Name the head that is there, with its settings; or start from a"
      " model without a head.",
    )


def _shown(shapes: dict[str, Any]) -> str:
  return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def trainable(
  c: ModelConfig, config: lora.LoraConfig, patterns: tuple[str, ...]
) -> Trainable:
  """The part that a stage's settings train.

  Args:
    c: the model's config.
    config: a low-rank change; none if its rank is 0.
    patterns: paths as in `by_path`; () for all parameters.

  Raises:
    UserError: both are given; or as in `by_path` and `lora.targets`.
  """
  if config.rank and patterns:
    raise UserError(
      "a low-rank change is trained instead of parameters.",
      where="trainable",
      remedy="Leave trainable empty, or set lora.rank to 0.",
    )
  if config.rank:
    return low_rank(c, config)
  return by_path(c, patterns) if patterns else everything(c)

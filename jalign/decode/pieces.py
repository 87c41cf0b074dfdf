"""The pieces of a rollout as programs of their own, lowered from shapes.

A rollout is one program. Its pieces are compiled by themselves only to see what
each of them costs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jalign.decode.generate import (
  as_policy,
  generate,
  static_arguments,
  step,
)
from jalign.decode.regroup import regroup
from jalign.decode.row_state import Prompts, empty_output, start
from jalign.sharding import laid, rows_at
from jalign.types import Params

Platforms = tuple[str, ...] | None  # None for that of the arguments' devices


def _lower(
  program: Any, platforms: Platforms, *arguments: Any
) -> jax.stages.Lowered:
  return program.trace(*arguments).lower(lowering_platforms=platforms)


class Pieces:
  """Preparation of the parameters, prefill, and a step of the loop.

  Args:
    policy: as for `generate`.
    params: the shapes and shardings of the policy's params.
    prompts: [B, T] int32, its shape and sharding.
    prompt_lengths: [B] int32.
    keys: [B * K] PRNG keys.
    **options: the options of `generate`; all rows are decoded at once.
  """

  def __init__(
    self,
    policy: Any,
    params: Params,
    prompts: Any,
    prompt_lengths: Any,
    keys: Any,
    **options: Any,
  ):
    defaults = generate.__kwdefaults__ or {}
    padded, static = static_arguments(
      prompts.shape, keys, **(defaults | options | {"slots": None})
    )
    self._policy, self._params, self._keys = as_policy(policy), params, keys
    self._tokens = prompts.update(shape=(prompts.shape[0], padded))
    self._lengths, self._options = prompt_lengths, static["options"]
    self._rows = prompts.shape[0] * static["samples"]
    self._size = padded + self._options.capacity
    # Compiled once, although two programs ask for it.
    self.prepare = functools.cache(self._prepare)

  def _prepare(self, platforms: Platforms = None) -> jax.stages.Lowered:
    """Params in the form and the layout of decoding."""
    prepare = self._policy.prepare
    with regroup(self._policy.layout.tensor) as home:
      program = jax.jit(lambda params: prepare(params, self._rows, home))
      return _lower(program, platforms, self._params)

  @functools.cached_property
  def prepared(self) -> Params:
    """Shapes and shardings of the prepared params, as the compiler lays them.

    The program that prepares them is compiled for it.
    """
    lowered = self.prepare()
    return laid(lowered.out_info, lowered.compile().output_shardings)

  @functools.cached_property
  def cache(self) -> Any:
    """Shapes and shardings of the cache of all rows."""
    with regroup(self._policy.layout.tensor):
      lowered = jax.jit(
        lambda params: self._policy.init_cache(params, self._rows, self._size)
      ).lower(self.prepared)
      return laid(lowered.out_info, lowered.compile().output_shardings)

  def prefill(self, platforms: Platforms = None) -> jax.stages.Lowered:
    """A new cache with all prompts, and the logits after each of them."""
    policy, rows = self._policy, self._tokens.shape[0]

    def read(params, tokens, lengths):
      cache = policy.init_cache(params, rows, self._size)
      return policy.extend(params, tokens, lengths, cache)

    with regroup(policy.layout.tensor):
      arguments = self._here((self._tokens, self._lengths))
      return _lower(jax.jit(read), platforms, self.prepared, *arguments)

  def step(self, platforms: Platforms = None) -> jax.stages.Lowered:
    """One turn of the loop: a token for every row."""
    policy, options = self._policy, self._options
    with regroup(policy.layout.tensor):
      count = self._rows
      shape: Any = jax.ShapeDtypeStruct
      one = shape((count,), jnp.int32)
      prompts = Prompts(
        shape((count, self._tokens.shape[1]), jnp.int32),
        one,
        shape(self._keys.shape, self._keys.dtype),
        shape((), jnp.int32),
      )
      logits = jax.eval_shape(
        lambda p, c, x: policy.extend(p, x[:, None], x, c)[0],
        self.prepared,
        self.cache,
        one,
      )
      parts = logits if isinstance(logits, tuple) else (logits,)
      rows, output = jax.eval_shape(
        lambda cache: (
          start(
            cache,
            jnp.arange(count, dtype=jnp.int32),
            options,
            parts[0].shape[-1],
          ),
          empty_output(count, len(parts), options),
        ),
        self.cache,
      )
      rows, output, prompts = self._here((rows, output, prompts))
      rows = rows.replace(cache=self.cache)
      where = jax.tree.map(lambda x: x.sharding, (rows, output))
      program = jax.jit(
        functools.partial(step, policy, options),
        donate_argnums=(2, 3),
        out_shardings=where,
      )
      arguments = self.prepared, prompts, rows, output
      return _lower(program, platforms, *arguments)

  def _here(self, tree: Any) -> Any:
    """Rows, laid over the current mesh."""
    mesh = jax.sharding.get_mesh()
    return laid(tree, jax.tree.map(lambda x: rows_at(x, mesh), tree))

  @property
  def programs(self) -> Mapping[str, Callable[..., jax.stages.Lowered]]:
    """Name of each piece -> function that lowers it."""
    return {"prepare": self.prepare, "prefill": self.prefill, "step": self.step}

"""Small models for tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jalign.models import ModelConfig, transformer

TINY = ModelConfig(
  vocab_size=64,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  attention_bias=True,
  qk_norm=True,
  # Large enough that logits, and so errors in them, aren't small.
  initializer_range=0.25,
)


def tiny(**changes):
  """(config, model, params), with biases that are random rather than zero."""
  config = dataclasses.replace(TINY, **changes)
  params = jax.tree.map(jnp.array, _params(config))
  return config, transformer(config), params


@functools.cache
def _params(config):
  """Parameters on the host, drawn once for each config."""
  params = jax.jit(transformer(config).init)(jax.random.key(0))
  for i, name in enumerate(("bq", "bk", "bv")):
    if name in params["blocks"]:
      old = params["blocks"][name]
      params["blocks"][name] = 0.3 * jax.random.normal(
        jax.random.key(10 + i), old.shape
      )
  return jax.tree.map(np.asarray, params)

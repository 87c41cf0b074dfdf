"""Decoding on another mesh of the same devices than the parameters lie on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import sharding
from jalign.decode import (
  MixtureParams,
  generate,
  geometric,
  lower,
  regrouped,
)
from jalign.errors import UserError
from jalign.models import lora, param_specs, transformer
from jalign.sharding import batch_sharding
from tests import programs
from tests.models.lora_test import CONFIGS, random_delta
from tests.models.tiny import tiny

ROWS, WIDTH, VOCAB, HIDDEN = 16, 11, 1024, 64
SIZES = dict(
  num_hidden_layers=1,
  hidden_size=HIDDEN,
  num_attention_heads=8,
  num_key_value_heads=8,
  intermediate_size=96,
  vocab_size=VOCAB,
)


def placed(params, specs, mesh):
  return jax.device_put(params, sharding.shardings(specs, mesh))


def asked():
  prompts = jax.random.randint(jax.random.key(1), (ROWS, WIDTH), 0, VOCAB)
  lengths = 1 + jnp.arange(ROWS) * 7 % WIDTH
  return prompts, lengths, jax.random.split(jax.random.key(2), ROWS)


def sampled(policy, params, **options):
  return generate(
    policy, params, *asked(), max_new_tokens=8, stop_ids=(3,), **options
  )


def same(got, want, atol=2e-5):
  np.testing.assert_array_equal(got.sequences.tokens, want.sequences.tokens)
  np.testing.assert_array_equal(got.sequences.mask, want.sequences.mask)
  np.testing.assert_allclose(got.logps, want.logps, atol=atol)
  np.testing.assert_allclose(got.model_logps, want.model_logps, atol=atol)


@pytest.mark.parametrize(
  "sizes, tensor, grid",
  [
    ((1, 8, 1), 4, (1, 2, 4)),
    ((2, 4, 1), 2, (2, 2, 2)),
    ((2, 1, 4), 8, (1, 1, 8)),
    ((8, 1, 1), 2, (4, 1, 2)),
    ((1, 2, 4), 1, (1, 8, 1)),
    ((2, 2, 2), 2, (2, 2, 2)),
  ],
)
def test_devices_keep_their_order(sizes, tensor, grid):
  mesh = sharding.make_mesh(*sizes)
  for one in (mesh, mesh.abstract_mesh):
    assert tuple(regrouped(one, tensor).shape.values()) == grid
  order = regrouped(mesh, tensor).devices.ravel().tolist()
  assert order == mesh.devices.ravel().tolist()
  with pytest.raises(UserError, match=r"decode_tensor.*\b3 doesn't divide.*8"):
    regrouped(mesh, 3)


@pytest.mark.parametrize(
  "sizes, tensor",
  [
    ((1, 8, 1), 4),
    pytest.param((2, 4, 1), 8, marks=pytest.mark.slow),
    pytest.param((1, 1, 8), 2, marks=pytest.mark.slow),
    pytest.param((8, 1, 1), 2, marks=pytest.mark.slow),
  ],
)
def test_the_same_tokens_on_another_mesh(sizes, tensor):
  config, model, params = tiny(**SIZES)
  want = sampled(model, params)
  mesh = sharding.make_mesh(*sizes)
  on = placed(params, param_specs(config), mesh)
  with jax.set_mesh(mesh):
    got = sampled(transformer(config, tensor), on)
  same(got, want)
  # The rows lie as training has them.
  assert got.logps.sharding.mesh == mesh
  ways = sharding.axis_size(mesh, sharding.BATCH_AXES)
  shard = got.logps.sharding.shard_shape(got.logps.shape)
  assert shard[0] == ROWS // ways


def test_a_mixture_in_refilled_rows():
  config, model, params = tiny(**SIZES)
  other = model.init(jax.random.key(7))
  weights = jnp.linspace(0, 1, ROWS)
  want = sampled(geometric(model, model), MixtureParams(params, other, weights))
  mesh = sharding.make_mesh(2, 4, 1)
  on = [placed(p, param_specs(config), mesh) for p in (params, other)]
  model = transformer(config, 4)
  with jax.set_mesh(mesh):
    pair = MixtureParams(*on, weights)
    got = sampled(geometric(model, model), pair, slots=8, chunk=4)
  same(got, want)


@pytest.mark.slow
def test_a_low_rank_change_and_an_int8_cache():
  config, model, base = tiny(**SIZES, cache_dtype="int8")
  settings = CONFIGS["lora"]
  delta = random_delta(config, settings, base)
  want = sampled(model, lora.join(settings, delta, base))
  mesh = sharding.make_mesh(1, 4, 2)
  delta = placed(delta, lora.delta_specs(config, settings), mesh)
  base = placed(base, param_specs(config), mesh)
  with jax.set_mesh(mesh):
    policy = lora.join(settings, delta, base)
    got = sampled(transformer(config, 8), policy)
  same(got, want, atol=2e-2)


@pytest.mark.parametrize("slots", [None, 8])
def test_weights_are_gathered_once_and_caches_stay_where_they_are(slots):
  config, model, params = tiny(**SIZES)
  mesh = sharding.make_mesh(1, 8, 1)
  at = sharding.shardings(param_specs(config), mesh)
  shape = lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
  rows = [shape(x, batch_sharding(mesh)) for x in asked()]
  with jax.set_mesh(mesh):
    lowered = lower(
      transformer(config, 4),
      jax.tree.map(shape, params, at),
      *rows,
      max_new_tokens=32,
      stop_ids=(3,),
      slots=slots,
      admit=4,
      chunk=4,
    )
    exchanges = programs.exchanges(lowered.compile().as_text())
  whole = VOCAB * HIDDEN  # the head, which is the largest weight
  before = [x for x in exchanges if not x.loop]
  gathers = [x.size for x in before if x.kind == "all-gather"]
  assert max(x.size for x in before) == max(gathers) == whole // 4
  # Of the parts of all devices, each device first gets what it will gather.
  assert max(x.size for x in before if x.kind == "all-to-all") <= whole // 8
  # Hidden states of a step are as large, and a row's cache is larger.
  assert max(x.size for x in exchanges if x.loop) <= ROWS // 2 * HIDDEN

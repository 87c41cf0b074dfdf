"""Bytes by formula: of memory, of a step, of links; by hand and as measured."""

import jax
import jax.numpy as jnp
import pytest

from jalign import sharding
from jalign.models import ModelConfig, param_specs, transformer
from jalign.plan import least, memory, rules
from jalign.plan.workload import Rollout, Score, Update

TINY = ModelConfig(
  64, 32, 48, 2, 4, 2, tie_word_embeddings=False, dtype="bfloat16"
)
PARAMETERS = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32
PARAMETERS += 2 * 64 * 32
NORMS = 2 * 2 * 32 + 32
QWEN_8B = ModelConfig(
  vocab_size=151936,
  hidden_size=4096,
  intermediate_size=12288,
  num_hidden_layers=36,
  num_attention_heads=32,
  num_key_value_heads=8,
  head_dim=128,
  qk_norm=True,
  tie_word_embeddings=False,
  dtype="bfloat16",
)


def test_what_training_holds_by_hand():
  work = Update(rows=8, tokens=16, reference=True)
  found = memory.of(TINY, work, rules.mesh_of((1, 1, 1)))
  assert found["parameters"] == found["reference"] == 4 * PARAMETERS
  parts = memory.of(TINY, Update(8, 16, 2), rules.mesh_of((1, 1, 1)))
  assert parts["gradients"] == 3 * 4 * PARAMETERS  # the sum so far, a part, new
  assert found["optimiser"] == 8 * PARAMETERS
  # Norms are whole on every device.
  split = memory.of(TINY, work, rules.mesh_of((2, 2, 2)))
  held = (PARAMETERS - NORMS) // 4 + NORMS
  assert split["parameters"] == 4 * held
  assert split["optimiser"] == 8 * held
  assert split["activations"] < found["activations"] / 4


def test_settings_that_save_memory_save_it_where_they_should():
  mesh = rules.mesh_of((1, 4, 1))
  of = lambda **kwargs: memory.of(
    TINY, Update(**{"rows": 64, "tokens": 32, "reference": True} | kwargs), mesh
  )
  base = of()
  assert of(moments="bfloat16")["optimiser"] * 2 == base["optimiser"]
  assert of(reference=False)["reference"] == 0
  assert of(reference=False, kept=True)["reference"] == base["reference"]
  parts = of(microbatches=4)
  assert parts["activations"] < base["activations"] / 3
  change = of(rank=2, changed=("wq",))
  assert change["reference"] == 0  # the frozen parameters are the reference
  # A [32, 2] split over fsdp, and B [2, 32] whole, for each layer.
  own = 4 * 2 * (8 * 2 + 2 * 32)
  assert change["optimiser"] == 2 * own
  assert change["parameters"] == base["parameters"] + own
  chosen = of(trained=frozenset({"embed"}), microbatches=2)
  assert chosen["gradients"] == 3 * 4 * 64 * 32 / 4
  remat = {
    name: memory.of(
      ModelConfig(**vars(TINY) | {"remat": name, "num_hidden_layers": 8}),
      Update(64, 32, reference=True),
      mesh,
    )["activations"]
    for name in ("block", "dots", "none")
  }
  assert remat["block"] < remat["dots"] < remat["none"]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_cache_is_as_large_as_the_arrays(dtype):
  c = ModelConfig(**vars(TINY) | {"cache_dtype": dtype})
  cache = jax.eval_shape(lambda: transformer(c).init_cache({}, 3, 7))
  arrays = jax.tree.leaves((cache.k, cache.v, cache.k_scale, cache.v_scale))
  held = 3 * 7 * memory.cache_bytes(c, rules.mesh_of((1, 1, 1)))
  assert held == sum(x.size * jnp.dtype(x.dtype).itemsize for x in arrays)


def test_decoding_weights_are_what_prepare_makes():
  mesh = sharding.make_mesh(1, 4, 2)
  where = sharding.shardings(param_specs(TINY), mesh)
  model = transformer(TINY)
  with jax.set_mesh(mesh):
    params = jax.jit(model.init, out_shardings=where)(jax.random.key(0))
    prepared = jax.jit(model.prepare, static_argnums=1)(params, 8)
  held = sum(
    x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(prepared)
  )
  assert memory.decoding_bytes(TINY, mesh) == held


def test_the_bytes_of_a_step_are_those_of_its_compiled_program():
  """4.388 GB of weights and cache; the loop's HLO for a v5e moves 4.389 GB."""
  mesh = rules.mesh_of((1, 4, 4))
  work = Rollout(prompts=64, samples=1, width=512, new=512)
  cache = memory.of(QWEN_8B, work, mesh)["cache"]
  step = least.step_weights(QWEN_8B, mesh) + cache
  assert step == pytest.approx(4.389e9, rel=1e-3)
  more = Rollout(prompts=64, samples=1, width=512, new=513)
  moved = [least.of(QWEN_8B, w, mesh).memory for w in (work, more)]
  assert moved[1] - moved[0] > step
  # Prompts read once are as many tokens of cache as prompts read four times.
  again = Rollout(prompts=16, samples=4, width=512, new=512)
  assert memory.of(QWEN_8B, again, mesh)["cache"] == cache


def test_bytes_on_links_by_hand():
  c, work = TINY, Update(rows=8, tokens=16, reference=True)
  alone = least.of(c, work, rules.mesh_of((1, 1, 1)))
  assert alone.sent == 0
  # Bfloat16 weights for the policy's two passes and the reference's one; each
  # device has a quarter, so it sends three quarters of all.
  links = least.of(c, work, rules.mesh_of((1, 4, 1))).links
  assert links["gather parameters"] == 3 * 2 * PARAMETERS * 3 / 4
  held = 4 * ((PARAMETERS - NORMS) / 4 + NORMS)
  assert links["scatter gradients"] == held * 4 * 3 / 4
  assert links["sum activations"] == links["sum gradients"] == 0
  links = least.of(c, work, rules.mesh_of((2, 1, 1))).links
  assert links == {
    "gather parameters": 0,
    "scatter gradients": 0,
    "sum activations": 0,
    "sum gradients": 2 * 4 * PARAMETERS / 2,
  }
  # Of a layer: two sums in each of two forward passes, two in the backward pass
  # and one that it computes again, each of [8 * 16, 32] in bfloat16.
  links = least.of(c, work, rules.mesh_of((1, 1, 2))).links
  assert links["sum activations"] == 2 * 7 * 2 * (8 * 16 * 32 * 2) / 2
  score = least.of(c, Score(8, 16), rules.mesh_of((1, 1, 2))).links
  assert score["sum activations"] == 2 * 2 * 2 * (8 * 16 * 32 * 2) / 2


def test_more_microbatches_gather_more_often():
  mesh = rules.mesh_of((1, 4, 1))
  once, twice = (
    least.of(TINY, Update(8, 16, parts), mesh).links for parts in (1, 2)
  )
  for name in ("gather parameters", "scatter gradients"):
    assert twice[name] == 2 * once[name]

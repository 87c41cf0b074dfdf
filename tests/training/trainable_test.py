"""Only trained parameters change, and only they cost memory."""

import functools

import jax
import numpy as np
import pytest

from jalign import losses, sharding
from jalign.errors import UserError
from jalign.models.lora import LoraConfig
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig, decayed, make_optimizer
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update
from jalign.training.trainable import trainable
from tests.models.tiny import tiny
from tests.training import batches

LORA, NONE = LoraConfig(rank=2), LoraConfig()
DPO = functools.partial(losses.dpo, beta=0.3)


def _trained(settings, patterns=(), steps=4, mesh=None, microbatches=1):
  """(base, trained part, its start, policy, losses, bytes of the state)."""
  config, model, base = tiny()
  part = trainable(config, settings, patterns)
  optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2), 10)
  begin = functools.partial(part.start, key=jax.random.key(1))
  placement = None
  if mesh is not None:
    placement = state_shardings(
      optimizer,
      jax.eval_shape(begin, base),
      sharding.shardings(part.specs, mesh),
      mesh,
    )
  objective = make_objective(DPO, model, batch="pairs")
  update = make_update(
    objective, optimizer, placement, microbatches=microbatches, join=part.join
  )
  state = init_state(base, optimizer, placement, begin)
  start = jax.device_get(state.params)
  bytes_of = sum(x.nbytes for x in jax.tree.leaves(state))
  frozen, said = part.frozen(base), []
  batch = batches.pairs(8)
  for _ in range(steps):
    state, sums = update(state, batch, base, frozen)
    said.append(float(sums["loss"][0] / sums["loss"][1]))
  policy = jax.device_get(part.whole(part.join(state.params, frozen)))
  assert update._cache_size() <= 1
  return base, jax.device_get(state.params), start, policy, said, bytes_of


def test_lora_trains_the_change_alone():
  base, delta, start, policy, said, size = _trained(LORA)
  assert said[0] == pytest.approx(np.log(2), abs=1e-5)  # it is its reference
  assert said[-1] < said[0] - 0.05
  assert jax.tree.structure(policy) == jax.tree.structure(base)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), policy, base)
  blocks = moved.pop("blocks")
  changed = ("wq", "wk", "wv", "wo", "gate", "up", "down")
  assert all((blocks[k] > 0) == (k in changed) for k in blocks), blocks
  assert set(jax.tree.leaves(moved)) == {0.0}
  # The state has the change, two moments and counters, and not the base.
  own = sum(x.nbytes for x in jax.tree.leaves(delta))
  assert 3 * own <= size < 3 * own + 100
  assert jax.tree.structure(delta) == jax.tree.structure(start)


def test_only_some_paths_are_trained():
  base, trained, _, policy, said, size = _trained(NONE, ("blocks/w?", "norm"))
  assert set(trained) == {"blocks", "norm"} and said[-1] < said[0]
  assert set(trained["blocks"]) == {"wq", "wk", "wv", "wo"}
  same = jax.tree.map(np.array_equal, policy, jax.device_get(base))
  assert not any(jax.tree.leaves({k: same["blocks"][k] for k in ("wq", "wo")}))
  assert same["embed"] and same["blocks"]["up"] and same["blocks"]["q_norm"]
  own = sum(x.nbytes for x in jax.tree.leaves(trained))
  assert 3 * own <= size < 3 * own + 100


def test_all_paths_are_everything():
  _, _, _, every, said, _ = _trained(NONE)
  _, _, _, same, also, _ = _trained(NONE, ("*",))
  assert said == also
  jax.tree.map(np.testing.assert_array_equal, every, same)


@pytest.mark.parametrize(
  "settings",
  [
    pytest.param(LORA, marks=pytest.mark.slow),  # DoRA trains the same and more
    LoraConfig(rank=2, use_dora=True),
  ],
)
def test_sharded_and_accumulated_equal_the_plain_update(settings):
  *_, want, said, _ = _trained(settings)
  with jax.set_mesh(sharding.make_mesh(2, 2, 2)):
    mesh = sharding.make_mesh(2, 2, 2)
    *_, got, also, _ = _trained(settings, mesh=mesh, microbatches=2)
  np.testing.assert_allclose(also, said, rtol=1e-3)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), got, want
  )


def test_what_weight_decay_leaves_alone():
  config, _, _ = tiny(
    norm_type="layer",
    attention_out_bias=True,
    mlp_bias=True,
    qk_norm=False,
    learned_positions=16,
  )
  part = trainable(config, NONE, ())
  shapes = jax.tree.map(lambda s: np.zeros(s.shape), part.specs)
  mask = decayed(shapes)
  on = {k for k, v in mask["blocks"].items() if v}
  assert on == {"wq", "wk", "wv", "wo", "gate", "up", "down"}
  assert {k for k, v in mask.items() if v is True} == {
    "embed",
    "position_embed",
  }
  dora = trainable(config, LoraConfig(rank=2, use_dora=True), ())
  mask = decayed(jax.tree.map(lambda s: np.zeros(s.shape), dora.specs))
  assert mask["blocks"]["wq"] == {"a": True, "b": True, "magnitude": False}


def test_what_cannot_be_trained():
  config, _, _ = tiny()
  with pytest.raises(UserError, match=r"'heads' matches no.*embed"):
    trainable(config, NONE, ("heads",))
  with pytest.raises(UserError, match="low-rank"):
    trainable(config, LORA, ("*",))

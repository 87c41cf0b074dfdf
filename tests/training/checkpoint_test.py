"""Checkpoints: exact to the bit, on any mesh, and resumed as if unstopped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import data, losses, sharding
from jalign.errors import UserError
from jalign.models import param_specs
from jalign.sharding import place
from jalign.training import loop
from jalign.training.checkpoint import Checkpoints, versions
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import TrainState, init_state, state_shardings
from jalign.training.step import make_update
from tests.models.tiny import tiny

OPTIMIZER = make_optimizer(OptimizerConfig(learning_rate=1e-2), 8)


def _shardings(config, params, mesh):
  layout = sharding.shardings(param_specs(config), mesh)
  return state_shardings(OPTIMIZER, params, layout, mesh)


def _state(mesh, seed=0, **changes):
  """A training state of random numbers, moments included."""
  config, model, _ = tiny(**changes)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  shapes = TrainState(
    jax.ShapeDtypeStruct((), jnp.int32),
    shapes,
    jax.eval_shape(OPTIMIZER.init, shapes),
  )
  rng = np.random.default_rng(seed)
  state = jax.tree.map(
    lambda s: (
      rng.normal(size=s.shape).astype(s.dtype)
      if jnp.issubdtype(s.dtype, jnp.floating)
      else np.full(s.shape, 3, s.dtype)
    ),
    shapes,
  )
  return jax.device_put(state, _shardings(config, shapes.params, mesh))


def _host(tree):
  return jax.tree.map(np.array, jax.device_get(tree))


def _same_bits(a, b):
  a, b = _host(a), _host(b)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)
  ):
    assert x.dtype == y.dtype and x.tobytes() == y.tobytes(), path


def _save(folder, state, position=None, meta=None):
  checkpoints = Checkpoints(folder)
  checkpoints.save(state, data=position, meta=meta or {})
  checkpoints.close()


def _restore(folder, like):
  checkpoints = Checkpoints(folder)
  try:
    return checkpoints.restore(like)
  finally:
    checkpoints.close()


def test_round_trip_onto_another_mesh_is_exact(tmp_path):
  saved = _state(sharding.make_mesh(2, 2, 2))
  position = {"position": {"next_index": 7}, "fingerprint": "f"}
  config = {"loss": {"name": "dpo", "beta": 0.1}, "buckets": [32, 64]}
  _save(tmp_path, saved, position, {"config": config})
  for sizes in ((2, 2, 2), (1, 8, 1), (4, 1, 2)):
    mesh = sharding.make_mesh(*sizes)
    like = _state(mesh, seed=1)
    restored = _restore(tmp_path, like)
    _same_bits(saved, restored.state)
    for x, y in zip(jax.tree.leaves(restored.state), jax.tree.leaves(like)):
      assert x.sharding.is_equivalent_to(y.sharding, x.ndim)
  assert restored.data == position
  assert restored.meta["config"] == config
  assert restored.meta["versions"] == versions()
  assert versions()["jax"] == jax.__version__
  assert {"jalign", "jaxlib", "flax", "optax", "orbax", "numpy"} <= set(
    versions()
  )


def test_params_alone_onto_another_mesh(tmp_path):
  saved = _state(sharding.make_mesh(2, 2, 2))
  _save(tmp_path, saved)
  like = _state(sharding.make_mesh(1, 8, 1), seed=1).params
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
  )
  checkpoints = Checkpoints(tmp_path)
  got = checkpoints.restore_params(shapes)
  checkpoints.close()
  _same_bits(saved.params, got)
  assert got["embed"].sharding == like["embed"].sharding


@pytest.mark.parametrize(
  "changes, array",
  [
    ({"hidden_size": 64}, r"\[2, 32\] there and \[2, 64\] here"),
    ({"num_hidden_layers": 1}, r"\[2, 32\] there and \[1, 32\] here"),
    ({"qk_norm": False}, r"'k_norm'\] has shape \[2, 8\] there and None"),
  ],
  ids=["width", "depth", "params"],
)
def test_another_model_is_a_users_error(tmp_path, changes, array):
  mesh = sharding.make_mesh()
  _save(tmp_path, _state(mesh))
  other = _state(mesh, **changes)
  checkpoints = Checkpoints(tmp_path)
  for read in (
    lambda: checkpoints.restore(other),
    lambda: checkpoints.restore_params(other.params),
  ):
    with pytest.raises(
      UserError, match=f"step 3 doesn't fit.*{array}.*Use the"
    ):
      read()
  checkpoints.close()


def test_an_empty_folder_is_a_users_error(tmp_path):
  checkpoints = Checkpoints(tmp_path / "none")
  assert checkpoints.latest() is None
  with pytest.raises(UserError, match=r"none: the folder holds no complete"):
    checkpoints.restore(_state(sharding.make_mesh()))
  checkpoints.close()


def test_the_newest_are_kept_and_an_unfinished_one_does_not_count(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  state = TrainState(jnp.int32(0), {"w": jnp.zeros(2)}, ())
  at = lambda step: state.replace(
    step=jnp.int32(step), params={"w": jnp.full(2, float(step))}
  )
  for step in (1, 2, 3):
    checkpoints.save(at(step), data=step, meta={})
  checkpoints.save(at(3), data="again", meta={})  # is there: left alone
  checkpoints.close()
  steps = sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit())
  assert steps == ["2", "3"]
  (tmp_path / "4.orbax-checkpoint-tmp-0").mkdir()  # a crash while saving
  restored = _restore(tmp_path, state)
  assert restored.data == 3 and restored.state.params["w"][0] == 3


def test_some_are_kept_for_ever(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=3, keep_every=4)
  state = TrainState(jnp.int32(0), {"w": jnp.zeros(2)}, ())
  for step in range(2, 19, 2):
    checkpoints.save(state.replace(step=jnp.int32(step)), data=None, meta={})
  checkpoints.close()
  assert checkpoints.steps() == [4, 8, 12, 14, 16, 18]
  again = Checkpoints(tmp_path, keep=2)  # without the rule, the rest goes
  again.save(state.replace(step=jnp.int32(20)), data=None, meta={})
  again.close()
  assert again.steps() == [18, 20]


def test_a_donated_update_does_not_reach_a_save_under_way(tmp_path):
  """CPU buffers are reused in place, so a save copies before it returns."""
  update = jax.jit(
    lambda s: s.replace(
      step=s.step + 1, params=jax.tree.map(lambda x: x * 0 - 1, s.params)
    ),
    donate_argnums=0,
  )
  rng = np.random.default_rng(0)
  value = rng.normal(size=(1 << 20,)).astype(np.float32)
  state = TrainState(jnp.int32(1), {"w": jnp.array(value)}, ())
  like = jax.eval_shape(lambda s: s, state)
  update.lower(state).compile()
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(state, data=None, meta={})
  for _ in range(5):
    state = update(state)
  state.params["w"].block_until_ready()
  checkpoints.wait()
  got = checkpoints.restore(like)
  checkpoints.close()
  assert int(got.state.step) == 1
  assert np.asarray(got.state.params["w"]).tobytes() == value.tobytes()


# ------------------------------------------------------------------ resuming


def _examples(count=21):
  rng = np.random.default_rng(0)
  ids = lambda low, high: rng.integers(
    1, 64, rng.integers(low, high), dtype=np.int32
  )
  return [
    data.EncodedPair(ids(2, 5), ids(2, 9), ids(2, 9), f"d.jsonl:{i}")
    for i in range(count)
  ]


@functools.cache
def _program():
  """The compiled program, which doesn't depend on steps or data."""
  mesh = sharding.make_mesh(data=2, devices=jax.devices()[:2])
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  objective = make_objective(
    functools.partial(losses.dpo, beta=0.3), model, batch="pairs"
  )
  layout = _shardings(config, params, mesh)
  reference = jax.device_put(model.init(jax.random.key(5)), layout.params)
  update = make_update(objective, OPTIMIZER, layout)
  return mesh, params, layout, reference, update


class _Session:
  """State, data and checkpoints, built anew as in a new process."""

  def __init__(self, folder):
    self.mesh, params, layout, self.reference, self.update = _program()
    self.rows = []
    self.state = init_state(params, OPTIMIZER, layout)
    self.batches = data.make_loader(
      _examples(), data.collate_pairs, batch_size=8, buckets=(8, 16), seed=3
    )
    self.checkpoints = Checkpoints(folder)
    if self.checkpoints.latest() is not None:
      restored = self.checkpoints.restore(self.state)
      self.state = restored.state
      self.batches.set_state(restored.data)

  def train(self, steps):
    def prepare(state, batch):
      del state
      return loop.Placed((place(batch.data, self.mesh),), batch.sources, {})

    def write(step, values):
      del values["time/step_seconds"]
      self.rows.append((step, values))

    with jax.set_mesh(self.mesh):
      state = loop.run(
        self.state,
        steps=steps,
        batches=self.batches,
        prepare=prepare,
        update=self.update,
        ref_params=self.reference,
        write=write,
        log_every=2,
        save=lambda s, at: self.checkpoints.save(s, data=at, meta={}),
      )
    self.checkpoints.close()
    self.batches.close()
    return _host(state), self.rows


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path):
  """This holds past an epoch's end (4 batches), with buckets and fill rows."""
  whole, rows = _Session(tmp_path / "whole").train(8)
  half, first = _Session(tmp_path / "parts").train(4)
  resumed, second = _Session(tmp_path / "parts").train(8)
  assert (int(half.step), int(resumed.step)) == (4, 8)
  _same_bits(whole, resumed)
  assert rows == first + second
  assert [step for step, _ in rows] == [2, 4, 6, 8]
  # The compared states do change.
  assert not np.array_equal(half.params["embed"], resumed.params["embed"])
  losses_ = [values["train/loss"] for _, values in rows]
  assert len(set(losses_)) == len(losses_)


def test_a_position_in_other_data_is_refused(tmp_path):
  session = _Session(tmp_path)
  session.train(1)
  other = data.make_loader(
    _examples(), data.collate_pairs, batch_size=8, buckets=(8, 16), seed=4
  )
  restored = _restore(tmp_path, _Session(tmp_path).state)
  with pytest.raises(UserError, match="belongs to other data, or to another"):
    other.set_state(restored.data)
  other.close()

"""A saved state counts only after it has been read back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.sharding import make_mesh
from jalign.training import readback
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState


def _state(step, fill=1.0):
  w = fill + jax.random.normal(jax.random.key(0), (40, 40))
  params = {"w": w, "b": jnp.arange(4.0)}
  return TrainState(jnp.int32(step), params, {"mu": jnp.ones(5, jnp.bfloat16)})


def _save(folder, *states):
  checkpoints = Checkpoints(folder)
  for state in states:
    checkpoints.save(state, data=None, meta={})
  checkpoints.close()


@pytest.mark.parametrize("name", ["run[1]", "*", "a?", "[!a]", "50% {x}#~:ü"])
def test_a_path_is_a_path_and_no_pattern(tmp_path, name):
  _save(tmp_path / "ab", _state(2, fill=7.0))  # "a?" and "*" would match it
  _save(tmp_path / name, _state(2), _state(4), _state(6))
  found = Checkpoints(tmp_path / name)
  assert found.steps() == [4, 6]
  restored = found.restore(_state(0)).state
  jax.tree.map(np.testing.assert_array_equal, restored, _state(6))
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["ab", name])


@pytest.mark.parametrize("lost", ["ocdbt.process_0", "manifest.ocdbt"])
def test_what_cannot_be_read_back_does_not_count(tmp_path, monkeypatch, lost):
  _save(tmp_path, _state(2))
  check = readback.check

  def after_a_loss(folder, saved):
    path = folder / "params" / lost
    path.rename(folder.parent / "lost")
    check(folder, saved)

  monkeypatch.setattr(readback, "check", after_a_loss)
  with pytest.raises(UserError, match="doesn't count") as e:
    _save(tmp_path, _state(4))
  assert str(tmp_path) in str(e.value)
  assert Checkpoints(tmp_path).steps() == [2]


def test_another_array_is_noticed(tmp_path, monkeypatch):
  digests = readback.digests
  monkeypatch.setattr(
    readback,
    "digests",
    lambda tree: digests(jax.tree.map(lambda x: x + 1, tree)),
  )
  with pytest.raises(UserError, match="params isn't what was saved"):
    _save(tmp_path, _state(2))
  assert Checkpoints(tmp_path).steps() == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool"])
def test_checksums_agree_on_host_and_device(dtype, monkeypatch):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(7, 9)) * 3
  x[0, 0], x[3, 4] = 0, 1
  y = x.copy()
  y[0, 0], y[3, 4] = 1, 0  # two values change places
  x, y = (jnp.asarray(a, dtype) for a in (x, y))
  host, device = (
    [readback.digests({"x": a}) for a in (x, y)],
    [jax.device_get(readback.checksums(a)) for a in (x, y)],
  )
  assert [f[0].sums for f in host] == [tuple(map(int, d)) for d in device]
  assert host[0][0].sums[0] == host[1][0].sums[0]  # the plain sum misses it
  assert host[0] != host[1]
  monkeypatch.setattr(readback, "_CHUNK", 10)
  assert readback.digests({"x": x}) == host[0]


def test_no_array_is_gathered_for_its_checksum():
  """Each device sums its own part of an array that is split along two axes."""
  mesh = make_mesh(2, 2, 2)
  x = np.random.default_rng(0).normal(size=(8, 12, 16)).astype(np.float32)
  where = jax.NamedSharding(mesh, jax.P(None, "tensor", ("data", "fsdp")))
  split = jax.device_put(x, where)
  program = jax.jit(readback.checksums).lower(split).compile()
  whole = readback.digests({"x": jnp.asarray(x)})[0].sums
  assert tuple(map(int, program(split))) == whole
  text = program.as_text()
  assert "all-reduce" in text
  assert "all-gather" not in text and "all-to-all" not in text

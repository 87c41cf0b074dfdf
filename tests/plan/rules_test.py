"""What the sharding rules make of parameters, and all that is wrong at once."""

import jax
import pytest

from jalign import sharding
from jalign.errors import UserError
from jalign.models import ModelConfig, param_specs, transformer
from jalign.plan import rules
from jalign.sharding import RULES

MODEL = ModelConfig(96, 32, 48, 3, 4, 2, qk_norm=True)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 8, 1), (4, 1, 2)])
def test_a_row_is_what_a_device_holds(sizes):
  mesh = sharding.make_mesh(*sizes)
  rows = {row.path: row for row in rules.shards(param_specs(MODEL), mesh)}
  layout = sharding.shardings(param_specs(MODEL), mesh)
  params = jax.jit(transformer(MODEL).init, out_shardings=layout)(
    jax.random.key(0)
  )
  placed = sharding.by_path(
    jax.tree.map(lambda x: _Leaf(x.addressable_shards[0].data), params)
  )
  assert rows.keys() == placed.keys()
  for path, row in rows.items():
    assert row.shard == placed[path].axes.shape
    assert row.bytes == placed[path].axes.nbytes
    assert not row.fault
  total = rules.bytes_a_device(param_specs(MODEL), rules.mesh_of(sizes))
  assert total == sum(leaf.axes.nbytes for leaf in placed.values())


class _Leaf:
  def __init__(self, array):
    self.axes = array


def test_all_that_is_wrong_is_named():
  odd = ModelConfig(97, 32, 48, 3, 4, 2)
  rows = rules.shards(param_specs(odd), rules.mesh_of((1, 2, 4)))
  faulty = {row.path: row.fault for row in rows if row.fault}
  assert set(faulty) == {"blocks/wk", "blocks/wv", "embed"}
  assert "'vocab' has size 97, which the 4 devices" in faulty["embed"]
  said = rules.text(rows, rules.mesh_of((1, 2, 4)), RULES, "1x2x4")
  for path in faulty:
    assert f"params {path}: axis" in said
  with pytest.raises(
    UserError, match="blocks/wk: .*Nor can it hold blocks/wv, embed"
  ):
    sharding.shardings(param_specs(odd), rules.mesh_of((1, 2, 4)))
  twice = (("embed", "fsdp"), ("mlp", "fsdp"))
  rows = rules.shards(param_specs(odd), rules.mesh_of((1, 2, 1)), twice)
  faulty = {row.path: row.fault for row in rows if row.fault}
  assert set(faulty) == {"blocks/down", "blocks/gate", "blocks/up"}
  assert "two of its axes" in faulty["blocks/up"]


def test_what_is_large_and_whole_is_named():
  wide = ModelConfig(96, 2048, 4096, 2, 4, 2, learned_positions=2**13)
  mesh = rules.mesh_of((2, 1, 2))
  rows = rules.shards(param_specs(wide), mesh)
  said = rules.remarks(rows, mesh)
  assert len(said) == 2
  assert said[0].startswith(
    "params position_embed: 2 devices hold the same 64 MiB"
  )
  assert "on 2 devices along data" in said[1]
  rows = rules.shards(param_specs(wide), mesh, dtype="bfloat16")
  assert "the same 32 MiB" in rules.remarks(rows, mesh)[0]

"""Reference log-probs, computed once: equal, matched, and never stale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses, sharding
from jalign.errors import UserError
from jalign.models import param_specs
from jalign.training import reference
from jalign.training.objective import make_objective
from tests.models.tiny import tiny
from tests.training import batches


class Batch(NamedTuple):
  """A batch like the loader's."""

  data: Any
  sources: tuple[str, ...]


def _batch(seed, fill=0, count=4):
  data = batches.pairs(count, seed=seed, fill=fill)
  return Batch(
    data, tuple(f"d.jsonl:{10 * seed + i}" for i in range(count - fill))
  )


def test_precomputed_equals_the_pass_within_a_step():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  ref_params = model.init(jax.random.key(3))
  rows = [_batch(0), _batch(1, fill=2)]
  table = reference.compute(model, ref_params, rows, place=lambda x: x)
  assert sorted(table) == sorted(s for b in rows for s in b.sources)
  sums = jax.jit(make_objective(losses.dpo, model, batch="pairs").sums)
  for batch in reversed(rows):
    inside, (_, a) = sums(params, batch.data, ref_params)
    filled = reference.attach(batch.data, batch.sources, table)
    before, (_, b) = sums(params, filled, None)
    np.testing.assert_allclose(inside, before, rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-5), a, b)


def test_attach_puts_rows_beside_their_sources():
  table = {f"d.jsonl:{i}": np.float32([i, -i]) for i in range(6)}
  data = batches.pairs(4, fill=1)
  sources = ("d.jsonl:5", "d.jsonl:0", "d.jsonl:3")
  got = reference.attach(data, sources, table)
  assert got.ref_logps.dtype == np.float32
  np.testing.assert_array_equal(got.ref_logps, [5, -5, 0, 0, 3, -3, 0, 0])
  holes = data.replace(weights=jnp.asarray([0.0, 1, 0, 1]))
  got = reference.attach(holes, ("d.jsonl:2", "d.jsonl:4"), table)
  np.testing.assert_array_equal(got.ref_logps, [0, 0, 2, -2, 0, 0, 4, -4])


def test_an_example_that_was_not_scored_is_a_users_error():
  data = batches.pairs(2)
  table = {"d.jsonl:1": np.float32([1, 2])}
  with pytest.raises(UserError, match=r"^d.jsonl:9: .*reference_logps.npz"):
    reference.attach(data, ("d.jsonl:1", "d.jsonl:9"), table)


EXAMPLES = [("d.jsonl:1", [1, 2], [3], [4]), ("d.jsonl:2", [5], [6], [7])]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_fingerprint_knows_every_bit(dtype):
  rng = np.random.default_rng(0)
  params = {
    "a": jnp.asarray(rng.normal(size=(5, 7)), dtype),
    "b": {"c": jnp.zeros(3, dtype)},
  }
  mark = reference.fingerprint(params, EXAMPLES)
  assert mark == reference.fingerprint(jax.tree.map(jnp.copy, params), EXAMPLES)
  seen = {mark}
  word = {"float32": np.uint32, "bfloat16": np.uint16}[dtype]
  for row, column, bit in ((0, 0, 0), (4, 6, 0), (2, 3, 5), (1, 1, 15)):
    raw = np.asarray(params["a"]).view(word).copy()
    raw[row, column] ^= word(1 << bit)
    flipped = jnp.asarray(raw.view(np.asarray(params["a"]).dtype))
    seen.add(reference.fingerprint(dict(params, a=flipped), EXAMPLES))
  swapped = params["a"][::-1]  # the same values elsewhere
  seen.add(reference.fingerprint(dict(params, a=swapped), EXAMPLES))
  minus = {"c": -params["b"]["c"]}  # -0.0 == 0.0, with another bit
  seen.add(reference.fingerprint(dict(params, b=minus), EXAMPLES))
  assert len(seen) == 7


def test_the_fingerprint_knows_paths_shapes_and_tokens():
  a, b = jnp.arange(6.0), jnp.arange(6.0) + 1
  marks = [
    reference.fingerprint(params, EXAMPLES)
    for params in (
      {"a": a, "b": b},
      {"a": a, "c": b},
      {"a": b, "b": a},
      {"a": a.reshape(2, 3), "b": b},
      {"a": a},
    )
  ]
  params = {"a": a, "b": b}
  first, second = EXAMPLES
  marks += [
    reference.fingerprint(params, examples)
    for examples in (
      [second, first],
      [first],
      [("d.jsonl:1", [1, 2], [3], [5]), second],
      [("d.jsonl:1", [1], [2, 3], [4]), second],
      [("e.jsonl:1", *first[1:]), second],
    )
  ]
  assert len(set(marks)) == len(marks)


def test_the_fingerprint_does_not_know_the_layout():
  config, _, params = tiny(num_hidden_layers=1, attention_bias=False)
  want = reference.fingerprint(params, EXAMPLES)
  for sizes in ((2, 2, 2), (1, 4, 2)):
    mesh = sharding.make_mesh(*sizes)
    layout = sharding.shardings(param_specs(config), mesh)
    with jax.set_mesh(mesh):
      placed = jax.device_put(params, layout)
      assert reference.fingerprint(placed, EXAMPLES) == want


def test_a_table_is_read_back_only_for_its_own_fingerprint(tmp_path):
  path = tmp_path / "reference_logps.npz"
  table = {
    "d.jsonl:1": np.float32([-1.5, -2.25]),
    "d.jsonl:2": np.float32([-3, -0.1]),
  }
  assert reference.load(path, "mark") is None
  reference.store(path, table, "mark")
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  assert reference.load(path, "another") is None
  got = reference.load(path, "mark")
  assert got is not None and list(got) == list(table)
  for source, row in table.items():
    assert got[source].dtype == np.float32
    np.testing.assert_array_equal(got[source], row)

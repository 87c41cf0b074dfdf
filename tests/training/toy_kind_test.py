"""A kind of batch and its loss, in one file, from records to updates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from jalign import data
from jalign.errors import UserError
from jalign.experiment.data.dataset import Dataset
from jalign.training.kinds import Kind, Reading, mean, wins
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.outputs import counts_of
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import Array, Sequences
from tests.models.tiny import tiny

# ------------------------------------------------------------------ the kind


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedTrio:
  """A good, a fair and a bad response to a prompt."""

  prompt: np.ndarray
  responses: tuple[np.ndarray, np.ndarray, np.ndarray]
  source: str


class TrioBatch(struct.PyTreeNode):
  """B trios, in 3 B rows, with each trio's weight."""

  sequences: Sequences
  weights: Array
  grade: Array


def _collate(encoded, rows, length, *, pad_id=0, fill=None, grade=1.0):
  trios = [*encoded, *[fill] * (rows - len(encoded))]
  lists = data.collate_lists(
    [
      data.EncodedList(t.prompt, t.responses, np.zeros(3, np.float32), t.source)
      for t in trios
    ],
    rows,
    length,
    size=3,
    pad_id=pad_id,
  )
  weights = (np.arange(rows) < len(encoded)).astype(np.float32)
  grades = np.full(rows, grade, np.float32)
  return TrioBatch(lists.sequences, weights, grades)


def _arrays(outputs, batch, names):
  good, fair, bad = outputs.sums().reshape(-1, 3).T
  arrays = {"good": good, "fair": fair, "bad": bad, "grade": batch.grade}
  if outputs.needs_reference:
    arrays["ref_fair"] = outputs.ref_sums().reshape(-1, 3)[:, 1]
  return arrays


TRIOS = Kind(
  name="trios",
  about="a good, a fair and a bad response to one prompt",
  gives=dict.fromkeys(("good", "fair", "bad", "grade", "ref_fair"), "B"),
  arrays=_arrays,
  observe=lambda arrays, weights: {
    "in_order": mean(
      wins(arrays["good"] - arrays["fair"])
      * wins(arrays["fair"] - arrays["bad"]),
      weights,
    )
  },
  counts={
    "tokens": lambda batch: counts_of(batch.sequences).reshape(-1, 3).sum(-1)
  },
  records={
    "trios": Reading(
      _collate,
      lambda trio: len(trio.prompt) + max(map(len, trio.responses)),
      options=lambda examples, part: {"grade": len(examples("train")) / 10},
    )
  },
  several=True,
)


def order(good, fair, bad, grade, *, scale=1.0):
  """A loss that ranks good before fair before bad."""
  gaps = jnp.stack([good - fair, fair - bad])
  return grade * jnp.sum(jax.nn.softplus(-scale * gaps), 0)


# ----------------------------------------------------------------- its tests


def _dataset(count=10):
  rng = np.random.default_rng(0)
  ids = lambda n: rng.integers(1, 60, n).astype(np.int32)
  trios = [
    EncodedTrio(
      np.full(2, 1 + i, np.int32), (ids(4), ids(3), ids(5)), f"t.jsonl:{i}"
    )
    for i in range(count)
  ]
  return Dataset(
    kind="trios",
    train=trios,
    held_out=trios[:4],
    train_prompts=[],
    eval_prompts=[],
    group_of={},
    buckets=(8,),
    pad_id=0,
    facts={},
    lines=(),
  )


def test_a_kind_of_ones_own_trains():
  dataset = _dataset()
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  objective = make_objective(order, model, batch=TRIOS)
  optimizer = optax.adam(3e-3)
  update = make_update(objective, optimizer, microbatches=2)
  state = init_state(jax.tree.map(jnp.array, params), optimizer)
  values = []
  batches = dataset.loader(TRIOS, "train", 10, epochs=30)
  for batch in batches:
    state, sums = update(state, batch.data)
    values.append({name: float(s / n) for name, (s, n) in sums.items()})
  assert values[-1]["loss"] < values[0]["loss"] / 3
  assert values[-1]["in_order"] > values[0]["in_order"]
  held_out = next(dataset.loader(TRIOS, "eval", 8, epochs=1, shuffle=False))
  assert held_out.sources == tuple(f"t.jsonl:{i}" for i in range(4))
  assert float(held_out.data.grade[0]) == 1.0  # ten trios to train on
  sums = make_evaluation(objective)(state.params, held_out.data, None)
  assert float(sums["loss"][1]) == 4


def test_its_sums_divide_by_its_own_counts_and_its_rows_may_be_packed():
  dataset = _dataset()
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  objective = make_objective(order, model, batch=TRIOS, denominator="tokens")
  load = lambda **options: (
    next(
      dataset.loader(TRIOS, "eval", 4, epochs=1, shuffle=False, **options)
    ).data
  )
  total, (count, _) = objective.sums(params, load())
  assert float(count) == 4 * 12
  packed = load(packing=data.Packing(width=48, share_prefix=TRIOS.several))
  assert packed.sequences.packed is not None
  again, _ = objective.sums(params, packed)
  np.testing.assert_allclose(again, total, rtol=1e-5)


def test_it_is_told_what_it_does_not_give():
  _, model, _ = tiny(num_hidden_layers=1, remat="none")
  with pytest.raises(UserError, match="takes best.*batch of trios.*ref_fair"):
    make_objective(lambda best: best, model, batch=TRIOS)
  with pytest.raises(UserError, match="trios can't be divided by 'words'"):
    make_objective(order, model, batch=TRIOS, denominator="words")
  needs = make_objective(lambda ref_fair: ref_fair, model, batch=TRIOS)
  assert needs.needs_reference
  with pytest.raises(UserError, match="pairs are needed.*has trios"):
    _dataset().check("pairs", "config.data")

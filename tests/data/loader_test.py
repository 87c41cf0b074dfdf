"""The plan and the loader: each example once, repeatable, resumed, sharded."""

import dataclasses
import functools
import itertools
import json
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jalign import data
from jalign.errors import UserError

BUCKETS = (8, 16, 32)


def _pair(i, length, scored=True):
  prompt = np.full(max(length // 2, 1), i % 50 + 3, np.int32)
  chosen = np.full(length - len(prompt), 1, np.int32)
  return data.EncodedPair(
    prompt, chosen, chosen[:1], f"f:{i}", preference=i / 100 if scored else None
  )


PAIRS = [_pair(i, 2 + (i * 7) % 30) for i in range(45)]
make = functools.partial(
  data.make_loader, PAIRS, data.collate_pairs, batch_size=4, buckets=BUCKETS
)
PER_EPOCH = data.batches_per_epoch(
  [data.pair_length(p) for p in PAIRS], 4, BUCKETS
)


def _equal(a, b):
  """Asserts that batches are equal to the bit."""
  assert (a.index, a.sources) == (b.index, b.sources)
  left, right = jax.tree.leaves(a.data), jax.tree.leaves(b.data)
  assert len(left) == len(right)
  for x, y in zip(left, right):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def _take(loader, count):
  batches = list(itertools.islice(loader, count))
  loader.close()
  return batches


@settings(deadline=None, max_examples=150)
@given(
  lengths=st.lists(st.integers(1, 32), min_size=1, max_size=60),
  batch_size=st.integers(1, 9),
  seed=st.integers(0, 2**32 - 1),
  epoch=st.integers(0, 5),
  shuffle=st.booleans(),
)
def test_plan(lengths, batch_size, seed, epoch, shuffle):
  batches = data.plan(
    lengths, batch_size, BUCKETS, seed=seed, epoch=epoch, shuffle=shuffle
  )
  seen = Counter(i for batch in batches for i in batch.examples)
  assert seen == Counter(range(len(lengths)))  # each example exactly once
  partial = Counter()
  for length, examples in batches:
    assert length in BUCKETS and 1 <= len(examples) <= batch_size
    for i in examples:  # it is in the shortest bucket that holds it
      assert length == min(b for b in BUCKETS if b >= lengths[i])
    partial[length] += len(examples) < batch_size
  assert all(count <= 1 for count in partial.values())
  assert len(batches) == data.batches_per_epoch(lengths, batch_size, BUCKETS)
  assert batches == data.plan(
    lengths, batch_size, BUCKETS, seed=seed, epoch=epoch, shuffle=shuffle
  )


def test_plan_differs_across_epochs_and_seeds():
  lengths = [5] * 40 + [20] * 40
  plans = [
    data.plan(lengths, 4, BUCKETS, seed=seed, epoch=epoch)
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
  ]
  for a, b in itertools.combinations(plans, 2):
    assert a != b
    assert [x.length for x in a] != [x.length for x in b]  # batch order
    assert {frozenset(x.examples) for x in a} != {
      frozenset(x.examples) for x in b
    }  # and so do their members
  still = data.plan(lengths, 4, BUCKETS, shuffle=False)
  assert [i for batch in still for i in batch.examples] == list(range(80))


def test_every_example_once_and_fill_has_no_weight():
  batches = list(make(epochs=1))
  assert len(batches) == PER_EPOCH
  assert [b.index for b in batches] == list(range(PER_EPOCH))
  assert Counter(s for b in batches for s in b.sources) == Counter(
    p.source for p in PAIRS
  )
  assert sum(b.data.weights.sum() for b in batches) == len(PAIRS)
  by_source = {p.source: p for p in PAIRS}
  filled = 0
  for b in batches:
    assert b.data.sequences.tokens.shape[0] == 8
    real = len(b.sources)
    assert b.data.weights.tolist() == [1] * real + [0] * (4 - real)
    filled += 4 - real
    for row, source in enumerate(b.sources):
      pair = by_source[source]
      assert b.data.sequences.lengths[2 * row] == data.chosen_length(pair)
      assert b.data.sequences.tokens[2 * row, 0] == pair.prompt[0]
      assert b.data.preference[row] == np.float32(pair.preference)
  assert filled == make(epochs=1).report.fill > 0


def test_deterministic_and_endless():
  first, second = (_take(make(seed=5), 2 * PER_EPOCH + 3) for _ in range(2))
  assert len(first) == 2 * PER_EPOCH + 3
  for a, b in zip(first, second):
    _equal(a, b)
  order = lambda batches: [b.sources for b in batches]
  epochs = first[:PER_EPOCH], first[PER_EPOCH : 2 * PER_EPOCH]
  assert order(epochs[0]) != order(epochs[1])
  for epoch in epochs:
    assert len({s for b in epoch for s in b.sources}) == len(PAIRS)
  assert order(_take(make(seed=6), PER_EPOCH)) != order(epochs[0])
  assert order(_take(make(seed=5, shuffle=False), PER_EPOCH)) == order(
    _take(make(seed=6, shuffle=False), PER_EPOCH)
  )


def test_prefetch_changes_nothing():
  for a, b in zip(make(epochs=2, prefetch=0), make(epochs=2), strict=True):
    _equal(a, b)


@pytest.mark.parametrize("position", [0, 1, 4, PER_EPOCH, PER_EPOCH + 2])
def test_resume(position):
  loader = make(seed=1, epochs=2)
  for _ in range(position):
    next(loader)
  state = json.loads(json.dumps(loader.get_state()))
  remainder = list(loader)
  assert len(remainder) == 2 * PER_EPOCH - position
  fresh = make(seed=1, epochs=2)
  fresh.set_state(state)
  for a, b in zip(fresh, remainder, strict=True):
    _equal(a, b)
  used = make(seed=1, epochs=2)  # a loader that has read further
  _ = [next(used) for _ in range(3)]
  used.set_state(state)
  _equal(next(used), remainder[0])


def test_resume_refuses_another_order():
  state = make(seed=1).get_state()
  for other in (
    make(seed=2),
    make(seed=1, buckets=(8, 32)),
    make(seed=1, batch_size=8),
    make(seed=1, shuffle=False),
    data.make_loader(
      PAIRS[1:], data.collate_pairs, batch_size=4, buckets=BUCKETS, seed=1
    ),
  ):
    with pytest.raises(UserError, match="other data, or to another seed"):
      other.set_state(state)
  make(seed=1, epochs=9).set_state(state)  # the number of epochs may change


def test_single_responses_and_their_lengths():
  loader = data.make_loader(
    PAIRS,
    functools.partial(data.collate_chosen, pad_id=9),
    batch_size=5,
    buckets=(16, 32),
    length_of=data.chosen_length,
    epochs=1,
  )
  batches = list(loader)
  assert sum(b.data.weights.sum() for b in batches) == len(PAIRS)
  assert (batches[0].data.sequences.tokens[0, -1]) == 9


def test_report():
  loader = data.make_loader(
    [_pair(i, n) for i, n in enumerate((8, 8, 8, 20))],
    data.collate_pairs,
    batch_size=2,
    buckets=BUCKETS,
  )
  report = loader.report
  assert report.batches == {8: 2, 32: 1}
  assert report.examples == {8: 3, 32: 1}
  assert report.fill == 2
  assert report.padding == pytest.approx(1 - 44 / 96)
  assert report.summary() == (
    "3 batches an epoch (2 of length 8, 1 of length 32), 2 fill rows, 54.2% "
    "of the tokens are padding"
  )
  json.dumps(report.to_dict())


def test_errors():
  with pytest.raises(UserError, match="f:44: the example has 33 tokens"):
    data.make_loader(
      [*PAIRS[:3], _pair(44, 33)],
      data.collate_pairs,
      batch_size=4,
      buckets=BUCKETS,
    )
  with pytest.raises(UserError, match="example 1: .*33 tokens.*longer bucket"):
    data.plan([3, 33], 4, BUCKETS)
  with pytest.raises(UserError, match="no example"):
    data.make_loader([], data.collate_pairs, batch_size=4, buckets=BUCKETS)
  with pytest.raises(UserError, match="epochs is 0"):
    make(epochs=0)
  for bad in (
    {"batch_size": 0},
    {"buckets": ()},
    {"buckets": (32, 16)},
    {"seed": -1},
  ):
    name = next(iter(bad))
    with pytest.raises(UserError, match=f"{name} (is|are)"):
      make(**bad)


def test_a_position_is_of_the_labels():
  """A run isn't resumed on pairs with other preferences or scores."""

  def fingerprint(**labels):
    pair = dataclasses.replace(PAIRS[0], **labels)
    loader = data.make_loader(
      [pair], data.collate_pairs, batch_size=1, buckets=BUCKETS
    )
    state = loader.get_state()["fingerprint"]
    loader.close()
    return state

  labels = [
    {"preference": p, "chosen_score": a, "rejected_score": b}
    for p in (None, 0.0, 0.25, 0.75)
    for a, b in ((None, None), (1.0, 2.0), (2.0, 1.0), (None, 1.0), (1.0, None))
  ]
  assert len({fingerprint(**label) for label in labels}) == len(labels)
  assert fingerprint(**labels[-1]) == fingerprint(**labels[-1])


def _ids(*lists):
  return [np.asarray(ids, np.int32) for ids in lists]


def test_a_border_between_two_fields_counts():
  """The joined ids are the same, and so are the lengths of the pairs."""
  pairs = [
    data.EncodedPair(*_ids([1], [2, 3], [4, 5]), "f:1"),
    data.EncodedPair(*_ids([1], [2, 3, 4], [5]), "f:1"),
    data.EncodedPair(*_ids([1], [2], [3, 4, 5]), "f:1"),
  ]
  states = [
    data.make_loader([pair], data.collate_pairs, batch_size=1, buckets=(4,))
    for pair in pairs
  ]
  snapshots = [loader.get_state() for loader in states]
  assert len({state["fingerprint"] for state in snapshots}) == 3
  with pytest.raises(UserError, match="other data"):
    states[1].set_state(snapshots[2])


def test_positions_of_before_are_taken():
  """Earlier versions' hashes, which had no separators, are still accepted."""
  pair = data.EncodedPair(*_ids([1], [2, 3], [4, 5]), "f:1")
  loader = data.make_loader(
    [pair], data.collate_pairs, batch_size=1, buckets=(4,)
  )
  state = loader.get_state() | {"fingerprint": "9a2c"}
  with pytest.raises(UserError, match="other data"):
    loader.set_state(state)
  loader.set_state(state | {"fingerprint": "4476d51284703390"})

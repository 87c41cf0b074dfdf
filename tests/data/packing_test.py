"""Rows of one width hold every token once; what is dropped is counted."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jalign import data
from jalign.errors import UserError
from jalign.types import PairBatch, Sequences


def _sequences(rows, length=12):
  """Right-padded rows with -1 as padding; the last token is scored."""
  tokens = np.full((len(rows), length), -1, np.int32)
  for row, ids in zip(tokens, rows):
    row[: len(ids)] = ids
  lengths = np.array([len(ids) for ids in rows], np.int32)
  return Sequences(tokens, np.arange(length) == lengths[:, None] - 1, lengths)


def _read(sequences):
  """Each sequence, read at its places; and the same one slot further on."""
  packed = sequences.packed
  slots = packed.tokens.reshape(len(packed.tokens), -1)
  places = packed.places.reshape(len(sequences.tokens), -1)
  per_slot = len(places) // len(slots)
  for row, (at, length) in enumerate(zip(places, sequences.lengths)):
    own = slots[row // per_slot]
    yield own[at[:length]].tolist(), own[at[: length - 1] + 1].tolist()


def test_padding_is_no_part_of_a_shared_prefix():
  """A response whose last token is the padding's id, beside a shorter one."""
  tokens = np.array([[5, 6, 0, 9], [5, 6, 0, 0], [5, 6, 7, 0], [5, 6, 7, 8]])
  lengths = np.array([4, 2, 3, 4])
  sequences = Sequences(tokens, np.ones_like(tokens, bool), lengths)
  packed = data.pack(sequences, [True, True], share_prefix=True)
  for row, (own, _) in enumerate(_read(packed)):
    assert own == tokens[row, : lengths[row]].tolist()
  # The first two hold 5 once and 6 twice, the others 5 and 6 once.
  ids = packed.packed.tokens.reshape(-1).tolist()
  assert (ids.count(5), ids.count(6)) == (2, 3)


@hypothesis.given(
  st.lists(st.integers(1, 20), max_size=60), st.integers(20, 40)
)
def test_items_neither_overlap_nor_vanish(lengths, width):
  fit = data.best_fit(lengths, width)
  taken = np.zeros((max(fit.used, 1), width), int)
  for size, row, start in zip(lengths, fit.rows, fit.starts):
    assert start + size <= width
    taken[row, start : start + size] += 1
  assert not fit.left and taken.max() <= 1
  assert taken.sum() == sum(lengths)
  fewest = -(-sum(lengths) // width)
  assert fewest <= fit.used
  # Best fit never leaves two rows half empty.
  assert (taken.sum(-1) * 2 <= width).sum() <= 1


def test_what_does_not_fit_is_named():
  fit = data.best_fit([5, 9, 3, 4, 2], 8, rows=1)
  assert fit.left == (1, 3, 4) and fit.rows.tolist() == [0, -1, 0, -1, -1]
  fit = data.best_fit([5, 9, 3], 8)
  assert fit.left == (1,)
  three = _sequences([[1] * 5, [2] * 6, [3] * 4])
  with pytest.raises(
    UserError, match="1 of 3 sequences.*in 1 rows of 10.*has 5"
  ):
    data.pack(three, [True] * 3, width=10, rows=1)
  with pytest.raises(UserError, match="any number of rows of 5 tokens.*has 6"):
    data.pack(three, [True] * 3, width=5)
  with pytest.raises(ValueError, match="2 groups"):
    data.pack(three, [True] * 3, width=10, groups=2)


def test_segments_have_positions_of_their_own():
  rows = [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10]]
  packed = data.pack(_sequences(rows), [True] * 3, width=8, rows=2).packed
  assert packed.tokens.tolist() == [
    [[4, 5, 6, 7, 8, 1, 2, 3], [9, 10, 0, 0, 0, 0, 0, 0]]
  ]
  assert packed.positions[0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
  ids = packed.segment_ids[0]
  assert len(set(ids[0, :5])) == len(set(ids[0, 5:])) == 1
  assert len({ids[0, 0], ids[0, 5], ids[1, 0], 0}) == 4
  assert not ids[1, 2:].any()  # padding is a segment by itself
  assert packed.prefix_ids is None


def test_a_prefix_is_held_once_and_its_last_token_again():
  rows = [[1, 2, 3, 7, 8], [1, 2, 3, 9], [5, 6, 4], [5, 4]]
  packed = data.pack(_sequences(rows), [True] * 2, share_prefix=True).packed
  assert packed.tokens[0, 0].tolist() == [1, 2, 3, 7, 8, 3, 9]
  assert packed.positions[0, 0].tolist() == [0, 1, 2, 3, 4, 2, 3]
  assert packed.segment_ids[0, 0].tolist() == [1, 1, 2, 2, 2, 3, 3]
  assert packed.prefix_ids[0, 0].tolist() == [1] * 7
  # Only the first token is shared, which isn't worth a segment.
  assert packed.tokens[0, 1, :5].tolist() == [5, 6, 4, 5, 4]
  assert packed.prefix_ids[0, 1, :5].tolist() == [5, 5, 5, 6, 6]


@pytest.mark.parametrize("width", [0, 14])
@pytest.mark.parametrize("share", [False, True])
def test_places_lead_back_to_every_sequence(width, share):
  rng = np.random.default_rng(0)
  rows = []
  for _ in range(6):
    prompt = rng.integers(1, 3, rng.integers(1, 5)).tolist()
    for _ in range(2):
      rows.append(prompt + rng.integers(1, 3, rng.integers(1, 8)).tolist())
  rows[3] = rows[2]  # equal responses
  rows[5] = rows[4] + [1]  # a response that continues another
  batch = _sequences(rows)
  live = np.arange(6) < 5
  packing = data.pack(batch, live, width=width, groups=3, share_prefix=share)
  for row, (ids, following) in enumerate(_read(packing)):
    if live[row // 2]:
      assert ids == rows[row] and following == rows[row][1:]
  total = (packing.packed.segment_ids > 0).sum()
  own = sum(len(ids) for ids in rows[:10])
  assert total < own if share else total == own


def test_a_report_counts_what_was_packed():
  rows = [[1, 2, 3, 4], [1, 2, 3, 5, 6], [7, 8], [7, 9], [7, 8], [7, 9]]
  batch = PairBatch(_sequences(rows), np.array([1.0, 1.0, 0.0], np.float32))
  collate = data.Packing(width=12, share_prefix=True).collate(lambda: batch)
  report = data.packing_report([collate()])
  assert report == (4, 1, 11, 12, 72)
  said = report.summary()
  assert "packed 4 sequences into 1 rows, 92% of tokens used" in said


def test_shapes_are_few():
  shapes = set()
  for seed in range(40):
    sizes = np.random.default_rng(seed).integers(2, 12, 64)
    batch = _sequences([[1] * int(n) for n in sizes])
    packed = data.pack(batch, [True] * 64, width=12, groups=2).packed
    shapes.add(packed.tokens.shape)
  assert len(shapes) <= 4 and {s[0] for s in shapes} == {2}

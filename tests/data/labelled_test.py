"""Ranked lists and labelled responses: ids, batches, the loader."""

import functools

import numpy as np
import pytest

from jalign import data
from jalign.errors import UserError

BPE = data.train_bpe(["the cat sat on the mat"] * 5, 280)
WIDE = data.Limits(max_tokens=1000)
LONG = data.RankedRecord(
  "the", (" a", " bb", " c"), (1.0, -2.0, 0.5), "f:1", ""
)
SHORT = data.RankedRecord("cat", (" x", " yyy"), (0.0, 3.0), "f:2", "")
YES = data.BinaryRecord("the", " cat", True, "f:1", "")
NO = data.BinaryRecord("the", " mat", False, "f:2", "")


def _texts(sequences):
  return [
    BPE.decode(tokens[mask])
    for tokens, mask in zip(sequences.tokens, sequences.mask)
  ]


def test_lists_are_adjacent_and_padded_with_invalid_responses():
  lists, cut = data.encode_lists([LONG, SHORT], BPE, WIDE)
  assert data.list_size(lists) == 3
  assert cut.summary() == "none of 2 lists truncated"
  batch = data.collate_lists(lists, 3, 12, size=4, pad_id=BPE.pad_id)
  assert batch.sequences.tokens.shape == (12, 12)
  assert _texts(batch.sequences)[:8] == [
    *(" a", " bb", " c", " a"),
    *(" x", " yyy", " x", " x"),
  ]
  assert batch.valid.astype(int).tolist()[:2] == [[1, 1, 1, 0], [1, 1, 0, 0]]
  assert batch.scores.tolist()[:2] == [[1, -2, 0.5, 0], [0, 3, 0, 0]]
  assert batch.scores.dtype == batch.weights.dtype == np.float32
  assert batch.valid.dtype == np.bool_ and batch.ref_logps is None
  assert batch.weights.tolist() == [1, 1, 0]
  assert batch.sequences.mask.any(-1).all()  # fill and padding are sequences
  for row, (record, k) in enumerate((r, k) for r in (LONG,) for k in range(3)):
    pair = data.PreferenceRecord("the", record.responses[k], "z", "f:1", "")
    alone = data.encode_pair(pair, BPE, WIDE)
    length = batch.sequences.lengths[row]
    assert batch.sequences.tokens[row][:length].tolist() == [
      *alone.prompt.tolist(),
      *alone.chosen.tolist(),
    ]
  with pytest.raises(ValueError, match="3 responses do not fit in 2"):
    data.collate_lists(lists, 2, 12, size=2)


def test_cut_lists_are_counted():
  limits = data.Limits(20, max_prompt_tokens=3, max_response_tokens=2)
  record = data.RankedRecord(
    "012345", ("abcX", "abcY", "a"), (1, 2, 3), "f", ""
  )
  (example,), cut = data.encode_lists([record], BPE, limits)
  assert BPE.decode(example.prompt) == "45"
  assert cut.parts == {"prompts": (1, 1, 4), "responses": (3, 2, 6)}
  assert "2 responses (end) (66.7%, 6 tokens)" in cut.summary()
  assert cut.identical == 0  # two of the three responses are equal, but not all
  record = data.RankedRecord("0", ("abcX", "abcY"), (1, 2), "f:9", "")
  assert data.encode_lists([record], BPE, limits)[1].identical == 1
  with pytest.raises(UserError, match="f:9.*no room"):
    data.encode_lists([record], BPE, data.Limits(max_tokens=2))


def test_labels():
  encoded, cut = data.encode_binary([YES, NO], BPE, WIDE)
  assert cut.summary() == "none of 2 responses truncated"
  batch = data.collate_unpaired(encoded, 3, 12, pad_id=BPE.pad_id)
  assert _texts(batch.sequences) == [" cat", " mat", " cat"]
  assert batch.desirable.tolist() == [True, False, True]
  assert batch.desirable.dtype == np.bool_
  assert batch.weights.tolist() == [1, 1, 0]
  with pytest.raises(UserError, match="f:1.*no room"):
    data.encode_binary([YES], BPE, data.Limits(max_tokens=2))


def _loader(encoded, collate, length_of):
  return data.make_loader(
    encoded,
    collate,
    batch_size=2,
    buckets=(16,),
    epochs=1,
    length_of=length_of,
  )


def test_loaders():
  lists, _ = data.encode_lists([LONG, SHORT, LONG], BPE, WIDE)
  collate = functools.partial(data.collate_lists, size=data.list_size(lists))
  batches = list(_loader(lists, collate, data.list_length))
  assert {b.data.sequences.tokens.shape for b in batches} == {(6, 16)}
  assert sum(b.data.weights.sum() for b in batches) == 3
  labels, _ = data.encode_binary([YES, NO, NO], BPE, WIDE)
  batches = list(_loader(labels, data.collate_unpaired, data.binary_length))
  assert sum(b.data.weights.sum() for b in batches) == 3


def test_a_loader_knows_other_labels_and_responses():
  """A run isn't resumed on data whose labels or responses changed."""

  def state(records, encode, collate, length_of):
    encoded, _ = encode(records, BPE, WIDE)
    return _loader(encoded, collate, length_of).get_state()["fingerprint"]

  labels = (data.encode_binary, data.collate_unpaired, data.binary_length)
  flipped = data.BinaryRecord("the", " cat", False, "f:1", "")
  assert state([YES], *labels) == state([YES], *labels)
  assert state([YES], *labels) != state([flipped], *labels)
  collate = functools.partial(data.collate_lists, size=3)
  lists = (data.encode_lists, collate, data.list_length)
  other = data.RankedRecord("the", (" a", " bb", " d"), LONG.scores, "f:1", "")
  assert state([LONG], *lists) != state([other], *lists)

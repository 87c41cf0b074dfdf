"""Demonstrations: scored tokens, truncation, batches and the loader."""

import numpy as np
import pytest

from jalign import data
from jalign.errors import UserError

BPE = data.train_bpe(["the cat sat on the mat"] * 5, 280)
WIDE = data.Limits(max_tokens=1000)


def _record(prompt="the cat", response=" sat on"):
  return data.DemonstrationRecord(prompt, response, "f.jsonl:7", prompt)


def test_the_response_and_its_end_are_scored():
  (example,), cut = data.encode_demonstrations([_record()], BPE, WIDE)
  response = BPE.encode(" sat on") + [BPE.eos_id]
  prompt = [BPE.bos_id, *BPE.encode("the cat")]
  assert example.ids.tolist() == prompt + response
  assert example.ids[example.mask].tolist() == response
  assert example.ids.dtype == np.int32 and example.mask.dtype == np.bool_
  assert example.source == "f.jsonl:7"
  assert data.sequence_length(example) == len(prompt) + len(response)
  assert cut.summary() == "none of 1 demonstrations truncated"


def test_cut_as_pairs_are():
  limits = data.Limits(
    max_tokens=20, max_prompt_tokens=5, max_response_tokens=4
  )
  record = _record("0123456789", "abcdef")
  (example,), cut = data.encode_demonstrations([record], BPE, limits)
  assert BPE.decode(example.ids[~example.mask]) == "6789"
  assert BPE.decode(example.ids[example.mask]) == "abcd"
  assert BPE.eos_id not in example.ids
  assert example.cut == (6, 3)
  assert cut.to_dict() == {
    "demonstrations": 1,
    "cut": {"prompts": 1, "responses": 1},
    "share": {"prompts": 1.0, "responses": 1.0},
    "tokens": {"prompts": 6, "responses": 3},
    "identical": 0,
    "joined": 0,
    "parted": [0, 0],
  }
  assert "1 responses (end) (100.0%, 3 tokens)" in cut.summary()
  with pytest.raises(UserError, match="f.jsonl:7.*no room"):
    data.encode_demonstration(_record("01234567"), BPE, data.Limits(9))


def test_a_batch_keeps_each_mask():
  (first, second), _ = data.encode_demonstrations(
    [_record(), _record("x", " the mat")], BPE, WIDE
  )
  batch = data.collate_sequences([first, second], 3, 24, pad_id=BPE.eos_id)
  s = batch.sequences
  assert s.tokens.shape == s.mask.shape == (3, 24)
  assert s.lengths.tolist() == [len(first.ids), len(second.ids), len(first.ids)]
  assert batch.weights.tolist() == [1, 1, 0]
  for row, sequence in enumerate((first, second, first)):
    assert s.tokens[row][s.mask[row]].tolist() == (
      sequence.ids[sequence.mask].tolist()
    )
  with pytest.raises(ValueError, match="do not fit in 4"):
    data.collate_sequences([first], 1, 4)


def test_the_same_batch_as_the_chosen_responses_of_pairs():
  pair = data.PreferenceRecord("the cat", " sat on", " x", "f:1", "g")
  chosen = data.collate_chosen(data.encode_pairs([pair], BPE, WIDE)[0], 2, 16)
  own = data.collate_sequences(
    data.encode_demonstrations([_record()], BPE, WIDE)[0], 2, 16
  )
  for field in ("tokens", "mask", "lengths"):
    a, b = getattr(chosen.sequences, field), getattr(own.sequences, field)
    assert a.dtype == b.dtype and (a == b).all()


def test_loader_takes_sequences():
  encoded, _ = data.encode_demonstrations([_record()] * 3, BPE, WIDE)
  loader = data.make_loader(
    encoded,
    data.collate_sequences,
    batch_size=2,
    buckets=(16,),
    epochs=1,
    length_of=data.sequence_length,
  )
  batches = list(loader)
  assert sum(batch.data.weights.sum() for batch in batches) == 3

"""Encoding and collation: token borders, ends, truncation, masks, fill rows."""

import dataclasses

import numpy as np
import pytest

from jalign import data
from jalign.errors import UserError

BPE = data.train_bpe(["the cat sat on the mat"] * 5, 280)
PAD_IS_EOS = dataclasses.replace(BPE, pad_id=BPE.eos_id, prefix_ids=())
WIDE = data.Limits(max_tokens=1000)


def _record(prompt="the cat", chosen=" sat on", rejected=" x", **extra):
  return data.PreferenceRecord(
    prompt, chosen, rejected, source="f.jsonl:7", group=prompt, **extra
  )


def _row(batch, row):
  s = batch.sequences
  return s.tokens[row], s.mask[row], s.lengths[row]


@pytest.mark.parametrize("tokenizer", [BPE, PAD_IS_EOS])
def test_ids_are_prompt_then_response_then_end(tokenizer):
  # "the c" + "at" would merge across the border if the texts were joined.
  record = _record(prompt="the c", chosen="at sat", rejected="at")
  assert tokenizer.encode("the cat") != (
    tokenizer.encode("the c") + tokenizer.encode("at")
  )
  pair = data.encode_pair(record, tokenizer, WIDE)
  bos = [*tokenizer.prefix_ids]
  assert pair.prompt.tolist() == bos + tokenizer.encode("the c")
  for ids, text in ((pair.chosen, "at sat"), (pair.rejected, "at")):
    assert ids.tolist() == tokenizer.encode(text) + [tokenizer.eos_id]
    assert ids.dtype == np.int32
  assert pair.source == "f.jsonl:7"


def test_bos_and_eos_are_not_doubled():
  plain = data.encode_pair(_record(), BPE, WIDE)
  marked = _record(prompt="<bos>the cat", chosen=" sat on<eos>")
  pair = data.encode_pair(marked, BPE, WIDE)
  assert pair.prompt.tolist() == plain.prompt.tolist()
  assert pair.chosen.tolist() == plain.chosen.tolist()
  # Nor is there a second one if a tokenizer reads special tokens in text.
  loaded = data.train_bpe(["the cat sat on the mat"] * 5, 280)
  loaded.backend.encode_special_tokens = False
  pair = data.encode_pair(marked, loaded, WIDE)
  assert pair.prompt.tolist().count(BPE.bos_id) == 1
  assert pair.chosen.tolist().count(BPE.eos_id) == 1
  twice = _record(chosen=" sat on<eos><eos>")  # as written, and no third
  assert data.encode_pair(twice, loaded, WIDE).chosen.tolist() == (
    loaded.encode(" sat on<eos>")
  )


def test_pad_equal_to_eos_keeps_the_scored_end():
  pair = data.encode_pair(_record(), PAD_IS_EOS, WIDE)
  batch = data.collate_pairs([pair], 1, 32, pad_id=PAD_IS_EOS.pad_id)
  tokens, mask, length = _row(batch, 0)
  start, end = len(pair.prompt), len(pair.prompt) + len(pair.chosen)
  assert length == end
  assert np.flatnonzero(mask).tolist() == list(range(start, end))
  assert tokens[end - 1] == PAD_IS_EOS.eos_id and mask[end - 1]
  assert (tokens[end:] == PAD_IS_EOS.eos_id).all() and not mask[end:].any()


def test_interleaving_shapes_and_dtypes():
  records = [
    _record(
      prompt=f"p{i}",
      chosen=f" good {i}",
      rejected=f" bad {i}",
      preference=0.25 * i,
      chosen_score=i,
      rejected_score=-i,
    )
    for i in range(3)
  ]
  pairs, _ = data.encode_pairs(records, BPE, WIDE)
  batch = data.collate_pairs(pairs, 4, 24, pad_id=BPE.pad_id)
  s = batch.sequences
  assert s.tokens.shape == s.mask.shape == (8, 24)
  assert (s.tokens.dtype, s.mask.dtype, s.lengths.dtype) == (
    np.int32,
    np.bool_,
    np.int32,
  )
  for i in range(3):
    for offset, name in ((0, "good"), (1, "bad")):
      tokens, mask, length = _row(batch, 2 * i + offset)
      assert BPE.decode(tokens[mask]) == f" {name} {i}"
      assert BPE.decode(tokens[:length]) == f"p{i} {name} {i}"
  assert not s.mask[:, 0].any()
  assert batch.weights.tolist() == [1, 1, 1, 0]
  assert batch.preference[:3].tolist() == [0, 0.25, 0.5]
  assert batch.chosen_scores[:3].tolist() == [0, 1, 2]
  assert batch.rejected_scores[:3].tolist() == [0, -1, -2]
  assert batch.preference.dtype == batch.weights.dtype == np.float32
  assert batch.ref_logps is None
  # Fill rows are valid sequences, so no length is 0.
  assert s.mask[6:].any(-1).all() and s.lengths[6:].min() > 0


def test_single_responses():
  pairs, _ = data.encode_pairs([_record()], BPE, WIDE)
  batch = data.collate_chosen(pairs, 2, 16, pad_id=5)
  tokens, mask, length = _row(batch, 0)
  assert BPE.decode(tokens[mask]) == " sat on"
  assert length == data.chosen_length(pairs[0])
  assert (tokens[length:] == 5).all()
  assert batch.weights.tolist() == [1, 0]
  assert data.pair_length(pairs[0]) == data.chosen_length(pairs[0])


def test_an_empty_shard_has_the_same_columns():
  pairs, _ = data.encode_pairs([_record(preference=0.5)], BPE, WIDE)
  full = data.collate_pairs(pairs, 1, 16)
  empty = data.collate_pairs([], 1, 16, fill=pairs[0])
  assert empty.weights.tolist() == [0]
  assert (empty.preference is None) == (full.preference is None) is False
  with pytest.raises(ValueError, match="fill"):
    data.collate_pairs([], 1, 16)


def test_optional_columns_are_for_all_or_none():
  some = [_record(preference=0.5), _record()]
  with pytest.raises(
    UserError, match="f.jsonl:7: the record has no 'preference'.*1 of 2"
  ):
    data.encode_pairs(some, BPE, WIDE)
  pairs = [data.encode_pair(record, BPE, WIDE) for record in some]
  with pytest.raises(UserError, match="for all records or for none"):
    data.collate_pairs(pairs, 2, 16)
  pairs, _ = data.encode_pairs([_record()] * 2, BPE, WIDE)
  assert data.collate_pairs(pairs, 2, 16).preference is None


def test_truncation():
  record = _record(prompt="0123456789", chosen="abcdef", rejected="ab")
  limits = data.Limits(
    max_tokens=20, max_prompt_tokens=5, max_response_tokens=4
  )
  long = data.encode_pair(record, BPE, limits)
  assert long.prompt[0] == BPE.bos_id
  assert BPE.decode(long.prompt) == "6789"  # the end of the prompt is kept
  assert BPE.decode(long.chosen) == "abcd"
  assert BPE.eos_id not in long.chosen  # because the response didn't end there
  assert long.rejected.tolist() == BPE.encode("ab") + [BPE.eos_id]
  short = _record(prompt="0", chosen="abc", rejected="b")  # 4 with eos: fits
  pairs, cut = data.encode_pairs([record, short], BPE, limits)
  assert (cut.noun, cut.count) == ("pairs", 2)
  assert cut.parts == {
    "prompts": (2, 1, 6),
    "chosen": (2, 1, 3),
    "rejected": (2, 0, 0),
  }
  assert cut.identical == 0
  assert "1 prompts (oldest tokens) (50.0%, 6 tokens)" in cut.summary()
  assert cut.to_dict()["share"] == {
    "prompts": 0.5,
    "chosen": 0.5,
    "rejected": 0,
  }
  assert pairs[1].chosen[-1] == BPE.eos_id
  none = data.encode_pairs([short], BPE, limits)[1]
  assert none.summary() == "none of 1 pairs truncated"


def test_responses_made_equal_by_truncation_are_counted():
  record = _record(prompt="0", chosen="abcX", rejected="abcY")
  _, cut = data.encode_pairs(
    [record], BPE, data.Limits(max_tokens=20, max_response_tokens=3)
  )
  assert cut.identical == 1 and "1 pairs have equal responses" in cut.summary()


def test_response_takes_what_the_prompt_leaves():
  pair = data.encode_pair(
    _record(prompt="0123", chosen="abcdef"), BPE, data.Limits(max_tokens=8)
  )
  assert data.pair_length(pair) == 8


def test_no_room_for_a_response():
  with pytest.raises(UserError, match="f.jsonl:7.*no room.*max_prompt_tokens"):
    data.encode_pair(_record(prompt="01234567"), BPE, data.Limits(max_tokens=9))
  with pytest.raises(UserError, match="no room.*longer bucket"):
    data.Limits(max_tokens=64, max_prompt_tokens=64)
  for bad in (
    {"max_tokens": 1},
    {"max_tokens": 9, "max_prompt_tokens": 0},
    {"max_tokens": 9, "max_response_tokens": 0},
  ):
    with pytest.raises(UserError, match="is [01]"):
      data.Limits(**bad)


def test_prompt_without_a_token_is_named():
  class Nothing:
    def encode(self, text, add_special_tokens):
      return type("Encoding", (), {"ids": []})

    encode_special_tokens = True

  silent = dataclasses.replace(BPE, backend=Nothing())
  with pytest.raises(UserError, match="f.jsonl:7: the prompt has no token"):
    data.encode_prompts([_record()], silent)


def test_prompts():
  record = data.PromptRecord("0123456789", "f:1", "g")
  prompts = [
    data.encode_prompts([record], BPE, limit)[0] for limit in (None, 4)
  ]
  assert [data.prompt_length(p) for p in prompts] == [11, 4]
  assert prompts[1].text == "0123456789" and prompts[1].source == "f:1"
  batch = data.collate_prompts(prompts, pad_id=BPE.pad_id)
  assert batch.tokens.shape == (2, 11)
  assert batch.tokens.dtype == batch.lengths.dtype == np.int32
  assert batch.lengths.tolist() == [11, 4]
  assert BPE.decode(batch.tokens[1, :4]) == "789"
  assert (batch.tokens[1, 4:] == BPE.pad_id).all()
  wide = data.collate_prompts(prompts, 3, 16, fill=prompts[1])
  assert wide.tokens.shape == (3, 16) and wide.lengths.tolist() == [11, 4, 4]
  assert wide.weights.tolist() == [1, 1, 0]
  with pytest.raises(ValueError, match="11 tokens do not fit in 8"):
    data.collate_prompts(prompts, length=8)
  with pytest.raises(ValueError, match="3 examples do not fit in 2"):
    data.collate_prompts([*prompts, prompts[0]], 2)


def test_too_many_or_too_long():
  pairs, _ = data.encode_pairs([_record()] * 2, BPE, WIDE)
  with pytest.raises(ValueError, match="2 examples do not fit in 1 rows"):
    data.collate_pairs(pairs, 1, 16)
  with pytest.raises(ValueError, match="tokens do not fit in 3"):
    data.collate_pairs(pairs, 2, 3)

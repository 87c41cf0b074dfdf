"""Mismatched responses answer other prompts, if there are at least two."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jalign import data


def _example(prompt, response, label=True):
  ids = lambda *some: np.array(some, np.int32)
  return data.EncodedBinary(ids(prompt), ids(response), label, f"f:{response}")


def _examples(prompts):
  """Examples of the given prompts, with response 100 + i for example i."""
  return [_example(p, 100 + i) for i, p in enumerate(prompts)]


def _taken(prompts, **options):
  responses = data.other_responses(_examples(prompts), **options)
  return [None if ids is None else int(ids[0]) - 100 for ids in responses]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_all_answer_other_prompts(prompts):
  taken = _taken(prompts)
  if len(set(prompts)) < 2:
    assert taken == [None] * len(prompts)
    return
  assert all(prompts[j] != p for p, j in zip(prompts, taken))
  if 2 * max(map(prompts.count, prompts)) <= len(prompts):
    assert sorted(taken) == list(range(len(prompts)))  # each of them once


def test_the_next_response_where_all_prompts_differ():
  assert _taken([1, 2, 3, 4]) == [1, 2, 3, 0]
  assert _taken([1, 1, 2, 2]) == [2, 3, 0, 1]  # the two of a pair
  assert _taken([1, 1, 1, 2, 3]) == [3, 4, 3, 0, 1]


def test_a_batch_of_one_prompt_takes_others_from_the_data():
  rows = _examples([1, 1, 1, 2, 2, 3])
  spare = data.spare_responses(rows)
  assert [int(example.response[0]) for example in spare] == [100, 103, 105]
  responses = data.other_responses(rows[:3], spare)
  assert [int(ids[0]) for ids in responses] == [103, 103, 105]
  assert data.other_responses(rows[:1], spare[:1]) == [None]
  many = data.spare_responses(_examples(range(1, 1001)))
  assert len(many) <= 64 and many[-1].prompt[0] > 900  # from all of the data


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_labels_in_file_order(size):
  """Each prompt has four responses in a row, in the order of evaluation."""
  rows = _examples([1 + i // 4 for i in range(13)])
  collate = functools.partial(
    data.collate_unpaired, spare=data.spare_responses(rows)
  )
  loader = data.make_loader(
    rows,
    collate,
    batch_size=size,
    buckets=(4,),
    length_of=data.binary_length,
    epochs=1,
    shuffle=False,
    prefetch=0,
  )
  seen = 0
  for batch in loader:
    real = batch.data.weights > 0
    prompts, other = batch.data.mismatched.tokens[real, :2].T
    assert ((other - 100) // 4 + 1 != prompts).all()
    assert batch.data.mismatched.mask[real].sum(-1).tolist() == [1] * real.sum()
    assert not batch.data.unmatched[real].any()
    seen += int(real.sum())
  assert seen == 13


def test_a_mismatched_response_keeps_its_beginning():
  ids = lambda *values: np.array(values, np.int32)
  rows = [
    data.EncodedBinary(ids(1, 2, 3), ids(7), True, "a"),
    data.EncodedBinary(ids(4), ids(5, 6, 8), False, "b"),
  ]
  batch = data.collate_unpaired(rows, 2, 4)
  np.testing.assert_array_equal(
    batch.mismatched.tokens, [[1, 2, 3, 5], [4, 7, 0, 0]]
  )
  assert batch.mismatched_cut.tolist() == [2, 0]
  assert batch.mismatched.mask.sum(-1).tolist() == [1, 1]


def test_what_has_no_other_prompt_is_counted():
  batch = data.collate_unpaired(_examples([1, 1]), 3, 4)
  assert batch.unmatched.tolist() == [1, 1, 1]
  assert not batch.mismatched.mask.any()
  batch = data.collate_unpaired(_examples([1, 2]), 2, 4)
  assert batch.unmatched.tolist() == [0, 0]

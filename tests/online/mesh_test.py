"""Rounds on eight devices: each device has its own prompts and responses."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import sharding
from jalign.data import PromptBatch
from jalign.feedback import make_answers, on_tokens
from jalign.feedback.judge import _rows_of_each
from jalign.online import ALGORITHMS, arrange, make_round
from jalign.online.draws import POLICY, REFERENCE
from jalign.online.judging import _of_draw
from jalign.types import Sequences
from tests import programs
from tests.models.tiny import tiny

VOCAB, WIDTH, NEW = 8, 3, 2
MESH = (4, 2, 1)


@pytest.fixture(name="mesh", scope="module")
def _mesh():
  return sharding.make_mesh(*MESH)


def _prompts(count):
  rng = np.random.default_rng(0)
  return PromptBatch(
    rng.integers(1, VOCAB, (count, WIDTH)).astype(np.int32),
    np.full(count, WIDTH, np.int32),
    np.ones(count, np.float32),
    [f"prompt {i}" for i in range(count)],
  )


def _rows_on_devices(x, axis=0):
  """The number of rows that each device holds."""
  return {shard.data.shape[axis] for shard in x.addressable_shards}


@jax.jit
def _share(sequences):
  return jnp.sum(sequences.tokens * sequences.mask, -1) / sequences.lengths


def _played(algorithm, count, seen):
  _, model, params = tiny(
    vocab_size=VOCAB, num_hidden_layers=1, initializer_range=0.1, remat="none"
  )

  def noted(sequences):
    seen.append(sequences.tokens)
    return _share(sequences)

  play = make_round(
    algorithm,
    model,
    on_tokens(noted, rows=2 * sharding.batch_ways()),
    lambda ids: " ".join(map(str, ids)),
    max_new_tokens=NEW,
    stop_ids=(),
  )
  return play(params, params, _prompts(count), jax.random.key(0))


def _same(got, want):
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y), got, want)


def test_prompts_and_responses_are_split_over_the_devices(mesh, monkeypatch):
  """Two runs of the decoder, each of a response to each of 16 prompts."""
  module = sys.modules["jalign.decode.generate"]
  decode, given = module._generate, []

  def noted(policy, params, prompts, **options):
    given.append(prompts)
    return decode(policy, params, prompts, **options)

  monkeypatch.setattr(module, "_generate", noted)
  algorithm = ALGORITHMS["online_ipo"]._replace(draws=(POLICY, REFERENCE))
  alone = _played(algorithm, 16, [])
  given.clear()
  with jax.set_mesh(mesh):
    seen = []
    played = _played(algorithm, 16, seen)
  for prompts in given:
    read = prompts.tokens, prompts.lengths, prompts.keys
    assert [_rows_on_devices(x) for x in read] == [{2}] * 3
  assert len(given) == 2
  rollout = played.rollout
  for x in jax.tree.leaves(rollout.replace(model_logps=None)):
    assert _rows_on_devices(x) == {4}
  assert _rows_on_devices(rollout.model_logps, axis=1) == {4}
  assert [_rows_on_devices(x) for x in seen] == [{2}] * 2
  _same(rollout.sequences, alone.rollout.sequences)
  assert played.values == pytest.approx(alone.values, abs=1e-6)


def test_prompts_that_devices_do_not_divide_are_drawn_all_the_same(mesh):
  alone = _played(ALGORITHMS["nash_md"], 5, [])
  with jax.set_mesh(mesh):
    played = _played(ALGORITHMS["nash_md"], 5, [])
  _same(played.rollout.sequences, alone.rollout.sequences)
  _same(played.batches, alone.batches)
  assert played.values == pytest.approx(alone.values, abs=1e-6)


def test_no_row_leaves_its_device_when_it_is_judged_and_arranged(mesh):
  sequences = _sequences(32)
  with jax.set_mesh(mesh):
    placed = sharding.spread(sequences)
    wins = sharding.spread(np.arange(16) % 3 == 0)
    for lowered in (
      arrange._ordered.lower(placed, wins),
      arrange.firsts.lower(placed),
      arrange.picked.lower(placed, np.arange(16)[:, None] % 2, size=2),
      _of_draw.lower(placed, 1, 2),
      _rows_of_each.lower(placed, np.arange(2), ways=8),
    ):
      assert programs.exchanges(lowered.compile().as_text()) == []


def _sequences(count):
  rng = np.random.default_rng(count)
  lengths = rng.integers(2, WIDTH + 1, count).astype(np.int32)
  mask = np.arange(WIDTH) < lengths[:, None]
  tokens = rng.integers(1, VOCAB, (count, WIDTH)).astype(np.int32)
  return Sequences(tokens, mask, lengths)


@pytest.mark.parametrize("count", [3, 16, 21])
def test_a_judge_of_tokens_is_asked_for_rows_of_every_device(mesh, count):
  sequences = _sequences(count)
  answers = make_answers([""] * count, [""] * count, sequences=sequences)
  want = np.asarray(_share(sequences))
  with jax.set_mesh(mesh):
    seen = []

    def noted(sequences):
      seen.append(_rows_on_devices(sequences.tokens))
      return _share(sequences)

    given = on_tokens(noted, rows=8).reward(answers)
  assert seen == [{1}] * -(-count // 8)
  np.testing.assert_array_equal(np.asarray(given), want)

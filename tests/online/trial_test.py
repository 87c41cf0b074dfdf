"""Mistakes in an algorithm of one's own are named before any training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.online import (
  POLICY,
  Carry,
  Draw,
  Needs,
  Updates,
  bind,
  told,
  try_out,
)
from jalign.online.updates import cut
from jalign.types import SequenceBatch
from tests.models.tiny import tiny
from tests.online import toys

P, T = 4, 6


@functools.cache
def _params():
  return tiny(vocab_size=8, num_hidden_layers=1, remat="none")[2]


def _raises(judged):
  return judged.rewardz


def _of_others(judged):
  batch = toys.scored_lists(judged)
  return batch.replace(scores=jnp.zeros((5, toys.K)))


def _branches(carry, taken):
  return 2 * carry if taken.statistics["rollouts/reward_mean"] > 0 else carry


def _draws(params):
  return (POLICY,) * 3 + (Draw("other", params),)


@pytest.mark.parametrize(
  "change, text",
  [
    ({"draws": ()}, "algorithm: draws: the algorithm draws nothing"),
    (
      {"draws": (POLICY,), "needs": Needs(preference=((0, 1),))},
      "compares draws 0 and 1 of a prompt, but makes only 1",
    ),
    ({"arrange": _raises}, r"trial_test.py:\d+: arrange raised .*'rewardz'"),
    ({"arrange": lambda judged: None}, "gave a NoneType, not a batch"),
    ({"arrange": _of_others}, r"ListBatch.scores of shape \(5, 4\) for 4"),
    (
      {"draws": _draws(lambda cast: cast.carry["snapshot"])},
      r"trial_test.py:\d+: the draw 'other' raised",
    ),
    (
      {"draws": _draws(lambda cast: {"embed": jnp.zeros(3)})},
      "the draw 'other' gives no policy's parameters",
    ),
    (
      {"reference": lambda carry, start: carry},
      "reference gives no policy's parameters",
    ),
    (
      {"carry": Carry(lambda params: 1.0, _branches)},
      r"trial_test.py:\d+: carry.next raised .* choose with jnp.where",
    ),
    (
      {"updates": Updates(1, 3)},
      "algorithm_settings.minibatches: 4 prompts don't divide into 3",
    ),
  ],
)
def test_what_a_row_does_wrongly_is_said(change, text):
  row = toys.RLOO._replace(**change)
  with pytest.raises(UserError, match=text):
    try_out(row, _params(), prompts=P, columns=T)


def test_a_refused_hyperparameter_is_named():
  row = bind(toys.CLIPPED, {"advantage_scale": -1.0})
  with pytest.raises(UserError, match=r"_settings.advantage_scale: -1"):
    try_out(row, _params(), prompts=P, columns=T)


def test_a_draw_may_look_at_numbers_that_only_a_step_has():
  """Algorithms that choose on the host are tried up to that choice."""
  choose = lambda cast: cast.policy if cast.carry > 0 else cast.reference
  row = toys.RLOO._replace(
    draws=_draws(choose), carry=Carry(lambda params: 1.0, lambda c, taken: c)
  )
  batch = try_out(row, _params(), prompts=P, columns=T)
  assert batch.scores.shape == (P // 2, toys.K)


def test_what_is_told_computes_the_same():
  row = bind(toys.ADAPTIVE, {"target": 1.0, "coefficient": 0.25})
  same = told(row)
  assert same.draws == row.draws
  assert same.carry.init(3)["coefficient"] == 0.25


def test_responses_to_a_prompt_stay_together_where_each_is_an_example():
  """A batch may have several examples per prompt, and several rows of each."""
  prompt = np.repeat(np.arange(P), 3)
  batch = SequenceBatch(
    jnp.asarray(np.arange(3 * P)),
    jnp.ones(3 * P),
    rewards=jnp.asarray(prompt),
  )
  parts = cut(batch, Updates(1, 2), jax.random.key(0), P)
  assert len(parts) == 2
  for part in parts:
    values, counts = np.unique(part.rewards, return_counts=True)
    assert len(values) == 2 and set(counts) == {3}
  rows = np.concatenate([part.sequences for part in parts])
  assert sorted(rows) == list(range(3 * P)) and list(rows) != sorted(rows)

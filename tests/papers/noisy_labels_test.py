"""The page of wrong labels: its pairs, its models, and a small course."""

import numpy as np

from experiments.papers import noisy_labels
from jalign import losses
from jalign.data import tldr_world


def test_pairs_hold_the_worlds_exact_numbers():
  data = noisy_labels.pairs(5000, 40)
  np.testing.assert_allclose(data.gold, 1 / (1 + np.exp(-2 * data.gap)))
  assert data.features.shape == (40, 2, 8 + 36)
  # The gold reward is linear in what a reward model reads.
  gaps = data.features[:, 0, :8] - data.features[:, 1, :8]
  _, deviation = noisy_labels._scales()
  names = list(tldr_world.Attributes._fields)
  weight = dict(zip(names, deviation))
  head = np.zeros(8)
  for name, value in (
    ("grammatical", 3.0),
    ("coverage", 3.0),
    ("hallucinations", -1.5),
    ("redundant", -0.5),
    ("filler", -0.3),
    ("words", -0.05),
  ):
    head[names.index(name)] = value * weight[name]
  np.testing.assert_allclose(gaps @ head, data.gap, atol=1e-9)
  assert set(np.unique(data.groups.round(9))) <= {0.05, 0.5, 0.95}


def test_labels_are_draws_with_flips():
  data = noisy_labels.pairs(5000, 40)
  features, gap = noisy_labels._labelled(data, 3)
  apart = np.abs(data.gap) > 1e-9
  assert 0 < (~apart).sum() < 20
  expected, gold = data.features[apart], data.gap[apart]
  np.testing.assert_allclose(np.abs(gap), np.abs(gold))
  swapped = gap * gold < 0
  assert 0 < swapped.sum() < len(gap)
  np.testing.assert_array_equal(features[~swapped], expected[~swapped])
  np.testing.assert_array_equal(features[swapped], expected[swapped][:, ::-1])


def test_descent_ranks_what_can_be_ranked():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(60, 2, 3))
  head = np.array([1.0, -2.0, 0.5])
  first = (features @ head)[:, 0] > (features @ head)[:, 1]
  features = np.where(first[:, None, None], features, features[:, ::-1])
  found = noisy_labels._fit(losses.bradley_terry, features)
  gaps = (features[:, 0] - features[:, 1]) @ found
  assert (gaps > 0).mean() > 0.95
  cosine = found @ head / np.linalg.norm(found) / np.linalg.norm(head)
  assert cosine > 0.95


def test_wrong_labels_have_low_strength():
  run = noisy_labels.course(1, count=200, held_out=200)
  assert 0.1 < run.wrong.mean() < 0.4
  base, precise, recalled = noisy_labels._caught(run)
  assert precise > 1.5 * base and 0.2 < recalled <= 1
  assert run.strength[run.wrong].mean() < run.strength[~run.wrong].mean()
  assert set(run.nll) == set(run.accuracy)
  assert min(run.accuracy.values()) > 0.6

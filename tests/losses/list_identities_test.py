"""Identities of losses on lists: lists of two, limits, minima."""

import itertools
import json
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.losses.advantages import leave_one_out_advantages
from jalign.losses.listwise import orders
from tests.losses.identities_test import beta, close, few, length, logp, value
from tests.losses.lists_test import (
  full_list,
  gradient_of,
  loss_of,
  random_lists,
)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def softplus(x):
  return math.log1p(math.exp(x))


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, beta=beta)
def test_lists_of_two_are_pairs(c, r, rc, rr, beta):
  pair = (c, r, rc, rr)
  two = full_list([c, r], [0.8, 0.3], None, [rc, rr])
  dpo = value(losses.dpo, *pair, beta=beta)
  for name in ("pair_logistic", "list_mle"):
    close(loss_of(name, two, beta=beta), dpo, 1e-10)
  hard = {"beta": beta, "alpha": 1e-3}
  close(loss_of("info_nca", two, **hard), dpo, 1e-10)
  nca = value(losses.nca, *pair, beta=beta)
  close(loss_of("nca_list", two, **hard), nca, 1e-10)
  hinge = value(losses.slic_ratio, *pair, beta=beta)
  close(loss_of("pair_hinge", two, beta=beta), hinge, 1e-10)
  # if the gains are so far apart, Delta of ranks 1 and 2 is 1
  gain = 1 / (1 / math.log(2) - 1 / math.log(3))
  unit = two | {"scores": np.array([math.log2(1 + gain), 0.0])}
  close(loss_of("lipo_lambda", unit, beta=beta), dpo, 1e-10)


@few
@hypothesis.given(
  c=logp, r=logp, rc=logp, rr=logp, e=st.floats(0.01, 0.4), beta=beta
)
def test_exo_of_two_is_exo(c, r, rc, rr, e, beta):
  rewards = [0.7 * math.log((1 - e) / e), 0.0]
  two = full_list([c, r], rewards, None, [rc, rr])
  pair = value(losses.exo, c, r, rc, rr, beta=beta, label_smoothing=e)
  close(loss_of("exo_list", two, beta=beta, beta_r=0.7), pair, 1e-10)


def test_peers_on_pairs(shared):
  """Lists of two have the values of other libraries' losses on pairs."""
  golden = json.loads((shared / "golden" / "losses_peers.json").read_text())
  sums = [np.array(x) for x in golden["inputs"].values() if isinstance(x, list)]
  chosen, rejected, ref_chosen, ref_rejected = sums
  arrays = full_list(
    np.stack([chosen, rejected], -1),
    np.stack([chosen * 0 + 1, chosen * 0], -1),
    None,
    np.stack([ref_chosen, ref_rejected], -1),
  )
  theirs = lambda name: golden["losses"][name]["values"]
  hard = {"beta": 0.1, "alpha": 1e-4}  # their temperature of the rewards
  close(loss_of("nca_list", arrays, **hard), theirs("nca/pair"))
  close(loss_of("info_nca", arrays, **hard), theirs("em/dpo"))
  for name in ("pair_logistic", "list_mle"):
    close(loss_of(name, arrays, beta=0.1), theirs("trl028/sigmoid"))
  close(loss_of("pair_hinge", arrays, beta=0.1), theirs("trl028/hinge"))
  exo = loss_of("exo_list", arrays, beta=0.1, beta_r=1 / math.log(9))
  close(exo, theirs("trl028/exo_pair/ls=0.1"))


def test_lambda_in_both_scales():
  arrays = random_lists()
  scores, valid = arrays["scores"], arrays["valid"]
  size = valid.sum(-1)
  pairs = size * (size - 1) / 2  # no two scores are equal
  scale = math.log(2) * size / np.maximum(pairs, 1)
  plain, rax = (loss_of(n, arrays) for n in ("lipo_lambda", "lipo_lambda_rax"))
  close(rax, scale * plain, 1e-12)
  # a higher label weighs more: gains are exponential
  up = arrays | {"scores": scores + 1}
  close(loss_of("lipo_lambda", up), 2 * plain, 1e-12)


def test_lambda_weights_are_constants():
  s, labels = np.array([0.3, -0.1, 0.2, 0.0]), np.array([0.9, 0.2, 0.6, 0.1])
  rank = {0: 1, 2: 2, 3: 3, 1: 4}
  expected = np.zeros(4)
  for i, j in itertools.permutations(range(4), 2):
    if labels[i] > labels[j]:
      gain = 2 ** labels[i] - 2 ** labels[j]
      discounts = [1 / math.log(1 + rank[k]) for k in (i, j)]
      weight = gain * abs(discounts[0] - discounts[1])
      push = weight / (1 + math.exp(s[i] - s[j]))
      expected[i] -= push
      expected[j] += push
  close(
    gradient_of("lipo_lambda", full_list(s, labels), beta=1.0), expected, 1e-12
  )


def test_lambda_at_the_reference():
  """Responses of equal rewards have ranks in the list's order."""
  arrays = full_list([-3.0, -3.0], [0.0, 1.0], None, [-3.0, -3.0])
  weight = 1 / math.log(2) - 1 / math.log(3)
  close(loss_of("lipo_lambda", arrays), weight * math.log(2))
  three = full_list([-3.0] * 3, [1.0, 0.0, 0.0], None, [-3.0] * 3)
  last = full_list([-3.0] * 3, [0.0, 0.0, 1.0], None, [-3.0] * 3)
  first = 2 / math.log(2) - 1 / math.log(3) - 1 / math.log(4)
  close(loss_of("lipo_lambda", three), first * math.log(2))
  third = 1 / math.log(2) + 1 / math.log(3) - 2 / math.log(4)
  close(loss_of("lipo_lambda", last), third * math.log(2))


def test_labels_too_large_for_a_gain():
  arrays = full_list([-3.0, -4.0, -5.0], [1e4, 0.0, 80.0])
  loss = losses.lipo_lambda(
    *(jnp.asarray(arrays[k], jnp.float32) for k in ("logps", "ref_logps")),
    jnp.asarray(arrays["scores"], jnp.float32),
    arrays["valid"],
  )
  assert np.isfinite(loss) and loss > 2**60


@few
@hypothesis.given(
  c=st.floats(-3, 0),
  r=st.floats(-3, 0),
  n=length,
  m=length,
  g=st.floats(0.1, 3),
)
def test_pro_of_two(c, r, n, m, g):
  two = full_list([c * n, r * m], [g - 1, -1.0], [n, m])
  ranking = loss_of("pro", two, beta_sft=0.0)
  close(ranking, softplus(g * (r - c)), 1e-10)
  close(loss_of("pro", two, beta_sft=0.3), ranking - 0.3 * c * n, 1e-10)
  unit = full_list([c, r], [0.0, -1.0])
  ours = loss_of("pro", unit, beta_sft=0.0)
  close(ours, loss_of("list_mle", unit, beta=1.0), 1e-10)


def test_pro_with_one_temperature_is_plackett_luce(monkeypatch):
  arrays = random_lists()
  averages = arrays | {
    "logps": arrays["logps"] / arrays["lengths"],
    "ref_logps": 0 * arrays["logps"],
  }
  expected = loss_of("list_mle", averages, beta=1.0)
  apart = loss_of("pro", arrays, beta_sft=0.0)
  ones = lambda x: jnp.ones(x.shape + x.shape[-1:])
  monkeypatch.setattr(orders, "differences", ones)
  names = losses.array_parameters(losses.pro)
  same = losses.pro(*(arrays[key] for key in names), beta_sft=0.0)
  close(same, expected, 1e-12)
  assert np.abs(apart - expected).max() > 0.1


def test_pro_takes_the_largest_gap_for_the_better():
  p, r = np.array([-1.2, -1.0, -1.5]), np.array([2.0, 1.0, 0.5])
  first = math.exp(1.5 * p[0]), math.exp(1.0 * p[1]), math.exp(1.5 * p[2])
  second = math.exp(0.5 * p[1]), math.exp(0.5 * p[2])
  expected = sum(-math.log(x[0] / sum(x)) for x in (first, second))
  close(loss_of("pro", full_list(p, r), beta_sft=0.0), expected)
  likelihood = loss_of("pro", full_list(p, r), beta_sft=1.0) - expected
  close(likelihood, -4 * p[0])


@few
@hypothesis.given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 4))
def test_rrhf_pays_for_a_wrong_order_only(seed, scale):
  rng = np.random.default_rng(seed)
  p, lengths = np.sort(rng.uniform(-3, -0.1, 4)), rng.integers(1, 9, 4)
  right = full_list(p * lengths, [1, 2, 3, 4], lengths)
  close(loss_of("rrhf", right, beta_sft=0.0), 0)
  close(loss_of("rrhf", right), -p[3] * lengths[3])
  wrong = right | {"scores": right["scores"][::-1]}
  apart = sum(p[i] - p[j] for i in range(4) for j in range(i))
  close(loss_of("rrhf", wrong, beta_sft=0.0), apart)
  scaled = wrong | {"logps": scale * wrong["logps"]}
  close(loss_of("rrhf", scaled), scale * loss_of("rrhf", wrong))
  sums = wrong | {"lengths": np.ones(4)}
  close(loss_of("rrhf", wrong, exponent=0.0), loss_of("rrhf", sums))


def test_hinges_at_their_kinks():
  at = full_list([-2.0, -2.0], [1.0, 0.0])
  np.testing.assert_array_equal(gradient_of("rrhf", at, beta_sft=0.0), 0)
  at = full_list([1.0, 0.0], [1.0, 0.0])
  np.testing.assert_array_equal(gradient_of("pair_hinge", at, beta=1.0), 0)


@few
@hypothesis.given(c=st.floats(-3, 0), r=st.floats(-3, 0), n=length, m=length)
def test_aft_of_two(c, r, n, m):
  two = full_list([c * n, r * m], [1, 0], [n, m])
  for name in ("aft", "aft_detached"):
    close(loss_of(name, two), softplus(r - c), 1e-10)
  alone = gradient_of("aft_detached", two)
  close(alone[0], gradient_of("aft", two)[0], 1e-10)
  assert alone[1] == 0 < gradient_of("aft", two)[1]


def test_aft_detached_leaves_wrong_answers_alone():
  arrays = full_list([-1.0, -1.2, -1.4, -2.5], [1, 0, 1, 0])
  gradient = gradient_of("aft_detached", arrays)
  assert (gradient[[1, 3]] == 0).all() and (gradient[[0, 2]] < 0).all()
  ranked = arrays | {"scores": np.array([3.0, 2.0, 1.0, 0.0])}
  gradient = gradient_of("aft_detached", ranked)
  assert gradient[3] == 0 and (gradient[:3] < 0).all()


@few
@hypothesis.given(
  a=st.floats(-3, 0), b=st.floats(-3, 0), bound=st.floats(0, 2), n=length
)
def test_aft_boundary_holds_a_wrong_answer(a, b, bound, n):
  stop = min(a, b) - bound

  def slope(p):
    arrays = full_list([a * 2, b * 3, p * n], [1, 1, 0], [2, 3, n])
    return float(gradient_of("aft_boundary", arrays, boundary=bound)[2])

  close(slope(stop), 0, 1e-10)
  assert slope(stop - 0.1) < 0 < slope(stop + 0.1)


def test_aft_boundary_does_not_push_the_better():
  """The constraint moves the worse response only, as T is a constant."""
  arrays = full_list([-1.0, -9.0], [1, 0])  # far below the boundary
  p, bound = arrays["logps"], 0.2
  up, back = math.exp(p[1] - p[0]), math.exp(p[0] - 2 * bound - p[1])
  gradient = gradient_of("aft_boundary", arrays, boundary=bound)
  close(gradient, np.array([-up, up - back]) / (1 + up + back))


def test_minima():
  rng = np.random.default_rng(0)
  labels = rng.uniform(0.05, 0.95, (16, 4))
  ref = rng.uniform(-20, -5, labels.shape)
  at = lambda s: full_list(ref + s, labels, None, ref)
  normalised = lambda w: w / w.sum(-1, keepdims=True)
  entropy = lambda w: -(w * np.log(w)).sum(-1)
  label, weights = normalised(np.exp(labels / 0.5)), normalised(labels)
  odds = np.log(labels / (1 - labels))
  minima = [
    ("point_mse", {}, labels, 0.0),
    ("point_sigmoid", {}, odds, (entropy(labels) + entropy(1 - labels))),
    ("list_net", {}, np.log(weights) + 3, entropy(weights)),
    ("info_nca", {"alpha": 0.5}, labels / 0.5 + 3, entropy(label)),
    ("nca_list", {"alpha": 0.5}, np.log(4 * label), None),  # K label are odds
    ("exo_list", {"beta_r": 0.5}, labels / 0.5 + 3, 0.0),
  ]
  for name, settings, best, least in minima:
    settings = settings | {"beta": 1.0}
    close(gradient_of(name, at(best), **settings), 0, 1e-10)
    here = loss_of(name, at(best), **settings)
    if least is not None:
      close(here, least, 1e-10)
    for step in rng.normal(0, 0.5, (3, *labels.shape)):
      assert (loss_of(name, at(best + step), **settings) > here).all(), name


def test_leave_one_out():
  rng = np.random.default_rng(0)
  rewards = rng.normal(0, 1, (6, 4))
  full = np.ones((6, 4), bool)
  ours = leave_one_out_advantages(rewards, full)
  for b, i in itertools.product(range(6), range(4)):
    others = np.delete(rewards[b], i)
    close(ours[b, i], rewards[b, i] - others.mean())
  close(ours.sum(-1), 0)
  close(0.75 * ours, rewards - rewards.mean(-1, keepdims=True))
  close(leave_one_out_advantages(rewards + 7, full), ours)
  short = full.copy()
  short[:, 3] = False
  hidden = np.where(short, rewards, np.nan)
  three = leave_one_out_advantages(rewards[:, :3], full[:, :3])
  close(leave_one_out_advantages(hidden, short)[:, :3], three)
  alone = leave_one_out_advantages(rewards[:, :1], full[:, :1])
  np.testing.assert_array_equal(alone, 0)
  total = lambda x: leave_one_out_advantages(x, full)[0, 0]
  np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(rewards)), 0)
  assert leave_one_out_advantages(rewards.astype("f4"), full).dtype == "f4"
  with pytest.raises(AssertionError):
    leave_one_out_advantages(rewards, full[:1])


@pytest.mark.parametrize("samples", [2, 3])
def test_rloo_is_unbiased(samples):
  """Its expectation is over all samples of a policy with three responses."""
  logits, rewards = jnp.array([0.3, -0.5, 0.1]), np.array([1.0, -0.4, 2.0])
  drawn = np.array(list(itertools.product(range(3), repeat=samples)))
  chances = np.exp(jax.nn.log_softmax(logits))[drawn].prod(-1)

  def surrogate(logits):
    loss = losses.rloo(
      jax.nn.log_softmax(logits)[drawn],
      rewards[drawn],
      np.ones(drawn.shape, bool),
    )
    return (chances * loss).sum()

  expected = jax.grad(lambda x: -(jax.nn.softmax(x) * rewards).sum())(logits)
  close(jax.jit(jax.grad(surrogate))(logits), expected, 1e-12)

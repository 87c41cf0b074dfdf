"""Sums of losses."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.losses import weighted_sum

REFERENCED = (
  "chosen_logps",
  "rejected_logps",
  "ref_chosen_logps",
  "ref_rejected_logps",
)
PAIR = {
  "chosen_logps": jnp.array([-10.0, -11.2]),
  "rejected_logps": jnp.array([-12.0, -12.0]),
  "ref_chosen_logps": jnp.array([-11.0, -11.0]),
  "ref_rejected_logps": jnp.array([-11.5, -11.5]),
  "chosen_lengths": jnp.array([5.0, 4.0]),
}
REFERENCED_PAIR = {name: PAIR[name] for name in REFERENCED}


def test_rpo_in_both_forms():
  code = losses.rpo_code(beta=0.1, eta=0.2)
  assert code(**PAIR)[0] == pytest.approx(1.020957, abs=1e-6)
  paper = losses.rpo(beta=0.1, eta=0.2)
  assert paper(**REFERENCED_PAIR)[0] == pytest.approx(0.820957, abs=1e-6)


def test_rpo_pulls_on_the_chosen_response_alone():
  dpo = functools.partial(losses.dpo, beta=0.5)
  gradient = lambda f, arrays: jax.grad(lambda x: f(**x).sum())(arrays)
  alone = gradient(dpo, REFERENCED_PAIR)
  summed = gradient(losses.rpo_code(), PAIR)
  np.testing.assert_allclose(
    summed["rejected_logps"], alone["rejected_logps"], rtol=1e-6
  )
  np.testing.assert_allclose(
    summed["chosen_logps"],
    alone["chosen_logps"] - 0.2 / PAIR["chosen_lengths"],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(summed["ref_chosen_logps"], 0)
  np.testing.assert_array_equal(
    losses.rpo_code(eta=0.0)(**PAIR), dpo(**REFERENCED_PAIR)
  )


def test_presets_are_sums_of_their_parts():
  mpo = losses.mpo(beta=0.2, shift=0.1)
  pair = REFERENCED_PAIR
  np.testing.assert_allclose(
    mpo(**pair),
    0.8 * losses.dpo(**pair, beta=0.2)
    + 0.2 * losses.bco(**pair, beta=0.2, shift=0.1)
    - pair["chosen_logps"],
    rtol=1e-6,
  )
  assert [t.denominator for t in mpo.terms] == [
    "examples",
    "examples",
    "chosen_tokens",
  ]
  cpo = losses.cpo_sft(beta=0.2, alpha=0.5)
  two = (pair["chosen_logps"], pair["rejected_logps"])
  np.testing.assert_allclose(
    cpo(*two, PAIR["chosen_lengths"]),
    losses.cpo(*two, PAIR["chosen_lengths"], beta=0.2, alpha=0.0)
    - 0.5 * pair["chosen_logps"],
    rtol=1e-6,
  )
  for name, preset in losses.PRESETS.items():
    loss, entry = losses.resolve(name)
    assert entry.function is loss
    assert entry.batch == ("tokens" if name == "ppo" else "pairs")
    assert losses.formula_of(preset).startswith("l = ")
  with pytest.raises(UserError, match="rpo has no hyperparameter 'alpha'.*eta"):
    losses.resolve("rpo", alpha=0.1)
  with pytest.raises(UserError, match="Did you mean 'rpo_code'"):
    losses.resolve("rpo_cod")


def test_signature_is_the_union_in_order():
  names = (*REFERENCED, "chosen_lengths")
  loss = losses.rpo_code()
  assert losses.array_parameters(loss) == names
  assert tuple(inspect.signature(loss).parameters) == names
  assert losses.hyperparameters(loss) == {}
  turned = weighted_sum({"sft_avg": 1.0, "dpo": 1.0})
  assert losses.array_parameters(turned) == (
    "chosen_logps",
    "chosen_lengths",
    *REFERENCED[1:],
  )
  assert losses.name_of(turned) == "sft_avg + dpo"


def test_by_position_and_by_name():
  loss = losses.rpo_code()
  arrays = [PAIR[name] for name in losses.array_parameters(loss)]
  by_name = loss(**PAIR)
  np.testing.assert_array_equal(loss(*arrays), by_name)
  np.testing.assert_array_equal(
    loss(
      *arrays[:2], **dict(zip(losses.array_parameters(loss)[2:], arrays[2:]))
    ),
    by_name,
  )
  for call in (
    lambda: loss(*arrays[:-1]),
    lambda: loss(*arrays, arrays[0]),
    lambda: loss(**PAIR, rejected_lengths=arrays[0]),
  ):
    with pytest.raises(TypeError):
      call()


def test_a_function_is_a_term_too():
  def flipped(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  ):
    return losses.dpo(
      rejected_logps, chosen_logps, ref_rejected_logps, ref_chosen_logps
    )

  e = 0.3
  smoothed = weighted_sum({losses.dpo: 1 - e, flipped: e})
  np.testing.assert_allclose(
    smoothed(**REFERENCED_PAIR),
    losses.dpo(**REFERENCED_PAIR, label_smoothing=e),
    rtol=1e-6,
  )
  assert [t.name for t in smoothed.terms] == ["dpo", "flipped"]


def test_weights_can_be_traced():
  eta = jnp.array([0.0, 0.1, 0.2])
  loss = lambda w: losses.rpo_code(eta=w)(**PAIR)
  swept = jax.jit(jax.vmap(loss))(eta)
  expected = [loss(float(w)) for w in eta]
  np.testing.assert_allclose(swept, expected, rtol=1e-6)
  slope = jax.grad(lambda w: loss(w).sum())(0.2)
  assert slope == pytest.approx(10 / 5 + 11.2 / 4)


def test_sums_nest_and_bind():
  rpo = losses.rpo_code()
  outer = weighted_sum({rpo: 2.0, losses.dpo: -1.0})
  np.testing.assert_allclose(
    outer(**PAIR),
    2 * rpo(**PAIR) - losses.dpo(**REFERENCED_PAIR),
    rtol=1e-6,
  )
  assert [t.weight for t in outer.terms] == [2.0, 0.4, -1.0]
  bound = functools.partial(rpo, chosen_lengths=PAIR["chosen_lengths"])
  assert losses.array_parameters(bound) == REFERENCED
  np.testing.assert_array_equal(bound(**REFERENCED_PAIR), rpo(**PAIR))
  assert losses.array_parameters(jax.jit(rpo)) == tuple(PAIR)


def test_a_sum_is_divided_as_its_terms_are():
  entry = lambda **weights: weighted_sum(weights).entry
  assert entry(dpo=1.0, sft=1.0).denominator == "examples"
  assert entry(sft=1.0).denominator == "tokens"
  assert entry(sft=1.0).batch == "sequences"
  assert not entry(dpo=1.0).coupled and entry(aot_paired=1.0).coupled
  both = weighted_sum({"sft": 1.0, "sft_avg": 1.0})
  assert [t.denominator for t in both.terms] == ["tokens", "examples"]


def test_a_loss_on_responses_takes_the_chosen_ones_of_pairs():
  """It gets all arrays of the chosen responses, and none of the rejected."""
  both = weighted_sum({"dpo": 1.0, "r_lol": 2.0, "sft_avg": 3.0})
  scored = {
    "chosen_scores": jnp.array([1.5, -0.5]),
    "chosen_lengths": PAIR["chosen_lengths"],
  }
  assert losses.array_parameters(both) == (*REFERENCED, *scored)
  own = (PAIR["chosen_logps"], PAIR["ref_chosen_logps"])
  parts = (
    losses.dpo(**REFERENCED_PAIR),
    2 * losses.r_lol(*own, scored["chosen_scores"]),
    3 * losses.sft_avg(own[0], scored["chosen_lengths"]),
  )
  want = parts[0] + parts[1] + parts[2]
  np.testing.assert_allclose(both(**REFERENCED_PAIR, **scored), want, rtol=1e-6)


@pytest.mark.parametrize(
  "weights, settings, message",
  [
    ({}, {}, "needs a term"),
    ({1.0: 1.0}, {}, "1.0 is neither a loss nor the name"),
    ({"dppo": 1.0}, {}, "unknown loss 'dppo'.*Did you mean 'dpo'"),
    ({"dpo": 1.0}, {"dpo": {"betta": 1}}, "dpo has no hyperparameter 'betta'"),
    ({"dpo": 1.0}, {"ipo": {"tau": 1}}, "settings for ipo.*Its terms: dpo"),
    ({"dpo": 1.0, "list_mle": 1.0}, {}, "batches of lists and pairs"),
    ({"sft": 1.0, "list_mle": 1.0}, {}, "batches of lists and sequences"),
    ({"dpo": 1.0, "poft": 1.0}, {}, "poft takes aligned_logps"),
  ],
)
def test_errors(weights, settings, message):
  with pytest.raises(UserError, match=message):
    weighted_sum(weights, **settings)

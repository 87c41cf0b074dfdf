"""Sums of losses."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.losses import Term, weighted_sum

CHOSEN = {"logps": "chosen_logps", "lengths": "chosen_lengths"}
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


def rpo(beta, eta):
  """As its authors' code has it."""
  return weighted_sum(
    (1.0, functools.partial(losses.dpo, beta=beta)),
    Term(eta, losses.sft_avg, rename=CHOSEN),
  )


def test_rpo_in_both_forms():
  assert rpo(0.1, 0.2)(**PAIR)[0] == pytest.approx(1.020957, abs=1e-6)
  paper = weighted_sum(
    (1.0, functools.partial(losses.dpo, beta=0.1)),
    Term(0.2 * 0.1, losses.sft, rename={"logps": "chosen_logps"}),
  )
  assert paper(**REFERENCED_PAIR)[0] == pytest.approx(0.820957, abs=1e-6)


def test_rpo_pulls_on_the_chosen_response_alone():
  dpo = functools.partial(losses.dpo, beta=0.5)
  gradient = lambda f, arrays: jax.grad(lambda x: f(**x).sum())(arrays)
  alone = gradient(dpo, REFERENCED_PAIR)
  summed = gradient(rpo(0.5, 0.2), PAIR)
  np.testing.assert_allclose(
    summed["rejected_logps"], alone["rejected_logps"], rtol=1e-6
  )
  np.testing.assert_allclose(
    summed["chosen_logps"],
    alone["chosen_logps"] - 0.2 / PAIR["chosen_lengths"],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(summed["ref_chosen_logps"], 0)
  np.testing.assert_array_equal(rpo(0.5, 0.0)(**PAIR), dpo(**REFERENCED_PAIR))


def test_signature_is_the_union_in_order():
  names = (*REFERENCED, "chosen_lengths")
  assert losses.array_parameters(rpo(0.5, 0.2)) == names
  assert tuple(inspect.signature(rpo(0.5, 0.2)).parameters) == names
  assert losses.hyperparameters(rpo(0.5, 0.2)) == {}
  turned = weighted_sum(
    Term(1.0, losses.sft_avg, rename=CHOSEN), (1.0, losses.dpo)
  )
  assert losses.array_parameters(turned) == (
    "chosen_logps",
    "chosen_lengths",
    *REFERENCED[1:],
  )


def test_by_position_and_by_name():
  loss = rpo(0.5, 0.2)
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


def test_renaming_can_swap():
  swap = {
    "chosen_logps": "rejected_logps",
    "rejected_logps": "chosen_logps",
    "ref_chosen_logps": "ref_rejected_logps",
    "ref_rejected_logps": "ref_chosen_logps",
  }
  e = 0.3
  smoothed = weighted_sum((1 - e, losses.dpo), Term(e, losses.dpo, rename=swap))
  np.testing.assert_allclose(
    smoothed(**REFERENCED_PAIR),
    losses.dpo(**REFERENCED_PAIR, label_smoothing=e),
    rtol=1e-6,
  )


def test_weights_can_be_traced():
  eta = jnp.array([0.0, 0.1, 0.2])
  swept = jax.jit(jax.vmap(lambda w: rpo(0.5, w)(**PAIR)))(eta)
  each = [rpo(0.5, float(w))(**PAIR) for w in eta]
  np.testing.assert_allclose(swept, each, rtol=1e-6)
  slope = jax.grad(lambda w: rpo(0.5, w)(**PAIR).sum())(0.2)
  assert slope == pytest.approx(10 / 5 + 11.2 / 4)


def test_sums_nest_and_bind():
  outer = weighted_sum((2.0, rpo(0.5, 0.2)), (-1.0, losses.dpo))
  np.testing.assert_allclose(
    outer(**PAIR),
    2 * rpo(0.5, 0.2)(**PAIR) - losses.dpo(**REFERENCED_PAIR),
    rtol=1e-6,
  )
  bound = functools.partial(
    rpo(0.5, 0.2), chosen_lengths=PAIR["chosen_lengths"]
  )
  assert losses.array_parameters(bound) == REFERENCED
  np.testing.assert_array_equal(bound(**REFERENCED_PAIR), rpo(0.5, 0.2)(**PAIR))
  assert losses.array_parameters(jax.jit(rpo(0.5, 0.2))) == tuple(PAIR)


@pytest.mark.parametrize(
  "terms, message",
  [
    ((), "needs a term"),
    (((losses.dpo, 1.0),), "1.0 is no loss"),
    ((Term(1.0, losses.sft, {"lengths": "x"}),), "sft takes logps.*lengths"),
    (
      (Term(1.0, losses.sft_avg, {"lengths": "logps"}),),
      "two arrays of sft_avg have one name",
    ),
  ],
)
def test_errors(terms, message):
  with pytest.raises(UserError, match=message):
    weighted_sum(*terms)


def test_terms_must_agree_on_the_batch():
  single = {"logps": "gold_logps"}
  loss = weighted_sum((1.0, losses.dpo), Term(1.0, losses.sft, single))
  with pytest.raises(AssertionError):
    loss(**REFERENCED_PAIR, gold_logps=jnp.zeros(1))

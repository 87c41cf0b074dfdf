"""Losses by name, what they take, and the table."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jalign import losses
from jalign.errors import UserError


def test_a_name_and_hyperparameters_give_a_function_of_arrays():
  loss, entry = losses.resolve("dpo", beta=0.5)
  assert entry is losses.CATALOGUE["dpo"]
  at = (jnp.array([-3.0]),) * 4
  assert loss(*at)[0] == pytest.approx(0.693147, abs=1e-6)
  one = jnp.array([-2.0])
  expected = losses.dpo(one, *at[1:], beta=0.5)
  assert loss(one, *at[1:]) == expected != losses.dpo(one, *at[1:])
  assert losses.array_parameters(loss) == losses.array_parameters(losses.dpo)
  assert losses.hyperparameters(loss) == {"beta": 0.5, "label_smoothing": 0.0}


def test_errors_name_what_there_is():
  with pytest.raises(UserError, match="'dppo'.*'dpo'.*simpo.*sft_avg"):
    losses.resolve("dppo")
  with pytest.raises(UserError, match="dpo.*'betta'.*beta.*label_smoothing"):
    losses.resolve("dpo", betta=0.5)
  with pytest.raises(UserError, match="sft.*'beta'.*none"):
    losses.resolve("sft", beta=0.5)
  with pytest.raises(UserError, match="chosen_logps"):
    losses.resolve("dpo", chosen_logps=jnp.zeros(1))


def test_parameters_through_partials_and_transformations():
  bound = functools.partial(
    functools.partial(losses.simpo, beta=1.0), gamma=0.0
  )
  for loss in (losses.simpo, bound, jax.jit(losses.simpo), jax.jit(bound)):
    assert losses.array_parameters(loss) == (
      "chosen_logps",
      "rejected_logps",
      "chosen_lengths",
      "rejected_lengths",
    )
    assert set(losses.hyperparameters(loss)) == {"beta", "gamma"}
  assert losses.name_of(bound) == "simpo"
  first = functools.partial(losses.sft_avg, jnp.zeros(1))
  assert losses.array_parameters(first) == ("lengths",)


def test_an_optional_parameter_is_no_array():
  def loss(logps, extra=None, *, beta=1.0):
    return logps

  assert losses.array_parameters(loss) == ("logps",)
  assert losses.hyperparameters(loss) == {"beta": 1.0}


def test_table_has_a_row_for_each_loss():
  lines = losses.markdown_table().splitlines()
  assert len(lines) == 2 + len(losses.CATALOGUE)
  assert len({line.count("|") for line in lines}) == 1
  assert (
    "| `simpo` | pairs | `chosen_logps`, `rejected_logps`, `chosen_lengths`,"
    " `rejected_lengths` | `beta=2.0`, `gamma=0.5` |"
    " [2405.14734](https://arxiv.org/abs/2405.14734) |"
  ) in lines

"""Losses by name, their arguments, and the loss tables."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from jalign import losses
from jalign.cli import loss_tables
from jalign.errors import UserError
from jalign.training.kinds import KINDS, referring


def test_a_name_and_hyperparameters_give_a_function_of_arrays():
  loss, entry = losses.resolve("dpo", beta=0.5)
  assert entry is losses.CATALOGUE["dpo"]
  at = (jnp.array([-3.0]),) * 4
  assert loss(*at)[0] == pytest.approx(0.693147, abs=1e-6)
  logps = jnp.array([-2.0])
  expected = losses.dpo(logps, *at[1:], beta=0.5)
  assert loss(logps, *at[1:]) == expected != losses.dpo(logps, *at[1:])
  assert losses.array_parameters(loss) == losses.array_parameters(losses.dpo)
  assert losses.hyperparameters(loss) == {"beta": 0.5, "label_smoothing": 0.0}


def test_errors_name_what_there_is():
  with pytest.raises(UserError, match="unknown loss 'ddpo'.*mean 'dpo'"):
    losses.resolve("ddpo")
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


def _rows(markdown):
  return [x for x in markdown.splitlines() if x.startswith("| `")]


def test_tables_have_a_row_for_each_loss_and_a_heading_for_each_kind():
  markdown = loss_tables.markdown_table()
  names = [row.split("`")[1] for row in _rows(markdown)]
  assert sorted(names) == sorted(losses.CATALOGUE)
  headings = re.findall(r"^### `(\w+)`$", markdown, flags=re.M)
  assert set(headings) == {e.batch for e in losses.CATALOGUE.values()}
  bars = {len(re.findall(r"(?<!\\)\|", row)) for row in _rows(markdown)}
  assert bars == {6}  # those within a cell are escaped
  assert (
    r"| `ipo_avg` | `(r_w / \|y_w\| - r_l / \|y_l\| - 1 / (2 tau))^2` |"
    " `tau=0.1` | yes | [2310.12036](https://arxiv.org/abs/2310.12036) |"
  ) in _rows(markdown)


def test_rows_and_legend_together_are_the_formulas():
  for entries in loss_tables.groups().values():
    shared = loss_tables.legend(entries)
    symbols = [clause.partition(" = ")[0] for clause in shared]
    assert len(set(symbols)) == len(symbols)
  markdown = loss_tables.markdown_table().replace(r"\|", "|")
  for name, entry in losses.CATALOGUE.items():
    row = next(r for r in _rows(markdown) if r.startswith(f"| `{name}` "))
    shared = loss_tables.legend(loss_tables.groups()[entry.batch])
    first, *definitions = loss_tables.clauses(entry)
    assert re.sub(r"^l(_b)? = ", "", first) in row
    for clause in definitions:
      assert (clause in row) != (clause in shared), (name, clause)
    assert ("| yes |" in row) == bool(
      referring(KINDS[entry.batch], losses.array_parameters(entry.function))
    )


def test_a_symbol_of_a_row_is_not_the_legends():
  """If a loss uses a letter in its own sense, its row says so."""
  row = next(
    r for r in _rows(loss_tables.markdown_table()) if "`alpha_po`" in r
  )
  assert "p = pi(y)^" in row

"""Advice for what doesn't fit: enough, tried, and ready to paste."""

import shlex

import pytest

from jalign.cli.config_file import read_config
from jalign.plan import advice, changes
from jalign.plan.asked import asked
from jalign.plan.table import GIB

KEYS = [
  ("stages", "('align',)"),
  ("batch_size", "32"),
  ("steps", "10"),
  ("tokenizer.vocab_size", "512"),
  ("model.hidden_size", "64"),
  ("model.intermediate_size", "128"),
  ("model.num_hidden_layers", "4"),
  ("model.num_attention_heads", "4"),
  ("model.num_key_value_heads", "4"),
  ("model.remat", "none"),
  ("data.buckets", "(128,)"),
  ("data.max_prompt_tokens", "64"),
]


class _Measured:
  def __init__(self, needs, usable):
    self.needs, self.fits = needs, needs <= usable


def _case(share, *keys):
  """A run that needs more than there is, and a stand-in for the compiler."""
  settings, target, _, _ = asked(read_config("dpo", [*KEYS, *keys]), "local")
  needs = advice.formula(settings, target)
  usable = share * max(needs.values())
  chip = target.chip._replace(usable=usable)
  target = target._replace(chip=chip)
  compiled = []

  def measure(settings, target, names):
    compiled.append((settings, names))
    found = advice.formula(settings, target)
    return [_Measured(found[name], usable) for name in names]

  return settings, target, needs, measure, compiled


def _pasted(flags, *keys):
  """The settings of a command with more flags."""
  words = [word.removeprefix("--config.") for word in shlex.split(flags)]
  mesh = [word for word in words if word.startswith("--mesh=")]
  more = [tuple(w.split("=", 1)) for w in words if w not in mesh]
  for sizes in mesh:
    names = ("mesh.data", "mesh.fsdp", "mesh.tensor")
    more += zip(names, sizes.removeprefix("--mesh=").split("x"))
  return asked(read_config("dpo", [*KEYS, *keys, *more]), "local").settings


@pytest.mark.parametrize("share", [0.8, 0.3])
def test_what_is_advised_fits_and_can_be_pasted(share):
  settings, target, needs, measure, compiled = _case(share)
  found = advice.advise(settings, target, needs, measure)
  assert found[0].compiled
  for a in found[: len(compiled)]:
    assert a.compiled
    pasted = _pasted(" ".join(a.flags))
    after = advice.formula(pasted, target)
    assert max(after.values()) == pytest.approx(a.needs)
    assert a.fits == (a.needs <= target.chip.usable)
  assert found[0].fits
  assert 1 <= len(compiled) <= 2
  assert not any(a.compiled for a in found[len(compiled) :])
  said = advice.text(found)
  assert said.startswith("The run fits with\n  --")
  assert f"{found[0].needs / GIB:.2f} GiB, compiled" in said
  large = advice.heading(needs, target)
  assert f"{(1 - share) * max(needs.values()) / GIB:.2f} GiB too much" in large


def test_a_run_that_fits_needs_no_advice():
  settings, target, needs, measure, compiled = _case(1.1)
  assert advice.advise(settings, target, needs, measure) == []
  assert not compiled


def test_the_compilers_word_counts_and_not_the_estimate():
  settings, target, needs, _, _ = _case(0.9)
  refused = lambda settings, target, names: [_Measured(9e15, 1)]
  found = advice.advise(settings, target, needs, refused)
  assert all(not a.fits for a in found if a.compiled)
  assert sum(a.compiled for a in found) == 2
  first = next(a for a in found if a.compiled)
  said = advice.text(found)
  below = said.partition("aren't enough by themselves:")[2]
  assert " ".join(first.flags) in below


def test_changes_that_are_enough_together_are_as_few_as_can_be():
  sizes = {"a": 1, "b": 2, "c": 3, "d": 3}
  useful = [{("", name): 1} for name in sizes]
  estimate = lambda change: 10 - sum(sizes[name] for _, name in change)
  assert advice.together(useful, estimate, 4) == [{("", "c"): 1, ("", "d"): 1}]
  both = advice.together(useful, estimate, 5)
  assert both == [
    {("", "b"): 1, ("", "c"): 1},
    {("", "b"): 1, ("", "d"): 1},
  ]
  assert advice.together(useful, estimate, 0) == []


def test_a_change_says_only_what_is_not_so_already():
  two = [("stages", "('sft', 'align')"), ("sft.loss.name", "sft")]
  settings = asked(read_config("dpo", [*KEYS, *two]), "local").settings
  change = {("", "model.remat"): "none", ("align", "microbatches"): 2}
  small = changes.effective(settings, change)
  assert small == {("align", "microbatches"): 2}
  assert changes.flags(settings, small) == ["--config.microbatches=2"]
  first = {("sft", "optimizer.moments"): "bfloat16"}
  assert changes.flags(settings, first) == [
    "--config.sft.optimizer.moments=bfloat16"
  ]
  assert changes.changed(settings, first).stages[0].optimizer.moments == (
    "bfloat16"
  )

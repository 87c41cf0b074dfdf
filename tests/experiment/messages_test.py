"""What a run says of padding, and the names of keys in its errors."""

import types

import pytest

from jalign.errors import UserError
from jalign.experiment import offline
from jalign.experiment.config.overrides import naming_flags
from jalign.experiment.config.settings import DataSettings, StageSettings


def _advised(capsys, lengths, **changes):
  main = types.SimpleNamespace(
    buckets=(256, 512), lengths=lambda batch, part: lengths[part]
  )
  prepared = types.SimpleNamespace(main=main, stages={"align": main})
  settings = DataSettings(path="x", buckets=(256, 512), max_prompt_tokens=128)
  stage = StageSettings(
    name="align", loss={"name": "dpo"}, data=settings, **changes
  )
  offline.advise_buckets(
    types.SimpleNamespace(prepared=prepared), stage, batch=None
  )
  return capsys.readouterr().out


def test_the_advice_on_padding_holds_held_out_sequences_too(capsys):
  said = _advised(capsys, {"train": [9, 30], "eval": [49]})
  assert "the longest sequence has 49 tokens" in said
  assert "--config.data.buckets=(56,)" in said
  assert "--config.data.max_prompt_tokens=55" in said
  said = _advised(capsys, {"train": [9, 150], "eval": [49]})
  assert "buckets=(152,)" in said and "max_prompt_tokens" not in said
  assert not _advised(capsys, {"train": [300], "eval": [49]})
  assert not _advised(capsys, {"train": [9], "eval": [9]}, packing=512)


@pytest.mark.parametrize(
  "sections, named",
  [
    ({}, "config.loss.beta"),
    ({"align": {"steps": 3}}, "config.align.loss.beta"),
  ],
)
def test_keys_of_the_last_stage_are_named_as_flags(sections, named):
  config = {"stages": ("sft", "align"), **sections}
  with pytest.raises(UserError) as caught, naming_flags(config):
    raise UserError("bad.", where="config.align.loss.beta", remedy="Mend it.")
  assert caught.value.where == named
  with pytest.raises(UserError) as caught, naming_flags(config):
    raise UserError("bad.", where="config.sft.steps")
  assert caught.value.where == "config.sft.steps"

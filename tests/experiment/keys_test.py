"""Keys of configs: their table, and flags that set them."""

import pytest

from jalign.cli.config_file import read_config, shipped
from jalign.configs import base, dpo
from jalign.errors import UserError
from jalign.experiment.commands.sweep import runs
from jalign.experiment.config import keys, overrides
from jalign.experiment.config.parse import defaults, parse


def _read(config, *flags):
  return read_config(config, [tuple(flag.split("=", 1)) for flag in flags])


def _settings(config, *flags):
  (run,) = runs(_read(config, *flags))
  return run.settings


def _fails(config, *flags):
  with pytest.raises(UserError) as caught:
    runs(_read(config, *flags))
  return str(caught.value)


def _leaves(section):
  sections = keys.sections()
  for name, value in section.items():
    if name in sections:
      yield from (f"{name}.{key}" for key in value)
    else:
      yield name


# ------------------------------------------------------------------ the table


def test_the_table_has_every_key_once_with_a_sentence():
  names = [key.name for key in keys.table()]
  assert sorted(names) == sorted(_leaves(defaults()))
  for key in keys.table():
    assert len(key.about) > 15 and key.about.endswith("."), key
    assert not key.about.startswith("a "), key
    assert key.default == _at(defaults(), key.name)


def _at(section, name):
  for part in name.split("."):
    section = section[part]
  return section


def test_keys_are_found_by_name_and_else_by_meaning():
  named = [key.name for key in keys.matching("learning_rate")]
  assert named == ["optimizer.learning_rate", "critic.learning_rate_scale"]
  assert keys.matching("--config.lora.rank")[0].name == "lora.rank"
  meant = [key.name for key in keys.matching("Weights & Biases")]
  assert meant == ["wandb_project"]
  assert keys.matching("no such thing") == []
  assert [key.name for key in keys.matching("sft.loss.beta")] == ["loss"]
  assert keys.matching("sft.optimizer.b1")[0].name == "optimizer.b1"


def test_the_page_of_keys_says_what_the_table_says():
  page = keys.markdown()
  assert page.index("## Keys of a run") < page.index("| `data.path` |")
  assert page.index("| `data.path` |") < page.index("## Keys of a stage")
  row = "| `lora.rank` | int | `0` | r, the rank of the changes A B; 0 for"
  assert row in page
  assert all(f"| `{key.name}` |" in page for key in keys.table())


# ---------------------------------------------------------------------- flags


def test_a_stage_takes_any_key_as_a_flag():
  settings = _settings(
    "dpo",
    "sft.batch_size=16",
    "sft.optimizer.b1=0.5",
    "sft.lora.rank=2",
    "sft.data.max_prompt_tokens=8",
    "sft.diagnostics.pairs=4",
    "align.batch_size=8",
    "optimizer.b2=0.9",
  )
  sft, align = settings.stages
  assert (sft.batch_size, align.batch_size) == (16, 8)
  assert (sft.optimizer.b1, align.optimizer.b1) == (0.5, 0.9)
  assert (sft.optimizer.b2, align.optimizer.b2) == (0.99, 0.9)
  assert (sft.lora.rank, align.lora.rank) == (2, 0)
  assert sft.data.max_prompt_tokens == 8
  assert align.data.max_prompt_tokens == settings.data.max_prompt_tokens == 64
  assert (sft.diagnostics.pairs, align.diagnostics.pairs) == (4, 32)


def test_what_flags_leave_alone_is_the_config_s():
  plain = parse(dpo.get_config().to_dict())
  assert _settings("dpo") == plain
  assert _settings("dpo", "sft.steps=0", "align.judge=true") == plain


@pytest.mark.parametrize(
  "flag, key, value",
  [
    ("data.buckets=64,128", "data.buckets", (64, 128)),
    ("data.buckets=(64,)", "data.buckets", (64,)),
    ("trainable=blocks/w[qv],head", "trainable", ("blocks/w[qv]", "head")),
    ("trainable=", "trainable", ()),
    ("seeds=0,1", "seeds", (0, 1)),
    (
      "data.columns=prompt=q,chosen=y",
      "data.columns",
      dict(prompt="q", chosen="y"),
    ),
    ("data.columns.prompt=q", "data.columns", {"prompt": "q"}),
    ("model.qk_norm=True", "model.qk_norm", True),
    ("judge=0", "judge", False),
    ("normalise_pairs=1", "normalise_pairs", True),
    ("normalise_pairs=TRUE", "normalise_pairs", True),
    ("optimizer.eps=1e-6", "optimizer.eps", 1e-6),
    ("sweep={'loss.beta':[0.1]}", "sweep", (("loss.beta", [0.1]),)),
    ("model.rope_scaling={'factor':2}", "model.rope_scaling", {"factor": 2}),
    ("title=a=b", "title", "a=b"),
  ],
)
def test_texts_become_values(flag, key, value):
  assert _at(_read("dpo", flag), key) == value


@pytest.mark.parametrize("order", [1, -1])
def test_a_flag_that_names_a_loss_replaces_the_section(order):
  flags = ["loss.name=ipo", "loss.tau=0.3"][::order]
  assert _read("dpo", *flags)["loss"] == {"name": "ipo", "tau": 0.3}
  assert _read("dpo", "loss.name=ipo")["loss"] == base.loss("ipo").to_dict()
  demo = _read("demo", "dpo.loss.name=dpo", "dpo.loss.label_smoothing=0.2")
  assert demo["dpo"]["loss"] == {
    "name": "dpo",
    "beta": 0.3,  # the config's: the loss is the one that it had
    "label_smoothing": 0.2,
  }
  assert _read("dpo", "sft.loss.name=sft_sum")["sft"]["loss"] == {
    "name": "sft_sum"
  }


def test_a_sum_is_written_by_flags():
  flags = ["loss.dpo.beta=0.5", "loss.weights.dpo=1", "loss.weights.sft=0.2"]
  assert _read("dpo", *flags)["loss"] == {
    "weights": {"dpo": 1.0, "sft": 0.2},
    "dpo": {"beta": 0.5},
  }
  assert _read("rpo", "loss.dpo.beta=0.5")["loss"]["weights"]["sft_avg"] == 0.2
  said = _fails("rpo", "loss.beta=0.5")
  assert "Its terms are dpo, sft_avg: config.loss.TERM.beta" in said


def test_a_flag_that_names_an_algorithm_keeps_only_a_loss_of_its_own():
  stage = _settings("ipo_md", "algorithm=online_dpo", "loss.beta=3").stages[-1]
  assert (stage.algorithm, stage.loss) == ("online_dpo", {"beta": 3.0})
  neighbour = _settings("ipo_md", "algorithm=online_ipo").stages[-1]
  assert neighbour.loss == {"tau": 0.1}  # the same loss
  passes = _settings("ipo_md", "algorithm_settings.passes=3").stages[-1]
  assert passes.algorithm_settings == {"passes": 3}


def test_an_algorithm_s_settings_go_with_it():
  start = {
    "stages": ("train",),
    "algorithm": "ipo_md",
    "algorithm_settings": {"passes": 3},
    "loss": {"tau": 0.1},
  }
  for algorithm, settings in (("ipo_md", {"passes": 3}), ("online_ipo", {})):
    config = dict(start)
    overrides.override(config, [("algorithm", algorithm)])
    assert config["algorithm_settings"] == settings
    assert config["loss"] == {"tau": 0.1}


@pytest.mark.parametrize(
  "flag",
  [
    "optimizer.b1=0",
    "lora.rank=4",
    "diagnostics.pairs=3",
    "trainable=head",
    "normalise_pairs=true",
    "algorithm=online_dpo",
    "steps=5",
    "select=eval/loss",
    "select_mode=max",
  ],
)
def test_how_the_last_stage_is_trained_is_not_taken_over(flag):
  (before, _), (sft, align) = (
    _settings("dpo").stages,
    _settings("dpo", flag).stages,
  )
  assert sft == before
  key = flag.partition("=")[0].partition(".")[0]
  assert getattr(align, key) != getattr(before, key)


def test_flags_reach_the_last_stage_through_a_section_of_its_name(tmp_path):
  file = tmp_path / "config.py"
  file.write_text(
    "from jalign.configs import base, dpo\n\ndef get_config():\n"
    "  c = dpo.get_config()\n"
    "  c.align = base.stage(dict(name='ipo', tau=0.5), batch_size=4)\n"
    "  return c\n"
  )
  flags = ["align.batch_size=2", "align.loss.tau=0.25"]
  stage = _settings(str(file), *flags).stages[-1]
  assert (stage.batch_size, stage.loss) == (2, {"name": "ipo", "tau": 0.25})


@pytest.mark.parametrize("order", [1, -1])
def test_a_flag_of_the_last_stage_leaves_the_earlier_stages_alone(order):
  flags = ["align.batch_size=4", "batch_size=9", "align.optimizer.b1=0.5"]
  sft, align = _settings("dpo", *flags[::order]).stages
  assert (sft.batch_size, align.batch_size) == (9, 4)
  assert align.optimizer.learning_rate == 2e-4  # the config's, at its top level
  flags = ["align.loss.beta=0.4", "loss.label_smoothing=0.2"]
  loss = _settings("dpo", *flags[::order]).stages[-1].loss
  assert loss == {"name": "dpo", "beta": 0.4, "label_smoothing": 0.2}


def test_a_flag_of_an_added_stage_leaves_the_stage_before_alone():
  flags = ["stages=sft,align,last", "last.loss.name=ipo"]
  _, align, last = _settings("dpo", *flags).stages
  assert (align.loss["name"], last.loss["name"]) == ("dpo", "ipo")


def test_stages_that_flags_leave_out_leave_their_sections():
  assert [s.name for s in _settings("dpo", "stages=align").stages] == ["align"]


@pytest.mark.parametrize(
  "flags, said",
  [
    (["sft.batchsize=1"], "config.sft.batchsize: there is no key 'batchsize'"),
    (["sft.batchsize=1"], "Did you mean 'batch_size'? `jalign keys` lists"),
    (["ft.steps=1"], "there is no key 'ft' here. Did you mean 'sft'?"),
    (["sft.model.hidden_size=1"], "Write --config.model.hidden_size=1"),
    (["learning_rate=1"], "Did you mean 'optimizer.learning_rate'?"),
    (["beta=1"], "Did you mean 'loss.beta'?"),
    (["sft=1"], "config.sft: is a stage"),
    (["data=x"], "config.data: is a section of keys"),
    (["loss=ipo"], "Name a loss by config.loss.name=ipo"),
    (["loss.name=dpoo"], "config.loss.name: unknown loss 'dpoo'. Did you mean"),
    (["loss.tau=1"], "config.loss.tau: dpo has no hyperparameter 'tau'"),
    (["loss.dpo.beta=1"], "Hyperparameters are keys of config.loss itself"),
    (["algorithm_settings.passes=1"], "the stage has no algorithm"),
    (["algorithm=online_dpo", "algorithm_settings.x=1"], "It has: passes"),
    (["data.columns=prompt"], "'prompt' is not NAME=VALUE"),
    (["steps=true"], "whole number. A flag without a value stands for true."),
    (["steps="], "config.steps: '' is not a whole number"),
    (["model.hidden_size=1.5"], "'1.5' is not a whole number"),
    (["stages=sft", "loss.name=ipo"], "Write --config.sft.loss.name=ipo"),
    (
      ["stages=sft", "optimizer.learning_rate=1"],
      "changes nothing: the section of sft says otherwise",
    ),
    (
      ["align.loss.name=ipo", "loss.beta=0.2"],
      "changes nothing: the section of sft and that of align says otherwise. "
      "Write --config.align.loss.beta=0.2",
    ),
    (["data.columns={'a.b':'c'}"], "config.data.columns: ValueError"),
    (["loss.weights.my.py:f=1"], "config.loss.weights.my.py:f: ValueError"),
    (
      ["loss.name=ipo", "loss.weights.sft=1"],
      "config.loss.name: changes nothing, because other flags give the weights",
    ),
    (["sft.sft.steps=1"], "config.sft.sft.steps: there is no key 'sft' here"),
    (["sweep={'loss.betta':[1]}"], "config.sweep['loss.betta']: dpo has no"),
    (["sweep={'loss.name':[1]}"], "config.sweep['loss.name']: unknown loss 1"),
    (["sweep={'algorithm':[[1]]}"], "config.align.algorithm: [1] is not of"),
  ],
)
def test_a_flag_that_sets_nothing_says_why(flags, said):
  assert said in _fails("dpo", *flags)


def test_a_short_answer_to_an_unknown_loss():
  assert len(_fails("dpo", "loss.name=dpoo")) < 200


def test_a_sweep_over_a_loss_s_hyperparameter_comes_after_its_name():
  runs_of = runs(_read("dpo", "sweep={'loss.tau':[0.3],'loss.name':['ipo']}"))
  assert runs_of[0].settings.stages[-1].loss == {"name": "ipo", "tau": 0.3}


def test_a_sweep_over_losses_has_the_defaults_of_each():
  config = _read("dpo", "sweep={'sft.steps':[3],'loss.name':['dpo','ipo']}")
  first, second = runs(config)
  assert first.settings.stages[-1].loss["beta"] == 0.1
  assert second.settings.stages[-1].loss == {"name": "ipo", "tau": 0.1}
  assert [run.settings.stages[0].steps for run in (first, second)] == [3, 3]


# -------------------------------------------------------------------- configs


def test_every_shipped_config_is_named_described_and_read():
  assert {"dpo", "ipo_md", "nash_md", "demo", "world"} <= shipped().keys()
  assert "tldr_report" not in shipped()
  for name, about in shipped().items():
    assert about.endswith("."), name
    assert parse(_read(name, "data.path=FILE")).stages


@pytest.mark.parametrize(
  "name, said",
  [
    ("dop", "jalign ships no config 'dop'. Did you mean 'dpo'? Shipped are"),
    ("dpo.py", "there is no file 'dpo.py'. Did you mean 'dpo'?"),
    ("world:dpoo", "config.loss.name: unknown loss 'dpoo'. Did you mean 'dpo'"),
    ("hh_dpo:x", "get_config can't be called (too many positional arguments"),
  ],
)
def test_a_config_that_is_not_there(name, said):
  assert said in _fails(name)


def test_a_config_s_references_follow_flags(tmp_path):
  file = tmp_path / "config.py"
  file.write_text(
    "from jalign.configs import dpo\n\ndef get_config():\n"
    "  c = dpo.get_config()\n"
    "  c.sample.max_new_tokens = c.get_ref('max_new_tokens')\n  return c\n"
  )
  config = _read(str(file), "max_new_tokens=7")
  assert config["sample"]["max_new_tokens"] == 7

"""Configs: every key is read or refused; stages override single keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.configs import rpo
from jalign.errors import UserError
from jalign.experiment.commands.sweep import expand, runs
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.loss import bind
from jalign.training.kinds import PAIRS, SEQUENCES
from jalign.training.objective import make_objective
from tests.experiment.settings import config_of
from tests.models.tiny import tiny
from tests.training import batches


def _stage(**changes):
  (stage,) = parse(config_of(**changes)).stages
  return stage


def test_every_default_is_itself_aconfig_of():
  config = defaults()
  config["data"]["path"] = "d.jsonl"
  config["loss"] = {"name": "dpo"}
  (run,) = expand(config)
  settings = parse(run[1])
  assert run[0] == "" and settings.seed == 0
  assert [stage.name for stage in settings.stages] == ["train"]
  least = parse({"data": {"path": "d.jsonl"}, "loss": {"name": "dpo"}})
  assert settings.stages == least.stages
  assert settings.data == least.data and settings.mesh == least.mesh


@pytest.mark.parametrize(
  "key",
  [
    "nope",
    "data.nope",
    "tokenizer.nope",
    "mesh.nope",
    "sample.nope",
    "annotator.nope",
    "model.nope",
    "model.vocab_size",
    "sft.nope",
    "sft.optimizer.nope",
    "optimizer.nope",
  ],
)
def test_an_unknown_key_is_named_wherever_it_is(key):
  config = config_of(stages=("sft", "align"), sft={"loss": {"name": "sft"}})
  *path, last = key.split(".")
  section = config
  for name in path:
    section = section.setdefault(name, {})
  section[last] = 1
  with pytest.raises(UserError) as caught:
    parse(config)
  # A key of `optimizer` reaches every stage; the first one reports it.
  where = {"optimizer.nope": "sft.optimizer.nope"}.get(key, key)
  assert caught.value.where == f"config.{where}"
  assert "`jalign keys`" in caught.value.remedy


@pytest.mark.parametrize(
  "where, value, expected",
  [
    ("config.train.batch_size", "8", "int"),
    ("config.train.batch_size", 8.0, "int"),
    ("config.train.batch_size", True, "int"),
    ("config.train.optimizer.learning_rate", "1e-3", "float"),
    ("config.train.select", 3, "str"),
    ("config.train.loss", "dpo", "Mapping"),
    ("config.train.optimizer", 0.1, "section"),
    ("config.data.buckets", 64, "tuple"),
    ("config.data.buckets", ("64",), "int"),
    ("config.data.eval_fraction", None, "float"),
    ("config.data.path", 3, "str"),
    ("config.data", "d.jsonl", "section"),
    ("config.mesh.fsdp", 2.0, "int"),
    ("config.seed", "one", "int"),
    ("config.title", 3, "str"),
    ("config.stages", "align", "tuple"),
    ("config.model", 3, "section"),
    ("config.model.hidden_size", "wide", "int"),
  ],
)
def test_a_value_of_another_type_is_refused(where, value, expected):
  config = config_of()
  *path, last = where.replace("train.", "").split(".")[1:]
  section = config
  for name in path:
    section = section.setdefault(name, {})
  section[last] = value
  with pytest.raises(UserError) as caught:
    parse(config)
  assert caught.value.where == where
  assert repr(value if value != ("64",) else "64") in caught.value.problem
  assert expected in caught.value.problem


def test_an_int_serves_as_a_float_and_a_list_as_a_tuple():
  settings = parse(
    config_of(
      data={"path": "d.jsonl", "buckets": [32, 64]},
      optimizer={"learning_rate": 1},
    )
  )
  assert settings.data.buckets == (32, 64)
  assert isinstance(settings.stages[0].optimizer.learning_rate, float)


@pytest.mark.parametrize(
  "changes, where",
  [
    ({"reference": "steps"}, "train.reference"),
    ({"select_mode": "least"}, "train.select_mode"),
    ({"batch_size": 0}, "train.batch_size"),
    ({"microbatches": 0}, "train.microbatches"),
    ({"log_every": 0}, "train.log_every"),
    ({"steps": 0, "epochs": 0}, "train.steps"),
    ({"data": {"path": "d", "source": "csv"}}, "data.source"),
    ({"data": {"path": "d", "on_error": "hide"}}, "data.on_error"),
    ({"data": {"path": ""}}, "data.path"),
    ({"stages": ()}, "stages"),
    ({"stages": ("a", "a")}, "stages"),
    ({"stages": ("data",)}, "stages"),
  ],
)
def test_a_value_out_of_range_is_refused(changes, where):
  with pytest.raises(UserError) as caught:
    parse(config_of(**changes))
  assert caught.value.where == f"config.{where}"


def test_an_unknown_algorithm_is_refused_before_any_data_is_read():
  config = config_of(algorithm="online_ppo")
  with pytest.raises(UserError, match="Did you mean 'online_") as caught:
    runs(config)
  assert caught.value.where == "config.train.algorithm"
  assert parse(config).stages[0].algorithm == "online_ppo"  # a row of its own


def test_an_earlier_stage_overrides_what_differs():
  settings = parse(
    config_of(
      stages=("sft", "align"),
      batch_size=16,
      epochs=3,
      optimizer={"learning_rate": 1e-4, "warmup_steps": 7},
      sft={
        "loss": {"name": "sft"},
        "epochs": 20,
        "optimizer": {"learning_rate": 3e-3},
      },
    )
  )
  sft, align = settings.stages
  assert (sft.name, align.name) == ("sft", "align")
  assert (sft.epochs, align.epochs) == (20, 3)
  assert sft.batch_size == align.batch_size == 16
  assert (sft.optimizer.learning_rate, align.optimizer.learning_rate) == (
    3e-3,
    1e-4,
  )
  assert sft.optimizer.warmup_steps == align.optimizer.warmup_steps == 7
  # The loss is replaced as a whole, so sft doesn't inherit beta.
  assert sft.loss == {"name": "sft"}
  assert align.loss == {"name": "dpo", "beta": 0.1}
  assert bind(sft).title == "sft()" and bind(sft).batch is SEQUENCES


# --------------------------------------------------------------------- losses


@pytest.mark.parametrize(
  "changes, where, message",
  [
    ({"loss": {"name": "dpoo"}}, "loss", "unknown loss 'dpoo'.*'dpo'"),
    ({"loss": {"name": "dpo", "tau": 1.0}}, "loss", "no hyperparameter 'tau'"),
    ({"loss": {"name": "dpo", "beta": -1.0}}, "loss", "-1.0"),
    ({"loss": {}}, "loss", "has no name.*Set config.train.loss.name"),
    ({"loss": {"name": ""}}, "loss", "unknown loss ''"),
    (
      {"algorithm": "online_dpo", "loss": {"name": "ipo"}},
      "loss.name",
      "'ipo' is not the loss of online_dpo.*'dpo'",
    ),
    (
      {"algorithm": "ipo_md", "loss": {"beta": 0.1}},
      "loss",
      "ipo_soft has no hyperparameter 'beta'",
    ),
    (
      {"loss": {"name": "dpo", "weights": {"dpo": 1.0}}},
      "loss",
      "a name and weights",
    ),
    ({"loss": {"weights": {"nope": 1.0}}}, "loss", "unknown loss 'nope'"),
    ({"loss": {"weights": {}}}, "loss", "needs a term"),
    ({"loss": {"weights": {"dpo": "x"}}}, "loss", "not a number for each"),
    ({"loss": {"weights": ("dpo",)}}, "loss", "not a number for each"),
    (
      {"loss": {"weights": {"dpo": 1.0}, "beta": 0.1}},
      "loss",
      "beta = 0.1 is not for one of the terms",
    ),
    (
      {"loss": {"weights": {"dpo": 1.0}, "dpo": {"tau": 0.1}}},
      "loss",
      "dpo has no hyperparameter 'tau'",
    ),
    (
      {"loss": {"weights": {"dpo": 1.0, "kto": 1.0}}},
      "loss",
      "batches of pairs and unpaired",
    ),
    (
      {"loss": {"name": "grpo"}},
      "loss",
      "which no data source gives",
    ),
  ],
)
def test_a_loss_that_does_not_resolve_names_its_key(changes, where, message):
  stage = _stage(**changes)
  with pytest.raises(UserError, match=f"(?s){message}") as caught:
    bind(stage)
  assert caught.value.where == f"config.train.{where}"


def test_an_algorithm_brings_its_loss():
  loss = bind(_stage(algorithm="ipo_md", loss={"tau": 0.3}))
  assert loss.title == "ipo_soft(tau=0.3)" and loss.batch is PAIRS
  assert "preference" in losses.array_parameters(loss.function)


def test_rpo_is_a_preset_and_equals_its_sum():
  terms = rpo.get_config().loss.to_dict()
  loss = bind(_stage(loss=terms))
  assert (loss.batch, loss.denominator) == (PAIRS, "examples")
  assert loss.title == "1.0 dpo(beta=0.1) + 0.2 sft_avg()"
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  reference = model.init(jax.random.key(3))
  batch = batches.pairs(4, fill=1)
  objective = make_objective(
    loss.function, model, batch=loss.batch, denominator=loss.denominator
  )
  total, (count, _) = jax.jit(objective.sums)(params, batch, reference)
  assert float(count) == 3

  def value(function):
    objective = make_objective(
      function, model, batch="pairs", denominator="examples"
    )
    return float(jax.jit(objective.sums)(params, batch, reference)[0])

  def chosen(chosen_logps, chosen_lengths):
    return -chosen_logps / chosen_lengths

  want = value(functools.partial(losses.dpo, beta=0.1)) + 0.2 * value(chosen)
  np.testing.assert_allclose(float(total), want, rtol=1e-6)
  arrays = [jnp.ones(2) * i for i in range(5)]
  names = losses.array_parameters(loss.function)
  assert set(names) == {
    "chosen_logps",
    "rejected_logps",
    "ref_chosen_logps",
    "ref_rejected_logps",
    "chosen_lengths",
  }
  assert loss.function(*arrays).shape == (2,)


@pytest.mark.parametrize(
  "section, values, key",
  [
    ("critic", {"learning_rate_scale": -1.0}, "learning_rate_scale"),
    ("optimizer", {"b2": 1.5}, "b2"),
    ("lora", {"rank": -1}, "rank"),
  ],
)
def test_a_section_that_refuses_a_number_is_named_in_full(section, values, key):
  with pytest.raises(UserError) as error:
    _stage(**{section: values})
  assert error.value.where == f"config.train.{section}.{key}"

"""Seeds and sweeps: one run for each combination, with a name of its own."""

import pytest

from jalign.errors import UserError
from jalign.experiment.commands.sweep import expand, runs
from jalign.experiment.config.parse import parse
from tests.experiment.settings import config_of


def test_seeds_times_a_sweep_are_named_by_their_values():
  config = config_of(
    seeds=(0, 1), sweep=(("loss.beta", (0.1, 0.5)), ("batch_size", (8,)))
  )
  runs = expand(config | {"batch_size": 4})
  assert [name for name, _ in runs] == [
    f"seed={seed},loss.beta={beta},batch_size=8"
    for seed in (0, 1)
    for beta in (0.1, 0.5)
  ]
  for _, run in runs:
    assert "seeds" not in run and "sweep" not in run
  parsed = [parse(run) for _, run in runs]
  assert [s.seed for s in parsed] == [0, 0, 1, 1]
  betas = [s.stages[0].loss["beta"] for s in parsed]
  assert betas == [0.1, 0.5, 0.1, 0.5]
  assert all(s.stages[0].batch_size == 8 for s in parsed)
  assert config["loss"]["beta"] == 0.1  # the given config isn't changed
  assert [name for name, _ in expand(config_of())] == [""]


@pytest.mark.parametrize(
  "key", ["losss.beta", "loss.gamma", "loss.beta.deep", "batchsize"]
)
def test_a_swept_key_must_be_in_theconfig_of(key):
  with pytest.raises(UserError, match=rf"^config[.\[].*{key}"):
    for _, run in expand(config_of(sweep=((key, (1, 2)),))):
      parse(run)


@pytest.mark.parametrize(
  "value", ["../x", "/etc/x", "a\0b", "x" * 300, "é" * 300, "\ud800", "a\nb"]
)
def test_a_value_leads_nowhere(value, tmp_path):
  """Any value gives one folder's name, and different values differ."""
  values = (value, value + "y", value.replace("/", "_") + "z")
  names = [n for n, _ in expand(config_of(sweep=(("data.path", values),)))]
  assert len(set(names)) == 3
  for name in names:
    (tmp_path / name).mkdir()
    assert (tmp_path / name).resolve().parent == tmp_path
  assert {p.name for p in tmp_path.iterdir()} == set(names)
  same = [n for n, _ in expand(config_of(sweep=(("data.path", values),)))]
  assert same == names


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"seeds": (0, 1, 0)}, "config.seeds: 'seed=0' is there twice"),
    ({"sweep": (("loss.beta", ()),)}, "'loss.beta'.*no values"),
    ({"sweep": (("loss.beta", (0.1,)), ("loss.beta", (1.0,)))}, "twice"),
    ({"seeds": (0,), "sweep": (("seed", (1,)),)}, "config.seeds"),
    ({"sweep": (("loss.beta", (1, 1.0)),)}, "'loss.beta=1.0' are the same"),
    ({"sweep": (("seeds", ((1,), (2,))),)}, "can't be swept"),
    (
      {"sweep": (("mesh.fsdp", (1, 2)), ("mesh", ({"data": 1},)))},
      "are the same run",
    ),
  ],
)
def test_runs_that_are_none_or_one_and_the_same(changes, message):
  with pytest.raises(UserError, match=message):
    runs(config_of(**changes))

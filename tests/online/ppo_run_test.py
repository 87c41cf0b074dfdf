"""Whole runs of PPO: what is trained, kept, resumed and given on."""

import numpy as np
import pytest

from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.online import ALGORITHMS
from jalign.sharding import make_mesh
from tests.experiment.conftest import place  # noqa: F401
from tests.online.run_test import JUDGE, _arrays, _rows

PASSES = "{'passes': 2, 'minibatches': 2, 'samples': 2}"


@pytest.fixture(name="ppo")
def _ppo(place):  # noqa: F811
  judge = place.folder / "judge.py"
  judge.write_text(JUDGE)
  place.align_alone()
  text = place.config.read_text().replace(
    "c.loss.beta = 0.1",
    "c.loss, c.algorithm = ConfigDict(), 'ppo'\n"
    f"  c.algorithm_settings = ConfigDict({PASSES})\n"
    f"  c.annotator.function = {str(judge)!r} + ':reward'",
  )
  text = text.replace("c.batch_size = 8", "c.batch_size = 16")
  place.config.write_text("from ml_collections import ConfigDict\n" + text)
  return place


def _trained(run):
  arrays = _arrays(run)
  return {n: x for n, x in arrays.items() if n.startswith("params")}


@pytest.mark.slow
def test_a_run_of_ppo(ppo, monkeypatch):
  run, said = ppo.train(
    "--config.steps=3",
    "--config.critic.warmup_steps=1",
    "--config.algorithm_settings.kl_target=0.1",
  )
  arrays = _trained(run)
  sides = {name.split("'")[1] for name in arrays}
  assert sides == {"model", "critic"}
  rows = [row for row in _rows(run) if "train/loss" in row]
  assert len(rows) == 3
  assert rows[0]["train/first_ratio_gap"] < 1e-5
  assert rows[0]["train/clipped_share"] == 0  # the policy waits for the critic
  assert rows[2]["algorithm/beta"] != rows[0]["algorithm/beta"] > 0
  assert "train/loss/value_clip" in rows[0]
  # What is given on is the policy, also without the algorithm's row.
  monkeypatch.delitem(ALGORITHMS, "ppo")
  policy = trained_params(folders.model_of(run), make_mesh(), run / "align")
  assert not {"model", "critic"} & set(policy)
  np.testing.assert_array_equal(
    policy["embed"], arrays["params['model']['embed']"]
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "flags",
  [
    ("--config.mesh.fsdp=2",),
    ("--config.lora.rank=2",),
    ("--config.trainable=('blocks/*',)",),
  ],
  ids=["fsdp", "lora", "paths"],
)
def test_a_stopped_run_of_ppo_ends_as_if_it_were_not(ppo, monkeypatch, flags):
  whole, _ = ppo.train(*flags, workdir="whole")
  # The trial takes 4 rewards, held-out samples 8 or so, a step's responses 16.
  monkeypatch.setenv("STOP_AFTER_REWARDS", "45")
  cut, said = ppo.train(*flags, workdir="cut")
  assert "run the same command to resume" in said
  monkeypatch.delenv("STOP_AFTER_REWARDS")
  _, said = ppo.train(*flags, workdir="cut")
  assert "[align] resumes at step" in said
  got, want = _arrays(cut), _arrays(whole)
  assert got.keys() == want.keys()
  for name, array in want.items():
    np.testing.assert_array_equal(got[name], array, name)
  assert any("['critic']" in name for name in want)
  assert _rows(whole) == _rows(cut)


@pytest.mark.slow
def test_a_critic_that_starts_from_a_reward_model(ppo):
  text = ppo.config.read_text()
  reward = text.replace("c.loss, c.algorithm = ConfigDict(), 'ppo'", "")
  lines = [
    line for line in reward.splitlines() if "algorithm_settings" not in line
  ]
  lines = [line for line in lines if "annotator" not in line]
  ppo.config.write_text("\n".join(lines))
  ppo.train(
    "--config.loss.name=bradley_terry",
    "--config.optimizer.learning_rate=0.03",
    workdir="rm",
  )
  wide = "--config.model.intermediate_size=24"
  ppo.train("--config.loss.name=bradley_terry", wide, workdir="wide")
  ppo.config.write_text(text)
  start = f"--config.critic.start={ppo.folder / 'rm'}"
  run, said = ppo.train(start, "--config.optimizer.learning_rate=1e-30")
  assert "the critic starts from" in said
  reward = _trained(ppo.folder / "rm")
  arrays = _trained(run)
  for name, array in arrays.items():
    if "critic" in name and "bias" not in name:
      want = reward[name.replace("['critic']", "")]
      np.testing.assert_allclose(array, want, atol=1e-6, err_msg=name)
  start = f"--config.critic.start={ppo.folder / 'wide'}"
  said = ppo.fails(ppo.command(start, workdir="other"))
  assert "critic.start: the critic has another architecture" in said
  assert "intermediate_size is 24" in said


def test_what_a_config_of_ppo_gets_wrong(ppo):
  for flags, said in (
    (["--config.critic.start=/nowhere"], "/nowhere"),
    (["--config.critic.warmup_steps=4"], "leave the policy none of 4"),
    (["--config.drawing.temperature=0"], "drawing.temperature: 0 must be > 0"),
    (["--config.drawing.top_p=2.0"], "drawing.top_p"),
    (
      [
        "--config.algorithm=online_dpo",
        "--config.critic.warmup_steps=1",
      ],
      "online_dpo has no critic",
    ),
  ):
    assert said in ppo.fails(ppo.command(*flags))

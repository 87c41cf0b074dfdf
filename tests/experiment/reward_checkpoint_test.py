"""Checkpoints of reward models that runs trained, and what starts from them."""

import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jalign import cli, models
from jalign.errors import UserError
from jalign.experiment import scorer as scorers
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.experiment.reward_start import critic_params
from jalign.models import hf
from jalign.sharding import make_mesh
from jalign.training.trainable import HEAD, MODEL
from tests.data import chat_tokenizer
from tests.experiment.conftest import Workplace
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN

RATE = "--config.optimizer.learning_rate=0.03"


def _trained(factory, loss):
  where = Workplace(factory.mktemp(loss), None)
  where.align_alone()
  cli.main(where.command(f"--config.loss.name={loss}", RATE))
  return where.folder / "run"


@pytest.fixture(scope="module")
def rewards(tmp_path_factory):
  return _trained(tmp_path_factory, "bradley_terry")


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
  return _trained(tmp_path_factory, "pairwise_preference_averaged")


def _scores(place, model, column):
  out = place.folder / "scores.parquet"
  command = ["score", f"--model={model}", f"--data={place.data}"]
  cli.main([*command, f"--out={out}"])
  return [row[column] for row in pq.read_table(out).to_pylist()]


def test_an_export_scores_as_the_run(rewards, place, tmp_path, capsys):
  out = tmp_path / "out"
  cli.main(["convert", f"--model={rewards}", f"--to={out}"])
  said = capsys.readouterr().out
  scorer = scorers.load_scorer(str(rewards))
  assert scorer.constant
  assert "transformers doesn't see the constant" in said
  config = json.loads((out / "config.json").read_text())
  assert config["architectures"] == ["LlamaForSequenceClassification"]
  own = _scores(place, rewards, "score")
  np.testing.assert_allclose(_scores(place, out, "score"), own, atol=1e-5)
  # Without our file, scores are higher by the constant, as transformers' are.
  (out / "jalign_head.json").unlink()
  bare = np.array(_scores(place, out, "score"))
  assert np.ptp(own) > 0.1
  np.testing.assert_allclose(bare - own, scorer.constant, atol=1e-5)


def test_an_export_prefers_as_the_run(preferences, place, tmp_path, capsys):
  out = tmp_path / "out"
  cli.main(["convert", f"--model={preferences}", f"--to={out}"])
  assert "that it is the head pairwise" in capsys.readouterr().out
  assert scorers.load_scorer(str(out)).form == "averaged"
  assert scorers.gives_at(out) == ("preference",)
  own = _scores(place, preferences, "preference")
  assert max(own) > 0.6
  got = _scores(place, out, "preference")
  np.testing.assert_allclose(got, own, atol=1e-5)


@pytest.mark.parametrize("which", ["rewards", "preferences"])
def test_evaluate_prints_held_out_accuracy(which, request, capsys):
  run = request.getfixturevalue(which)
  results = json.loads((run / "align" / "results.json").read_text())
  cli.main(["evaluate", f"--model={run}"])
  said = capsys.readouterr().out
  share = 100 * results["evaluation"]["eval/score_accuracy"]
  name = "score" if which == "rewards" else "preference"
  assert f"{name} higher for chosen: {share:.1f} % (95 % interval" in said
  assert "nats, calibration error" in said


def test_what_needs_a_policy_says_so(rewards, place, tmp_path):
  out = f"--out={tmp_path / 'x.jsonl'}"
  said = place.fails(["sample", f"--model={rewards}", "--prompt=q", out])
  assert "scores responses, and generates none" in said
  assert "jalign score" in said
  twice = [f"--model={rewards}", f"--against={rewards}"]
  assert "--against" in place.fails(["evaluate", *twice])
  adapter = [f"--model={rewards}", f"--to={tmp_path / 'x'}", "--adapter"]
  assert "Leave --adapter out" in place.fails(["convert", *adapter])
  checkpoint = tmp_path / "out"
  cli.main(["convert", f"--model={rewards}", f"--to={checkpoint}"])
  said = place.fails(["sample", f"--model={checkpoint}", "--prompt=q", out])
  assert "scores responses, and generates none" in said
  place.align_alone()
  start = f"--config.init_from={checkpoint}"
  said = place.fails(place.command(start, "--config.loss.name=dpo"))
  assert "trains a policy" in said and "config.init_from" in said


def test_a_checkpoint_goes_on_with_its_head(rewards, place, tmp_path, capsys):
  out = tmp_path / "out"
  cli.main(["convert", f"--model={rewards}", f"--to={out}"])
  place.align_alone()
  config = (place.folder / "config.py").read_text()
  flags = [f"--config.init_from={out}", "--config.loss.name=bradley_terry"]
  flags.append("--config.optimizer.learning_rate=1e-30")
  assert "hidden_size" in config
  run, said = place.train(*flags)
  assert "goes on with the head scalar" in said
  model = hf.load_reward_model(out)
  got = jax.device_get(
    trained_params(folders.model_of(run), make_mesh(), run / "align")
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    got,
    {MODEL: model.params, HEAD: model.head.params},
  )
  flags[1] = "--config.loss.name=general_preference"
  said = place.fails(place.command(*flags, workdir="other"))
  assert "has the head scalar" in said


def test_critics_start_at_the_reward(rewards, preferences):
  """At the last token the value is the reward, with the constant."""
  own = scorers.load_scorer(str(rewards))
  rows = scorers.encode(own, ["q1:", "q2:"], [" a a", " b"])
  params = critic_params(own)
  for row in rows:
    tokens = np.concatenate([row.ids, [7, 7]])[None]
    hidden = own.model.forward(params[MODEL], tokens)
    got = models.values(params[HEAD], hidden)
    assert got.shape == tokens.shape
    (state,) = scorers.features(own, [row], make_mesh())
    want = own.head.score(own.params[HEAD], state[None])[0] - own.constant
    np.testing.assert_allclose(got[0, len(row.ids) - 1], want, rtol=1e-4)
  with pytest.raises(UserError, match="one value for each token"):
    critic_params(scorers.load_scorer(str(preferences)))


def test_merging_an_adapter_of_a_reward_model(place, tmp_path, capsys):
  described = json.loads(str(GOLDEN["reward_adapter/qwen3/json"]))
  change = tmp_path / "adapter"
  cases.write_adapter(change, described["config"], described["shapes"])
  base = json.loads(str(GOLDEN["qwen3/json"]))
  shapes = base["shapes"] | {"model.embed_tokens.weight": (272, 16)}
  config = base["config"] | {"vocab_size": 272}
  folder = cases.write(tmp_path / "base", config, shapes)
  chat_tokenizer.write(folder)
  out = tmp_path / "merged"
  merge = ["merge", f"--model={folder}", f"--adapter={change}", f"--to={out}"]
  cli.main(merge)
  merged = hf.load_reward_model(out)
  assert merged.head.names == ("LABEL_0", "LABEL_1")
  weight = cases.weight("base_model.model.score.weight", (2, 16))
  np.testing.assert_array_equal(merged.head.params["weight"], weight.T)
  assert len(_scores(place, out, "score_LABEL_1")) > 2

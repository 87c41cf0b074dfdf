"""`jalign train` with a loss on scores: a head, its file, and its judge."""

import json
import re

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment import scorer as scorers
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.judges import Reading, tools_of
from jalign.experiment.judges.model import fingerprint, from_scorer
from jalign.experiment.params import trained_params
from jalign.feedback import assess, compare, make_answers
from jalign.models import last_hidden
from jalign.sharding import make_mesh
from jalign.types import Sequences

REWARD = (
  "--config.loss.name=bradley_terry",
  "--config.optimizer.learning_rate=0.03",
)
PROMPTS = ["q1:", "q2:", "q3:"]
GOOD, BAD = [" a", " a a", " a a a"], [" b", " b b b", " b"]


def _answers(texts):
  return make_answers(PROMPTS, texts)


def _params(run, stage="align"):
  config = folders.model_of(run)
  return jax.device_get(trained_params(config, make_mesh(), run / stage))


@pytest.fixture(scope="module")
def _reward(tmp_path_factory):
  """A folder with a run of a reward model, trained from fresh parameters."""
  from jalign import cli
  from tests.experiment.conftest import Workplace

  where = Workplace(tmp_path_factory.mktemp("reward"), None)
  where.align_alone()
  cli.main(where.command(*REWARD, "--config.steps=12"))
  return where.folder / "run"


def test_a_reward_model_ranks_and_its_file_has_the_constant(_reward):
  told = json.loads((_reward / "align" / "results.json").read_text())
  assert told["evaluation"]["eval/score_accuracy"] == 1.0
  assert (_reward / "report.md").exists()
  own = scorers.load_scorer(str(_reward))
  assert own.constant == told["reward_constant"] != 0
  judge = from_scorer(lambda: own, ("reward",))
  good, bad = (
    assess(judge, _answers(x)).numbers("reward") for x in (GOOD, BAD)
  )
  assert (good > bad).all()
  # By hand: the head's linear map of the state of the last token, not padding.
  for prompt, text, got in zip(PROMPTS, GOOD, good):
    (row,) = scorers.encode(own, [prompt], [text])
    tokens = np.concatenate([row.ids, np.full(5, 7, np.int32)])[None]
    alone = Sequences(tokens, tokens > 0, np.array([len(row.ids)]))
    state = last_hidden(own.model.forward(own.params["model"], tokens), alone)
    head = own.params["head"]
    want = state[0] @ head["weight"] + head["bias"] - own.constant
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_constant_centres_the_best_training_responses(_reward):
  rows = [
    json.loads(line)
    for line in (_reward.parent / "pairs.jsonl").read_text().splitlines()
  ]
  own = scorers.load_scorer(str(_reward))
  judge = from_scorer(lambda: own, ("reward",))
  data = json.loads((_reward / "data.json").read_text())
  assert data  # which rows are held out depends on their prompts alone
  score = lambda side: assess(
    judge,
    make_answers([r["prompt"] for r in rows], [r[side] for r in rows]),
  ).numbers("reward")
  # Of all 40 rows, about 28 are trained on: the mean is near 0, not exactly 0.
  assert abs(score("chosen").mean()) < 0.2 * abs(score("rejected").mean())


def test_tokens_and_texts_give_the_same_numbers(_reward):
  own = scorers.load_scorer(str(_reward))
  by_text = from_scorer(lambda: own, ("reward",))
  same = Reading(own.tokenizer, own.template)
  by_tokens = from_scorer(lambda: own, ("reward",), lambda: same)
  rows = scorers.encode(own, PROMPTS, GOOD)
  width = max(len(row.ids) for row in rows) + 3
  tokens, mask = np.zeros((2, 3, width), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row.ids)], mask[i, : len(row.ids)] = row.ids, row.mask
  lengths = np.array([len(row.ids) for row in rows])
  sequences = Sequences(tokens, mask.astype(bool), lengths)
  # Texts that contradict the tokens: a judge of tokens doesn't read them.
  answers = make_answers(PROMPTS, BAD, sequences=sequences)
  np.testing.assert_allclose(
    assess(by_tokens, answers).numbers("reward"),
    assess(by_text, _answers(GOOD)).numbers("reward"),
    rtol=1e-6,
  )


@pytest.mark.slow
def test_resumed_equals_uninterrupted(place, _reward):
  place.align_alone()
  flags = (*REWARD, "--config.steps=12")
  run, _ = place.train(*flags)
  for path in (run / "align" / "checkpoints").iterdir():
    if path.name == "12":  # as if the run had been killed after step 10
      for file in sorted(path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
      path.rmdir()
  (run / "align" / "results.json").unlink()
  _, said = place.train(*flags)
  assert "resumes at step 10 of 12" in said
  jax.tree.map(np.testing.assert_array_equal, _params(run), _params(_reward))


@pytest.mark.slow
def test_a_low_rank_change_and_the_head_alone(place, plain):
  place.align_alone()
  start = f"--config.init_from={plain / 'run'}"
  run, said = place.train(start, *REWARD, "--config.lora.rank=2")
  assert "trains a head and LoRA of rank 2" in said
  before, after = _params(plain / "run"), _params(run)
  assert not np.array_equal(
    before["blocks"]["wq"], after["model"]["blocks"]["wq"]
  )
  run, said = place.train(
    start, *REWARD, "--config.trainable=('head/*',)", workdir="alone"
  )
  alone = _params(run)
  jax.tree.map(np.testing.assert_array_equal, before, alone["model"])
  assert np.abs(alone["head"]["weight"]).max() > 0
  # A reward model that starts from this one goes on with its head.
  again, _ = place.train(
    f"--config.init_from={run}",
    *REWARD,
    "--config.optimizer.learning_rate=1e-30",
    workdir="again",
  )
  jax.tree.map(np.testing.assert_array_equal, _params(again), alone)


@pytest.mark.parametrize(
  "loss, head",
  [
    pytest.param("pairwise_preference", "pairwise", marks=pytest.mark.slow),
    pytest.param(
      "pairwise_preference_averaged", "pairwise", marks=pytest.mark.slow
    ),
    ("general_preference", "general"),
  ],
)
def test_a_preference_model_judges(place, loss, head):
  place.align_alone()
  run, _ = place.train(
    f"--config.loss.name={loss}",
    f"--config.head={head}",
    "--config.optimizer.learning_rate=0.03",
    "--config.steps=8",
  )
  settings = parse(
    {
      "annotator": {"function": str(run), "kind": "model"},
      "data": {"path": "pairs.jsonl"},
      "loss": {"name": "dpo"},
    }
  )
  tools = tools_of(settings, None, lambda: None)
  judge = tools.judge({"function": str(run), "kind": "model"}, "config.x")
  assert judge.reward is None
  sides = [assess(judge, _answers(x)) for x in (GOOD, BAD)]
  p, q = compare(judge, *sides), compare(judge, *sides[::-1])
  assert (p > 0.5).all()
  np.testing.assert_allclose(p + q, 1, atol=1e-6)
  np.testing.assert_allclose(compare(judge, *sides[:1] * 2), 0.5, atol=1e-6)
  # As the loss has it: the held-out loss is that of the judge's probabilities.
  rows = [json.loads(x) for x in place.data.read_text().splitlines()]
  texts = [[r[k] for r in rows] for k in ("prompt", "chosen", "rejected")]
  chosen, rejected = (
    assess(judge, make_answers(texts[0], side)) for side in texts[1:]
  )
  nll = -np.log(compare(judge, chosen, rejected))
  told = json.loads((run / "align" / "results.json").read_text())
  held_out = told["evaluation"]["eval/loss"]
  assert nll.min() - 1e-5 <= held_out <= nll.max() + 1e-5


def test_a_policy_learns_from_a_reward_model(place, _reward):
  flags = (
    "--config.algorithm=online_dpo",
    f"--config.annotator.function={_reward}",
    "--config.annotator.kind=model",
    "--config.steps=2",
    f"--config.init_from={place.folder / 'sft'}",
  )
  place.train("--config.stages=('sft',)", "--config.sft.steps=1", workdir="sft")
  place.align_alone()
  run, said = place.train(*flags)
  assert "tried on 2 prompts" in said and "reads texts" not in said
  told = json.loads((run / "align" / "results.json").read_text())
  assert "samples/win_rate" in told and "samples/reward_mean" in told
  made = json.loads((run / "made_of.json").read_text())["made_of"]
  assert made["annotator.function"] == fingerprint(_reward)


def test_what_makes_no_sense_is_refused(place, plain, _reward):
  reward, head = "--config.loss.name=bradley_terry", "--config.head"
  as_judge = (f"--config.annotator.function={_reward}",)
  for flags, said in (
    (("--config.loss.name=dpo", f"{head}=scalar"), "dpo.* reads no head"),
    ((reward, f"{head}=scalr"), "unknown head 'scalr'. Did you mean 'scalar'"),
    ((reward, f"{head}=general"), "that can score, which general can't"),
    ((reward, f"{head}.width=4"), "the head scalar has no setting 'width'"),
    ((reward, "--config.algorithm=online_dpo"), "is not the loss of"),
    (
      (reward, "--config.diagnostics.likelihood=probe"),
      "diagnostics: is of policies",
    ),
    ((reward, "--config.normalise_pairs=true"), "normalise"),
    (
      ("--config.sft.loss.name=bradley_terry",),
      "config.start: align trains a policy, and sft,.*--config.start=start",
    ),
    (
      (f"--config.init_from={_reward}",),
      "sft trains a policy, and .* is a reward model",
    ),
    (
      (*as_judge, "--config.annotator.kind=modle"),
      "'modle' is no kind of judge. Did you mean 'model'",
    ),
    (
      (
        *as_judge,
        "--config.annotator.kind=model",
        "--config.annotator.settings.x=1",
      ),
      "judges of kind 'model' have no such setting",
    ),
    (
      (
        *as_judge,
        "--config.annotator.kind=model",
        "--config.annotator.settings.rule=minimum",
      ),
      "settings.rule: is of several models, and one is named",
    ),
    (
      (
        f"--config.annotator.function={_reward},{_reward}",
        "--config.annotator.kind=model",
      ),
      "is named twice",
    ),
    (
      (
        f"--config.annotator.function={plain / 'run'}",
        "--config.annotator.kind=model",
      ),
      "holds a language model, without a score head",
    ),
  ):
    error = place.fails(place.command(*flags))
    assert re.search(said, error), (flags, error)
  assert not (place.folder / "run" / "config.json").exists()


def test_ratings_have_a_head_of_their_number_and_names(place):
  place.align_alone()
  place.write_data(
    {
      "prompt": f"q{i}:",
      "response": " a" * (i % 4 + 1),
      "ratings": {"length": i % 4, "taste": None if i % 5 else 1.0 * (i % 2)},
    }
    for i in range(40)
  )
  flags = (
    "--config.data.source=ratings",
    "--config.loss.name=rating_regression",
    "--config.optimizer.learning_rate=0.03",
  )
  error = place.fails(place.command(*flags, "--config.head.count=3"))
  assert "--config.head.name=objectives --config.head.count=2" in error
  run, _ = place.train(*flags, "--config.steps=12")
  own = scorers.load_scorer(str(run))
  assert own.names == ("length", "taste")
  tools = tools_of(
    parse({"data": {"path": "d"}, "loss": {"name": "dpo"}}), None, lambda: None
  )
  judge = lambda **weights: tools.judge(
    {"function": str(run), "kind": "model", "settings": {"weights": weights}},
    "config.x",
  )
  answers = make_answers(["q1:"] * 2, [" a", " a a a a"])
  only = {
    name: assess(judge(**{name: 1.0}), answers).numbers("reward")
    for name in own.names
  }
  assert only["length"][1] > only["length"][0]
  both = assess(judge(length=0.5, taste=2.0), answers).numbers("reward")
  np.testing.assert_allclose(
    both, 0.5 * only["length"] + 2 * only["taste"], rtol=1e-5
  )
  with pytest.raises(UserError, match="Its objectives are: length, taste"):
    assess(judge(tsate=1.0), answers)

"""What a run says of a stage that trains a score head."""

import json

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment import scorer as scorers
from jalign.experiment.commands import export
from jalign.experiment.commands.evaluate_scorer import evaluate_scorer
from jalign.experiment.config.parse import parse
from jalign.experiment.plugins import load_annotator
from jalign.feedback import assess, make_answers
from tests.experiment.conftest import pairs

REWARD = (
  "--config.loss.name=bradley_terry",
  "--config.optimizer.learning_rate=0.03",
  "--config.steps=12",
)


@pytest.fixture(autouse=True)
def _alone(place):
  place.align_alone()


def test_the_report_of_a_reward_model_has_its_numbers(place, drawn):
  run, said = place.train(*REWARD, "--config.eval_every=6")
  told = json.loads((run / "align" / "results.json").read_text())
  assert told["eval/score_accuracy"]["mean"] == 1.0  # "a" beats "b"
  kept = json.loads((run / "align" / "rewards.json").read_text())
  margins = np.array(kept["margin"])
  np.testing.assert_allclose(
    margins, np.subtract(kept["chosen_score"], kept["rejected_score"])
  )
  assert told["eval/score_nll_nats"]["mean"] == pytest.approx(
    np.mean(np.logaddexp(0, -margins))
  )
  # The loss of the last evaluation is that of the same pairs.
  assert told["evaluation"]["eval/loss"] == pytest.approx(
    np.mean(np.logaddexp(0, -margins)), rel=1e-4
  )
  assert set(kept["chosen_tokens"]) <= {2, 3, 4, 5, 6, 7, 8, 9}
  assert f"NLL {told['eval/score_nll_nats']['mean']:.3f} nats" in said
  text = (run / "report.md").read_text()
  assert "## Score head of align" in text and "| accuracy | 100.0 %" in text
  assert "Held-out accuracy of scores: align 100.0 %" in text
  assert (run / "plots" / "align_rewards.png").stat().st_size > 10_000
  assert "Held-out results" not in text  # no policy was judged


@pytest.mark.parametrize(
  "loss, head",
  [
    ("pairwise_preference", "pairwise"),
    pytest.param(
      "pairwise_preference_averaged", "pairwise", marks=pytest.mark.slow
    ),
    pytest.param("general_preference", "general", marks=pytest.mark.slow),
  ],
)
def test_margins_of_preference_models_give_their_losses(place, loss, head):
  run, _ = place.train(
    f"--config.loss.name={loss}",
    f"--config.head={head}",
    "--config.optimizer.learning_rate=0.02",
  )
  told = json.loads((run / "align" / "results.json").read_text())
  assert told["evaluation"]["eval/loss"] != pytest.approx(np.log(2), rel=0.02)
  assert told["eval/score_nll_nats"]["mean"] == pytest.approx(
    told["evaluation"]["eval/loss"], rel=1e-3
  )
  kept = json.loads((run / "align" / "rewards.json").read_text())
  assert "chosen_score" not in kept and len(kept["margin"]) > 5


def test_lists_give_all_their_pairs(place):
  rows = [
    {
      "prompt": f"q{i}:",
      "responses": [" a a", " a", " b"],
      "scores": [2.0, 1.0, 1.0 if i % 2 else 0.0],
    }
    for i in range(30)
  ]
  place.write_data(rows)
  run, _ = place.train(
    "--config.loss.name=bradley_terry_list", "--config.data.source=ranked"
  )
  kept = json.loads((run / "align" / "rewards.json").read_text())
  count = {group: kept["group"].count(group) for group in kept["group"]}
  odd = {g: int(g.split("q")[-1].split(":")[0]) % 2 for g in count}
  assert count == {g: 2 if odd[g] else 3 for g in count} and len(count) > 5


def test_a_cost_model_is_right_where_the_chosen_response_costs_less(place):
  rows = [
    {**row, "chosen_unsafe": False, "rejected_unsafe": True} for row in pairs()
  ]
  place.write_data(rows)
  run, _ = place.train(
    "--config.loss.name=cost_model",
    "--config.optimizer.learning_rate=0.03",
    "--config.steps=12",
  )
  kept = json.loads((run / "align" / "rewards.json").read_text())
  assert np.mean(kept["chosen_score"]) < np.mean(kept["rejected_score"])
  told = json.loads((run / "align" / "results.json").read_text())
  assert told["eval/score_accuracy"]["mean"] > 0.9
  (*_, last) = evaluate_scorer(run, "", None)
  assert "score lower for chosen: 9" in last or "chosen: 100" in last
  # A judge gives the cost as a cost: what learns from rewards would raise it.
  assert scorers.gives_at(run) == ("cost",)
  model = {"function": str(run), "kind": "model"}
  data = {"data": {"path": str(place.folder / "pairs.jsonl")}}
  with pytest.raises(UserError, match="gives costs alone"):
    load_annotator(parse({"annotator": model, **data}))
  settings = {"how": "sum", "judges": {"harm": model}, "penalties": {"harm": 1}}
  whole = {"kind": "combined", "settings": settings}
  judge = load_annotator(parse({"annotator": whole, **data}))
  assert judge is not None
  answers = make_answers(["q1:"] * 2, [" a", " b"])
  safe, harmful = assess(judge, answers).numbers("reward")
  assert safe > harmful
  said = export.export_run(run, place.folder / "costs")
  assert "the scores are costs, of which less is better" in said


def test_objectives_are_reported_by_name(place):
  names = ("short", "letter")
  rows = []
  for i, row in enumerate(pairs()):
    short = len(row["chosen"]) < len(row["rejected"])
    first = float(short) if i % 2 else 1.0
    rows.append({**row, "objective": names[i % 2 == 0], "preference": first})
  place.write_data(rows)
  run, said = place.train(
    "--config.loss.name=objective_bradley_terry",
    "--config.head=objectives",
  )
  told = json.loads((run / "align" / "results.json").read_text())
  assert told["objectives"] == ["letter", "short"]
  for name in names:
    assert set(told[f"eval/score_accuracy/{name}"]) == {"mean", "low", "high"}
    assert f"held out, {name}: accuracy" in said
  assert "## Objectives of align" in (run / "report.md").read_text()

"""What a run says of a stage that trains a score head."""

import json

import numpy as np
import pytest

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
    ("pairwise_preference_averaged", "pairwise"),
    ("general_preference", "general"),
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

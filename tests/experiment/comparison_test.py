"""The page of a sweep, made from files like those of finished runs."""

import json
import re

import pytest

from jalign.experiment.commands.comparison import write_comparison
from jalign.experiment.commands.sweep import runs
from jalign.experiment.config import parse
from jalign.pages import plots

RATES = {0: 0.5, 1: 0.7}  # by seed; twice the beta adds 0.1


def _sweep(folder, *sweep, seeds=(0, 1)):
  config = parse.defaults() | {
    "data": {"path": "d.jsonl"},
    "loss": {"name": "dpo", "beta": 0.1},
    "seeds": seeds,
    "sweep": sweep,
  }
  members = runs(config)
  for run in members:
    stage = folder / run.name / "train"
    (stage / "checkpoints" / "1").mkdir(parents=True)
    about = {"model": {}, "stages": ["train"]}
    (folder / run.name / "run.json").write_text(json.dumps(about))
    mean = RATES[run.settings.seed] + run.settings.stages[0].loss["beta"] - 0.1
    rate = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    results = {"eval/ranking_accuracy": rate, "evaluation": {"eval/loss": mean}}
    (stage / "results.json").write_text(json.dumps(results))
    rows = [
      {"step": i, "train/loss": 1.0, "train/margin_nats": mean * i}
      for i in (1, 2)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (stage / "metrics.jsonl").write_text(text)
  return members


@pytest.fixture
def drawn(monkeypatch):
  calls, draw = [], plots.plot_metrics

  def plot_metrics(curves, keys, path, **options):
    calls.append((list(keys), options))
    return draw(curves, keys, path, **options)

  monkeypatch.setattr(plots, "plot_metrics", plot_metrics)
  return calls


def _page(folder, members):
  return re.sub(r"\\(.)", r"\1", write_comparison(folder, members).read_text())


def test_losses_of_different_betas_are_in_no_column(tmp_path, drawn):
  members = _sweep(tmp_path, ("loss.beta", (0.1, 0.2)))
  page = _page(tmp_path, members)
  # (0.5, 0.7): mean 0.6, deviation sqrt(2 * 0.1 ** 2) = 0.1414.
  assert re.search(r"loss.beta=0.1 \| +2 \| 60.0 ± 14.1 %", page)
  assert re.search(r"loss.beta=0.2 \| +2 \| 70.0 ± 14.1 %", page)
  assert "| held-out loss" not in page and "aren't compared" in page
  ((keys, options),) = drawn
  assert keys == ["train/margin_nats"]
  looks = [options["looks"][run.name] for run in members]
  assert looks[0] == looks[2] != looks[1] == looks[3]
  assert set(options["groups"].values()) == {"loss.beta=0.1", "loss.beta=0.2"}


def test_one_loss_is_compared(tmp_path, drawn):
  page = _page(tmp_path, _sweep(tmp_path))
  assert re.search(r"all runs \| +2 \| 60.0 ± 14.1 % \| 0.6000 ± 0.1414", page)
  assert "aren't compared" not in page
  assert drawn[0][0] == ["train/loss", "train/margin_nats"]


def test_rewards_are_compared_in_their_own_unit(tmp_path, drawn):
  members = _sweep(tmp_path)
  for path, mean in zip(sorted(tmp_path.rglob("results.json")), (-2.0, -3.0)):
    result = json.loads(path.read_text())
    result["samples/reward_mean"] = {
      "mean": mean,
      "low": mean - 0.5,
      "high": mean + 0.5,
    }
    path.write_text(json.dumps(result))
  page = _page(tmp_path, members)
  assert "-2.5 ± 0.707 |" in page and "| -2.00 ± 0.50 |" in page
  assert page.count("| mean reward |") == 2
  assert drawn


def test_without_seeds_there_is_no_spread(tmp_path, drawn):
  members = _sweep(tmp_path, ("batch_size", (4, 8)), seeds=())
  page = _page(tmp_path, members)
  assert "standard deviation" not in page and "| held-out loss" in page
  looks = [drawn[0][1]["looks"][run.name] for run in members]
  assert looks[0] != looks[1]

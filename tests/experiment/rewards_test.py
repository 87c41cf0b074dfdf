"""`jalign rewards`: implicit and explicit rewards on the same pairs."""

import json
import pathlib

import matplotlib.figure
import pytest

from jalign import cli
from tests.experiment.conftest import Workplace, blank, pairs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A folder with a reward model and a DPO run on the same data."""
  place = Workplace(tmp_path_factory.mktemp("runs"), None)
  place.align_alone()
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(pathlib.Path(__file__).resolve().parents[2])
    patch.setattr(matplotlib.figure.Figure, "savefig", blank)
    rate = "--config.optimizer.learning_rate=0.01"
    cli.main(
      place.command("--config.loss.name=bradley_terry", rate, workdir="rm")
    )
    cli.main(place.command(rate, workdir="dpo"))
  return place


def _shifted(folder):
  """Pairs in which the rejected response has the letter of the chosen one."""
  rows = [{**row, "rejected": " a" * 9} for row in pairs(12)]
  path = folder / "shifted.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)) + "\n")
  return path


def test_both_kinds_of_reward_are_on_one_page(runs, tmp_path, capsys):
  shifted, out = _shifted(tmp_path), tmp_path / "page"
  rm, dpo = runs.folder / "rm", runs.folder / "dpo"
  cli.main(["rewards", str(rm), str(dpo), f"--data={shifted}", f"--out={out}"])
  assert str(out / "report.html") in capsys.readouterr().out
  told = json.loads((out / "rewards.json").read_text())
  assert list(told) == ["held-out pairs", str(shifted)]
  results = {
    run.name: json.loads((run / "align" / "results.json").read_text())
    for run in (rm, dpo)
  }
  mine = told["held-out pairs"]
  for name in ("score_accuracy", "score_nll_nats"):
    assert mine["rm"][name] == pytest.approx(results["rm"][f"eval/{name}"])
  assert mine["dpo"]["score_accuracy"]["mean"] == pytest.approx(
    results["dpo"]["eval/reward_accuracy"]["mean"]
  )
  # DPO's loss is the likelihood of the labels under its implicit reward.
  assert mine["dpo"]["score_nll_nats"]["mean"] == pytest.approx(
    results["dpo"]["evaluation"]["eval/loss"], rel=1e-3
  )
  text = (out / "report.md").read_text()
  assert "| rm | explicit |" in text
  assert "| dpo | implicit (beta = 0.1) |" in text
  # The difference is taken pair by pair: the pairs were put in one order.
  kept = json.loads((rm / "align" / "rewards.json").read_text())
  assert len(set(kept["source"])) == len(kept["margin"])
  gap = 100 * (
    mine["dpo"]["score_accuracy"]["mean"] - mine["rm"]["score_accuracy"]["mean"]
  )
  assert f"| dpo less rm | {gap:+.1f} (" in text
  assert told[str(shifted)]["rm"]["score_accuracy"]["mean"] < 1


@pytest.mark.slow
def test_runs_that_cannot_be_compared_are_named(runs, tmp_path, capsys):
  runs._capsys = capsys
  rm, out = runs.folder / "rm", tmp_path / "page"
  other = runs.folder / "other"
  if not other.exists():
    cli.main(
      runs.command(
        "--config.data.split_seed=1", "--config.steps=1", workdir="other"
      )
    )
  said = runs.fails(["rewards", str(rm), str(other), f"--out={out}"])
  assert "hold out other pairs" in said and "split_seed" in said
  said = runs.fails(["rewards", str(rm), str(rm), f"--out={out}"])
  assert "named twice" in said
  full = tmp_path / "full"
  full.mkdir()
  (full / "x").write_text("")
  assert "isn't empty" in runs.fails(["rewards", str(rm), f"--out={full}"])
  assert "one or more" in runs.fails(["rewards", f"--out={out}"])
  said = runs.fails(["rewards", str(tmp_path), f"--out={out}"])
  assert str(tmp_path / "config.json") in said

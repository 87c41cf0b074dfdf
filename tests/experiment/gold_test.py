"""A gold judge measures beside the judge that a policy learns from."""

import json

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment import gold, held_out, identity
from jalign.experiment.config.parse import parse
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.plugins import load_plugins
from jalign.feedback import from_batch, from_reward, make_answers
from jalign.training.metrics import read_jsonl
from tests.experiment.settings import config_of

LONG = from_reward(lambda prompt, response: float(len(response)))
SHORT = from_reward(lambda prompt, response: -2.0 * len(response))


def _answers(*texts):
  return make_answers([f"p{i // 2}" for i in range(len(texts))], list(texts))


def _both(judge, other, *texts):
  return gold.assess_both(judge, other, _answers(*texts))


def _sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, float)))


def test_the_gold_judge_has_its_own_numbers():
  ids = np.array([0, 0, 1, 1])
  mine = _both(LONG, SHORT, "aaa", "aa", "a", "aaaa")
  start = _both(LONG, SHORT, "a", "aa", "aa", "a")
  got = gold.gold_means(LONG, SHORT, mine, start, ids)
  margins = np.array([2, 0, -1, 3])  # letters more than the start
  wins = _sigmoid(-2 * margins)
  assert got["gold_win_rate"].mean == pytest.approx(wins.mean(), rel=1e-5)
  assert got["gold_reward_mean"].mean == -2 * 2.5
  assert got["gold_agreement_share"].mean == 0  # of three pairs that differ
  own = _sigmoid(margins[[0, 2, 3]])
  sure = np.maximum(own, 1 - own)
  right = np.where(own > 0.5, wins[[0, 2, 3]], 1 - wins[[0, 2, 3]])
  off = np.abs(sure - right)  # each pair is in a bin of its own
  assert len(set((sure * 20).astype(int))) == 3
  assert got["gold_calibration_ece"].mean == pytest.approx(off.mean(), rel=1e-5)
  assert got["gold_agreement_within_prompt_share"].mean == 0
  same = gold.gold_means(
    LONG,
    LONG,
    _both(LONG, LONG, "aaa", "a"),
    _both(LONG, LONG, "a", "aa"),
    ids[:2],
  )
  assert same["gold_agreement_share"].mean == 1
  assert same["gold_agreement_within_prompt_share"].mean == 1


def test_equal_texts_and_missing_answers_tell_nothing():
  quiet = from_batch(
    lambda prompts, a, b: [np.nan if x == "?" else 1.0 for x in a]
  )._replace(answers_all=False)
  ids = np.array([0, 0, 1, 1])
  mine = _both(LONG, quiet, "aa", "?", "?", "a")
  start = _both(LONG, quiet, "a", "a", "b", "a")
  got = gold.gold_means(LONG, quiet, mine, start, ids)
  assert got["gold_win_rate"].mean == 1
  assert got["gold_unanswered_share"].mean == 0.5
  assert got["gold_agreement_share"].mean == 1  # "aa" over "a" alone
  assert "gold_reward_mean" not in got
  alike = _both(LONG, SHORT, "a", "a", "a", "a")
  got = gold.gold_means(LONG, SHORT, alike, alike, ids)
  assert set(got) == {"gold_win_rate", "gold_reward_mean"}
  assert got["gold_win_rate"].mean == 0.5


def test_neighbours_are_disjoint_pairs_of_a_prompt():
  first, second = gold.neighbours(np.array([0, 0, 0, 1, 2, 2, 2, 2]))
  assert first.tolist() == [0, 4, 6] and second.tolist() == [1, 5, 7]
  assert not gold.neighbours(np.arange(4))[0].size


def test_names_to_select_by_are_always_measured():
  names = held_out.sample_metrics(LONG, SamplerSettings(), SHORT)
  assert {"samples/gold_win_rate", "samples/gold_reward_mean"} <= set(names)
  assert not any(
    "gold" in n for n in held_out.sample_metrics(LONG, SamplerSettings())
  )


JUDGES = """
def learned(prompt, response):
  return float(response.count("b"))


def true(prompt, response):
  return -float(len(response))
"""


def test_an_online_stage_reports_both_judges(place, drawn):
  place.align_alone()
  file = place.folder / "judges.py"
  file.write_text(JUDGES)
  flags = (
    "--config.algorithm=online_dpo",
    f"--config.annotator.function={file}:learned",
    f"--config.annotator.gold.function={file}:true",
    "--config.annotator.gold.scale=0.5",
    "--config.sample.per_prompt=2",
    "--config.eval_every=2",
    "--config.select=samples/gold_win_rate",
    "--config.select_mode=max",
  )
  run, _ = place.train(*flags)
  rows = [
    row
    for row in read_jsonl(run / "align" / "metrics.jsonl")
    if "samples/gold_win_rate" in row
  ]
  assert [row["step"] for row in rows] == [0, 2, 4]
  assert all(row["samples/gold_reward_mean"] <= 0 for row in rows)
  assert "samples/gold_agreement_share" in rows[0]
  assert "samples/gold_agreement_within_prompt_share" in rows[0]
  told = json.loads((run / "align" / "results.json").read_text())
  assert {"mean", "low", "high"} == set(told["samples/gold_win_rate"])
  page = (run / "report.md").read_text()
  assert "## align: the judge and the gold judge" in page
  assert "gold win rate over its start" in page and "gold reward" in page
  assert (run / "plots" / "align_gold.png").stat().st_size > 10_000
  made = json.loads((run / "made_of.json").read_text())["made_of"]
  assert "annotator.gold" in made


def test_a_gold_judge_decides_no_parameters_unless_it_selects(tmp_path):
  file = tmp_path / "judges.py"
  file.write_text(JUDGES)

  def needed(select):
    settings = parse(
      config_of(
        algorithm="online_dpo",
        steps=2,
        select=select,
        annotator={
          "function": f"{file}:learned",
          "gold": {"function": f"{file}:true"},
        },
      )
    )
    told = {"annotator.gold": "x", "annotator.function": "y"}
    return identity.needed_by(settings, settings.stages[0], told)

  assert "annotator.gold" not in needed("samples/win_rate")
  assert "annotator.gold" in needed("samples/gold_win_rate")


@pytest.mark.parametrize(
  "annotator, said",
  [
    ({"gold": {"function": "FILE:true"}}, "config.annotator.gold"),
    (
      {"function": "FILE:learned", "gold": {"functon": "FILE:true"}},
      "config.annotator.gold.functon",
    ),
    (
      {"function": "FILE:learned", "gold": {"function": "FILE:treu"}},
      "config.annotator.gold.function",
    ),
  ],
)
def test_a_wrong_gold_judge_is_named(tmp_path, annotator, said):
  file = tmp_path / "judges.py"
  file.write_text(JUDGES)
  text = json.dumps(annotator).replace("FILE", str(file))
  settings = parse(config_of(annotator=json.loads(text)))
  with pytest.raises(UserError, match=said):
    load_plugins(settings)

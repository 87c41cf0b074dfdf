"""`jalign judge check` on small files, by functions and by the command."""

import json

import numpy as np
import pytest

from jalign.cli import main
from jalign.data import tldr_world as world
from jalign.experiment.commands.judge_check import ask_both_orders
from jalign.feedback import from_batch, from_reward, make_answers

JUDGES = '''
"""Judges with known faults."""

import math


def first_place(prompt, a, b):
  gap = len(a.split()) - len(b.split())
  return 1 / (1 + math.exp(-(gap + 1.5)))


def same(prompt, response):
  return 1.0


def nothing(prompt, response):
  pass


def right(prompt, response, row):
  return float(response == row["answer"])
'''


@pytest.fixture
def files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "judges.py").write_text(JUDGES)
  rows = [
    {
      "prompt": f"question {i // 2}",
      "chosen": "a " * (i % 4 + 1),
      "rejected": "b " * 2 + "c",
      "answer": "a " * (i % 4 + 1),
    }
    for i in range(8)
  ]
  text = "\n".join(map(json.dumps, rows))
  (tmp_path / "pairs.jsonl").write_text(text)
  return tmp_path


def _run(*arguments):
  with pytest.raises(SystemExit) as stopped:
    main(["judge", "check", *arguments])
  return stopped.value.code


def _checked(capsys, *arguments):
  main(["judge", "check", "--data=pairs.jsonl", *arguments])
  return " ".join(capsys.readouterr().out.split())


def test_the_command_prints_and_writes_exact_shares(files, capsys):
  said = _checked(
    capsys,
    "--annotator=judges.py:first_place",
    "--kind=preference",
    "--out=found.json",
  )
  found = json.loads((files / "found.json").read_text())
  # Chosen responses have 1 to 4 words, rejected ones 3.
  assert found["conflict"]["mean"] == pytest.approx(0.75)
  assert found["order_effect"] == pytest.approx(1.5)
  assert found["agreement"]["mean"] == pytest.approx((0 + 0 + 0.5 + 1) / 4)
  assert found["tied"]["mean"] == pytest.approx(0.25)
  assert found["cost"]["comparisons"] == 16 and found["prompts"] == 4
  assert found["length"]["pairs"] == 6
  assert "8 pairs of 4 prompts, in both orders: 16 comparisons" in said
  assert "verdict changes with the order 75.0 %" in said


def test_rewards_are_asked_once_a_response_and_rows_are_read(files, capsys):
  said = _checked(
    capsys,
    "--annotator=judges.py:right",
    "--config.data.judge_columns=answer",
    "--pairs=4",
  )
  assert "4 of 8 pairs" in said and "8 rewards in" in said
  assert "agreement with the labels 100.0 %" in said
  said = _checked(capsys, "--annotator=judges.py:same")
  assert "equally good" in said


@pytest.mark.slow  # 10 s of Matplotlib
def test_a_page_has_the_table_and_a_figure(files, capsys):
  _checked(capsys, "--annotator=judges.py:same", "--page=page")
  page = (files / "page" / "report.md").read_text()
  assert "verdict changes with the order" in page and "plots/judge.png" in page
  assert (files / "page" / "plots" / "judge.png").exists()


def test_a_config_of_a_judge_needs_no_data_of_its_own(files, capsys):
  (files / "named.py").write_text(
    "from jalign.configs import base\n\n\n"
    "def get_config():\n"
    "  c = base.get_config()\n"
    '  c.annotator.kind = "noisy"\n'
    '  c.annotator.settings = dict(judge=dict(function="judges.py:same"))\n'
    "  return c\n"
  )
  main(["judge", "check", "--config=named.py", "--data=pairs.jsonl"])
  assert "8 pairs of 4 prompts" in capsys.readouterr().out


def test_bad_input_is_one_paragraph(files, capsys):
  data = "--data=pairs.jsonl"
  for arguments, words in (
    ((data,), "names no judge"),
    ((data, "--annotator=judges.py:nothing"), "gave None"),
    ((data, "--annotator=judges.py:same", "--kind=rewad"), "'reward'"),
    (("--annotator=judges.py:same",), "needs a file"),
    ((data, "--annotator=judges.py:right"), "KeyError"),
    (
      (
        data,
        "--annotator=judges.py:right",
        "--config.data.judge_columns=anser",
      ),
      "answer",
    ),
    (
      (data, "--annotator=judges.py:same", "--columns=chosen=good"),
      "There are",
    ),
  ):
    assert _run(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split()), words
  (files / "prompts.jsonl").write_text('{"prompt": "p"}')
  assert _run("--data=prompts.jsonl", "--annotator=judges.py:same") == 2
  assert "no labelled pairs" in " ".join(capsys.readouterr().err.split())


def test_the_worlds_raters_have_the_agreement_of_their_labels():
  records = world.records("preferences", 300)
  prompts = [record.prompt for record in records]
  sides = [
    make_answers(prompts, [getattr(record, name) for record in records])
    for name in ("chosen", "rejected")
  ]
  asked = ask_both_orders(from_batch(world.population), *sides)
  exact = [record.preference for record in records]
  np.testing.assert_allclose(asked.first, exact, rtol=1e-6)
  np.testing.assert_allclose(asked.second, exact, rtol=1e-5)
  gold = ask_both_orders(from_reward(world.gold_reward, scale=2.0), *sides)
  margin = [r.chosen_score - r.rejected_score for r in records]
  np.testing.assert_allclose(
    gold.first, 1 / (1 + np.exp(-2 * np.array(margin))), rtol=1e-5
  )
  np.testing.assert_allclose(gold.second, gold.first, rtol=1e-5)
  assert gold.responses == 600 and gold.comparisons == 0

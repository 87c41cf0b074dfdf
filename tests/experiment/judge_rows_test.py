"""Judges that look at other columns of the data, at costs, and at tokens."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from jalign import cli
from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import pairs

# The judge raises unless each row belongs to its prompt.
JUDGE = """
import jax
import jax.numpy as jnp
from jalign.feedback import from_cost, from_reward, on_tokens

def reward(prompt, response, row):
  if row["of"]["prompt"] != prompt:
    raise ValueError(f"{prompt}: {row}")
  return float(len(response) == row["answer"])

def rewards(prompts, responses, rows):
  return [reward(*columns) for columns in zip(prompts, responses, rows)]

def cost(prompt, response, row):
  return len(response) + 100 * row["answer"]

def both():
  return from_reward(reward)._replace(cost=from_cost(cost).cost)

@jax.jit
def scored(sequences):
  return -jnp.sum(sequences.mask, 1, dtype=jnp.float32)

def model():
  return on_tokens(reward=scored, cost=lambda x: x.tokens.shape[0] + scored(x))

def spaces(prompt, response):
  return response.count(" ")
"""


def _rows():
  for i, row in enumerate(pairs()):
    yield row | {"answer": 3 + i % 3, "of": {"prompt": row["prompt"]}}


@pytest.fixture
def judge(place):
  (place.folder / "judge.py").write_text(JUDGE)
  place.write_data(_rows())
  place.align_alone()
  return place


def _flags(place, name, *more, columns='("answer","of")'):
  return [
    "--config.algorithm=online_dpo",
    "--config.max_new_tokens=4",
    f"--config.annotator.function={place.folder / 'judge.py'}:{name}",
    f"--config.data.judge_columns={columns}",
    *more,
  ]


def _metrics(folder):
  return [
    {k: v for k, v in row.items() if not is_clock(k)}
    for row in read_jsonl(folder / "align" / "metrics.jsonl")
  ]


def test_a_verifiable_reward_from_jsonl_and_parquet(judge, capsys):
  """And from a judge made of two functions: the same numbers of all three."""
  cost = f"--config.annotator.cost={judge.folder / 'judge.py'}:cost"
  folder, said = judge.train(*_flags(judge, "reward", cost))
  assert "the judge sees 'answer', 'of' of 40 prompts" in said
  assert "fields not read" not in said
  assert re.search(r"judge.py:reward and .*judge.py:cost: tried on 2", said)
  metrics = _metrics(folder)
  held_out = [row for row in metrics if "samples/win_rate" in row]
  steps = [row for row in metrics if "train/loss" in row]
  assert {r["rollouts/reward_mean"] for r in steps} - {
    0.0
  }  # some responses are right
  assert all(
    0 <= r["rollouts/reward_mean"] <= 1 < r["rollouts/cost_mean"] for r in steps
  )
  assert all(300 < r["samples/cost_mean"] < 600 for r in held_out)
  results = json.loads((folder / "align" / "results.json").read_text())
  answer = {row["prompt"]: row["answer"] for row in _rows()}
  right, costs = zip(
    *(
      (len(response) == answer[prompt], len(response) + 100 * answer[prompt])
      for prompt, response in zip(results["prompts"], results["samples"])
    )
  )
  assert results["samples/reward_mean"]["mean"] == pytest.approx(np.mean(right))
  assert results["samples/cost_mean"]["mean"] == pytest.approx(np.mean(costs))
  page = (folder / "report.md").read_text()
  assert "| reward | sd of the reward | cost | sd of the cost |" in page
  assert " Mean cost: " in page
  made_of = json.loads((folder / "made_of.json").read_text())["made_of"]
  assert {"data.train_rows", "data.held_out_rows", "annotator.cost"} <= set(
    made_of
  )

  # The same rows come from columns that nothing else reads, and many at once.
  table = judge.folder / "rows.parquet"
  pa.parquet.write_table(pa.Table.from_pylist(list(_rows())), table)
  again, said = judge.train(
    *_flags(judge, "rewards", cost, f"--config.data.path={table}"),
    "--config.annotator.kind=rewards",
    workdir="parquet",
  )
  assert "fields not read" not in said
  assert _metrics(again) == metrics

  both = _flags(judge, "both", "--config.annotator.kind=judge")
  made, _ = judge.train(*both, workdir="both")
  assert _metrics(made) == metrics

  # The judge also sees the rows when one run is compared with the other.
  evaluate = ["evaluate", f"--model={folder}", f"--against={again}"]
  cli.main([*evaluate, f"--data={table}"])
  assert "the judge sees 'answer', 'of' of 40" in capsys.readouterr().out
  cli.main(evaluate)
  said = capsys.readouterr().out
  assert "reward of" in said and "cost of" in said


def test_a_judge_on_tokens_sees_what_was_sampled(judge):
  """So it does for opponents and in the trial, whose texts weren't sampled."""
  path = judge.folder / "judge.py"
  path.write_text(
    path.read_text()
    + "\ndef others(prompts):\n  return {'other': [' a a'] * len(prompts)}\n"
  )
  folder, _ = judge.train(
    *_flags(
      judge,
      "model",
      "--config.annotator.kind=judge",
      f"--config.annotator.opponents={path}:others",
      "--config.sample.best_of=3",
      columns="()",
    )
  )
  steps = [row for row in _metrics(folder) if "train/loss" in row]
  for row in steps:
    assert row["rollouts/reward_mean"] == pytest.approx(
      -row["rollouts/response_tokens"]
    )
    assert row["rollouts/cost_mean"] == pytest.approx(
      16 - row["rollouts/response_tokens"]
    )
  results = json.loads((folder / "align" / "results.json").read_text())
  assert results["samples/reward_mean"]["mean"] == pytest.approx(
    -results["samples/response_tokens"]
  )
  matrix = json.loads((folder / "win_matrix.json").read_text())
  assert matrix["names"] == ["start", "align", "best of 3", "other"]
  # Best-of-n takes the shortest response, and so beats its own policy.
  assert matrix["win_rate"][2][0] > 0.5


BAD = """
def short(prompts, responses, rows):
  return [0.5]

def vague():
  return {"reward": reward}

def lost(sequences):
  return jnp.full(sequences.lengths.shape, jnp.nan)

def infinite():
  return on_tokens(reward=lost)

def all_tokens(sequences):
  return sequences.tokens

def wide():
  return on_tokens(reward=all_tokens)
"""


@pytest.mark.parametrize(
  "kind, name, cost, line, said",
  [
    ("reward", "reward", "", 'row["of"]', "reward raised KeyError: of for"),
    ("judge", "both", "", 'row["of"]', "reward raised KeyError: of."),
    ("reward", "spaces", "cost", "+ 100", "cost raised KeyError: answer for"),
    ("judge", "reward", "", "def reward(", "reward can't be called (missing"),
    ("rewards", "spaces", "", "def spaces", "spaces can't be called (too many"),
    ("rewards", "short", "", "def short", "short gave shape (1,), not 2 numb"),
    ("judge", "vague", "", "def vague", "vague gave a dict, not a Judge of"),
    ("judge", "infinite", "", "def lost", "lost gave a reward of nan for resp"),
    ("judge", "wide", "", "def all_tok", "all_tokens gave shape (2, "),
    ("judge", "both", "cost", "", "is a second cost: the judge has one."),
  ],
)
def test_what_a_judge_does_wrong_is_told_with_its_line(
  judge, kind, name, cost, line, said
):
  path = judge.folder / "judge.py"
  path.write_text(JUDGE + BAD)
  flags = [f"--config.annotator.kind={kind}"]
  flags += [f"--config.annotator.cost={path}:{cost}"] if cost else []
  message = judge.fails(
    judge.command(*_flags(judge, name, *flags, columns="()"))
  )
  lines = (JUDGE + BAD).splitlines()
  numbers = [i for i, text in enumerate(lines, 1) if line and line in text]
  place = f"{path}:{numbers[0]}: " if line else "config.annotator.cost: "
  assert place + said in message
  assert message.startswith("jalign: error: config.annotator.")
  assert not (judge.folder / "run").exists()


def test_a_judge_has_a_scale_of_its_own(judge):
  flags = ["--config.annotator.kind=judge", "--config.annotator.scale=2.0"]
  message = judge.fails(judge.command(*_flags(judge, "model", *flags)))
  assert "config.annotator.scale: isn't read: the judge has a sc" in message


def test_what_the_judge_was_and_saw_may_not_change(judge, capsys):
  cost = judge.folder / "cost.py"
  cost.write_text("def cost(prompt, response):\n  return len(response)\n")
  flags = _flags(judge, "reward", f"--config.annotator.cost={cost}:cost")
  judge.train(*flags)
  said = "isn't made of the same any more: "
  rows = list(_rows())
  for change, name in (
    (
      lambda: cost.write_text(cost.read_text().replace("len", "-len")),
      "annotator.cost",
    ),
    (
      lambda: judge.write_data(row | {"answer": 7} for row in rows),
      "annotator.cost, data.held_out_rows, data.train_rows",
    ),
  ):
    change()
    message = judge.fails(judge.command(*flags))
    changed = message.partition(said)[2].partition(" changed")[0]
    assert ", ".join(sorted(changed.split(", "))) == name
    trained = message.partition("align from ")[2].partition(")")[0]
    # Evaluations don't influence the parameters if no state is selected.
    assert trained.split(", ") == [
      part for part in name.split(", ") if part != "data.held_out_rows"
    ]
  folder = judge.folder / "run"
  cli.main(["evaluate", f"--model={folder}", f"--against={folder}"])
  said = capsys.readouterr().out
  assert "changed since the run began" in said
  assert {"annotator.cost", "data.train_rows"} <= set(
    said.partition("began: ")[2].partition("\n")[0].split(", ")
  )


def test_the_prompts_of_a_stages_own_data_are_tried_as_well(judge):
  """The judge's columns aren't set for that file, so the judge lacks them."""
  own = judge.folder / "own.jsonl"
  own.write_text(judge.data.read_text())
  flags = [
    "--config.stages=('first','align')",
    f"--config.first.data.path={own}",
  ]
  text = judge.config.read_text().replace(
    "  return c", "  c.first = dict(data=dict(path=''))\n  return c"
  )
  judge.config.write_text(text)
  message = judge.fails(judge.command(*_flags(judge, "reward", *flags)))
  assert "reward raised KeyError: of for 'q" in message
  assert not (judge.folder / "run").exists()


def test_a_cost_alone_compares_nothing(judge):
  cost = f"--config.annotator.cost={judge.folder / 'judge.py'}:cost"
  message = judge.fails(judge.command(cost))
  assert "config.annotator.cost: is a cost, by which nothing is co" in message


def test_columns_that_are_not_there(judge):
  flags = _flags(judge, "reward", columns='("anser",)')
  message = judge.fails(judge.command(*flags))
  assert f"config.data.judge_columns: {judge.data}: no row has the" in message
  assert "'anser'. Did you mean 'answer'?" in message
  # The trial's message has the name from the function.
  flags = _flags(judge, "reward", columns='("answer","of.prompt","off")')
  judge.write_data(row | {"off": 1} for row in _rows())
  message = judge.fails(judge.command(*flags))
  assert "reward raised KeyError: of for" in message
  assert "Did you mean 'off'?" in message

"""The command line: stopping and resuming, and its error messages."""

import jax
import numpy as np
import pytest

import jalign
from jalign import cli
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import pairs

REWARD = """
import os, signal

left = int(os.environ.get("STOP_AFTER_REWARDS", "0"))


def reward(prompt, response):
  global left
  left -= 1
  if not left:
    os.kill(os.getpid(), signal.SIGTERM)
  return float(response.count("e")) + len(response) / 100
"""


def _params(run):
  config = folders.model_of(run)
  return jax.device_get(trained_params(config, make_mesh(), run / "align"))


def _rows(run):
  """Metrics of the last stage, without times."""
  return [
    {k: v for k, v in row.items() if not is_clock(k)}
    for row in read_jsonl(run / "align" / "metrics.jsonl")
  ]


@pytest.mark.slow  # fast: rows of their own, tests/online/run_test.py
def test_an_online_run_that_was_stopped_ends_as_if_it_were_not(
  place, monkeypatch
):
  """Prompts, samples and the annotator's draws depend only on the step."""
  (place.folder / "reward.py").write_text(REWARD)
  flags = [
    "--config.algorithm=online_dpo",
    f"--config.annotator.function={place.folder / 'reward.py'}:reward",
  ]
  place.align_alone()
  whole, _ = place.train(*flags, workdir="whole")
  # The trial takes 4 rewards. Held-out prompts take 12 before the first step:
  # for the start's samples in the report, its samples to compare with, and the
  # policy's. A step has 8 prompts, and so takes 16 rewards. Hence the signal
  # comes in the second step.
  monkeypatch.setenv("STOP_AFTER_REWARDS", "36")
  cut, said = place.train(*flags, workdir="cut")
  assert "saved at step 2; run the same command to resume" in said
  assert not (cut / "report.md").exists()
  monkeypatch.delenv("STOP_AFTER_REWARDS")
  _, said = place.train(*flags, workdir="cut")
  assert "[align] resumes at step 2 of 4" in said
  jax.tree.map(np.testing.assert_array_equal, _params(whole), _params(cut))
  assert _rows(whole) == _rows(cut)
  assert len(_rows(whole)) == 4 + 2  # the steps, and two evaluations


def test_samples_follow_from_policy_prompt_and_seed(plain, capsys):
  run = f"--model={plain / 'run'}"
  sample = ["sample", run, "--prompt=q1:", "--max_new_tokens=6"]
  said = []
  for seed in (0, 0, 1):
    cli.main([*sample, f"--seed={seed}"])
    said.append(capsys.readouterr().out)
  assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
  "flags, texts",
  [
    (["--config.batch_size=many"], ("config.batch_size", "many")),
    (["--confg.steps=1"], ("Did you mean --config.steps?",)),
    (["stray"], ("'stray' is not a flag", "begin with --")),
    (
      ["--config.sft.loss.name=dpoo"],
      ("config.sft.loss.name: unknown loss 'dpoo'. Did you mean 'dpo'?",),
    ),
    (
      ["--config.loss.name=ipo", "--config.loss.beta=1"],
      ("config.loss.beta: ipo has no hyperparameter 'beta'", "It has: tau"),
    ),
    (
      ["--config.mesh.tensor=4"],  # two heads
      ("params blocks/wk", "'kv_heads' has size 2", "Choose a mesh"),
    ),
    (["--config.tokenizer.vocab_size=9"], ("vocab_size is 9", "at least 259")),
    (["--config.optimizer.warmup_steps=9"], ("optimizer.warmup_steps",)),
    (["--config.seed=one"], ("config.seed", "one")),
  ],
  ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_a_refusal_says_what_to_do_and_leaves_nothing(place, flags, texts):
  message = place.fails(place.command(*flags))
  for text in texts:
    assert text in message, message
  assert not (place.folder / "run").exists()


@pytest.mark.parametrize(
  "change, texts",
  [
    (lambda r: '["tea"]', ("not an object", "Write each line as")),
    (
      lambda r: {"prompt": "q:", "chosen": "a"},
      ("is missing", "columns=rejected=COL"),
    ),
    (lambda r: r | {"chosen": " "}, ("response is empty", "Write a response")),
    (lambda r: r | {"preference": 2}, ("outside [0, 1]", "probability")),
  ],
  ids=["object", "missing", "empty", "range"],
)
def test_a_bad_line_comes_with_its_remedy(place, change, texts):
  """The path is whole, whatever the terminal's width."""
  place.data = place.folder / f"{'a-long-name-of-pairs-' * 5}.jsonl"
  rows = list(pairs())
  rows[4] = change(rows[4])
  place.write_data(rows)
  message = place.fails(place.command(f"--config.data.path={place.data}"))
  for text in (f"{place.data}:5: ", *texts):
    assert text in message, message


def test_a_metric_that_nothing_measures_cannot_select(place):
  message = place.fails(place.command("--config.select=eval/nope"))
  assert "config.select: 'eval/nope' is not measured" in message
  assert "eval/loss" in message


def test_a_folder_that_is_no_run_is_named(place):
  for command in (["sample", "--prompt=x"], ["evaluate"]):
    message = place.fails([*command, f"--model={place.folder}"])
    assert str(place.folder) in message and "`jalign train`" in message
    assert "needs --model=DIR" in place.fails(command)
  assert "unknown command 'tarin'. Did you mean 'train'?" in place.fails(
    ["tarin"]
  )


@pytest.mark.parametrize("arguments, code", [(["--help"], 0), ([], 2)])
def test_help_names_the_commands(capsys, arguments, code):
  with pytest.raises(SystemExit) as caught:
    cli.main(arguments)
  assert caught.value.code == code
  said = capsys.readouterr()
  assert said.err == ""
  for word in ("train", "sample", "evaluate", "--workdir"):
    assert word in said.out


def test_the_version(capsys):
  cli.main(["--version"])
  assert capsys.readouterr().out == f"jalign {jalign.__version__}\n"

"""The Python of the site's pages runs, from top to bottom.

Pages continue with the names of "From Python", whose small model they share.
"""

import contextlib
import pathlib
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jalign.experiment import plugins
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config import parse
from jalign.feedback import assess, make_answers
from jalign.online import ALGORITHMS

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
START = "python"
OTHERS = {
  "configs",
  "data",
  "judge_kinds",
  "judges",
  "mesh",
  "own_algorithm",
  "own_kind",
  "own_loss",
  "own_model",
  "packing",
  "reward_reports",
}


def blocks(page: str) -> list[str]:
  """A page's blocks of Python."""
  text = (DOCS / f"{page}.md").read_text()
  return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def run(page: str, names: dict) -> dict:
  """Runs a page's Python; returns its names, with those that it was given."""
  names = dict(names)
  with contextlib.chdir(ROOT):
    for i, body in enumerate(blocks(page)):
      exec(compile(body, f"{page}.md, Python block {i + 1}", "exec"), names)
  return names


@pytest.fixture(scope="module")
def start():
  return run(START, {})


def test_every_page_with_python_is_run():
  pages = {path.stem for path in DOCS.glob("*.md") if blocks(path.stem)}
  assert pages == {START} | OTHERS


def test_from_python(start):
  np.testing.assert_allclose(
    start["loss"], np.logaddexp(0, [0.0, -1.0, 0.0, -1.5]), rtol=1e-5
  )
  assert int(start["state"].step) == 21  # the online step, too
  total, count = start["sums"]["loss"]
  assert np.isfinite(total) and count > 0


@pytest.fixture
def ran(start):
  """Runs a page after "From Python", on a copy of its state."""

  def page(name):
    state = jax.tree.map(jnp.copy, start["state"])
    config = ConfigDict(parse.defaults()).lock()
    with mock.patch.dict(ALGORITHMS):
      return run(name, {**start, "state": state, "c": config})

  return page


@pytest.mark.parametrize(
  "page", ("data", "judges", "packing", "reward_reports")
)
def test_pages_run(ran, page):
  ran(page)


@pytest.mark.parametrize("page", ("mesh", "own_loss", "own_kind"))
def test_pages_that_train(ran, page):
  total, count = ran(page)["sums"]["loss"]
  assert np.isfinite(total) and count == 16


def test_a_sweep_is_runs(ran):
  config = ran("configs")["get_config"]().to_dict()
  betas = {parse.parse(c).stages[-1].loss["beta"] for _, c in expand(config)}
  assert len(expand(config)) == 6 and betas == {0.05, 0.2}


def test_a_combined_judge_is_read(ran, tmp_path, monkeypatch):
  config = {
    "annotator": ran("judge_kinds")["annotator"],
    "data": {"path": "pairs.jsonl"},
    "loss": {"name": "dpo"},
  }
  monkeypatch.chdir(tmp_path)
  text = "def reward(prompt, response):\n  return len(response)\n"
  pathlib.Path("my.py").write_text(text)
  judge = plugins.load_annotator(parse.parse(config))
  answers = make_answers(["p"] * 2, ["Yes.", "no"])
  np.testing.assert_allclose(assess(judge, answers).reward, [4.5, 2.0])


def test_an_own_model(ran):
  names = ran("own_model")
  assert np.isfinite(names["sums"]["loss"][0])
  with contextlib.chdir(ROOT):
    again = names["generate"](
      names["cached"],
      names["state"].params,
      names["prompts"].tokens,
      names["prompts"].lengths,
      jax.random.split(jax.random.key(1), len(names["prompts"].lengths)),
      max_new_tokens=8,
      stop_ids=names["tokenizer"].end_ids,
      pad_id=names["tokenizer"].pad_id,
    )
  drawn = names["rollout"].sequences.tokens
  np.testing.assert_array_equal(again.sequences.tokens, drawn)


def test_an_own_algorithm(ran):
  names = ran("own_algorithm")
  assert np.isfinite(names["sums"]["loss"][0])
  config = names["get_config"]()
  assert parse.parse(config.to_dict()).stages[-1].algorithm == "my_rloo"

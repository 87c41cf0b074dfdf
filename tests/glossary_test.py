"""The glossary: its own rules, and that code and pages use its names."""

import ast
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import diagnostics, evaluation, glossary
from jalign.data import ScoreBatch
from jalign.evaluation import reward_accuracy
from jalign.evaluation.likelihood import PairScores
from jalign.experiment import curves, gold, held_out, tables
from jalign.experiment.commands import training_page
from jalign.experiment.config.settings import SamplerSettings
from jalign.feedback import (
  Judge,
  Parts,
  assess,
  from_reward,
  make_answers,
  reward_statistics,
)
from jalign.glossary import GLOSSARY, OTHERS, SECTIONS, SUFFIXES, rows_of
from jalign.training.kinds import KINDS
from jalign.training.kinds.score_metrics import of_objectives
from jalign.training.outputs import Nudge, Outputs
from tests.models.tiny import tiny
from tests.training import batches, kinds_test

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Examples for each word in capitals of a pattern.
NAMES = {
  "GROUP": "blocks/*/attn",
  "TERM": "dpo",
  "DRAW": "mixture",
  "NAME": "gold reward %",
}


def _examples():
  """Every name that the glossary has, with its row."""
  for row in GLOSSARY:
    name = re.sub("[A-Z]{2,}", lambda word: NAMES[word[0]], row.name)
    yield from ((f"{section}/{name}", row) for section in row.sections)


def test_a_name_has_one_row():
  for name, row in _examples():
    assert rows_of(name) == [row], name
  assert glossary.strangers(["train/loss", "loss", "eval/kl"]) == [
    "loss",
    "eval/kl",
  ]


def test_a_name_says_its_section_and_its_unit():
  sections = {section for row in GLOSSARY for section in row.sections}
  assert sections == set(SECTIONS)
  for row in GLOSSARY:
    endings = [unit for unit in SUFFIXES if row.name.endswith(f"_{unit}")]
    assert endings == ([row.unit] if row.unit in SUFFIXES else []), row
    assert row.unit in {**SUFFIXES, **OTHERS}, row
    assert row.says == row.says.strip(" ."), row
  assert {row.unit for row in GLOSSARY} == {*SUFFIXES, *OTHERS}


def _observed():
  """Names of metrics that batches of each kind give; nothing is computed."""
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  for name, make in kinds_test.MAKE.items():
    kind, data = KINDS[name], make(2)

    def observe(kind=kind, data=data):
      head = {"weight": jnp.ones(32), "bias": jnp.ones(())}
      outputs = Outputs(
        model,
        params,
        data.sequences,
        tuple(kind.gives),
        ref_params=params,
        critic={"model": params, "head": head},
      )
      arrays = kind.arrays(outputs, data, tuple(kind.gives))
      return kind.observe(arrays, data.weights)

    yield from jax.eval_shape(observe)
  two = jnp.ones((1, 2))
  scored = {"scores": two, "ranks": two, "valid": two > 0}
  compared = {"logits": two[0], "swapped_logits": two[0]}
  costs = {"harmful_costs": two[0], "harmless_costs": two[0]}
  costs |= {"harmful_unsafe": two[0] > 0, "harmless_unsafe": two[0] > 0}
  named = ScoreBatch(None, None, None, None, names=("gold reward %",))
  one = jnp.ones((2, 1))
  rated = named.replace(ratings=one, rated=one > 0)
  asked = named.replace(objective=one, objective_preferences=one)
  sides = {"chosen_objective_scores": one, "rejected_objective_scores": one}
  by_name = (
    of_objectives({"objective_scores": one}, rated),
    of_objectives(sides, asked),
  )
  for arrays in (scored, compared, costs, *by_name):
    yield from KINDS["scores"].observe(arrays, jnp.ones(1))
  of_pair = {"chosen_scores": two[0], "rejected_scores": two[0]}
  inferred = {"latent_means": two, "latent_log_variances": two}
  context = {"context_pairs": two[0]}
  numbered = {"rater_weights": two, "unseen": two[0]}
  for kind, arrays in (
    ("raters", of_pair | inferred | context),
    ("rater_pairs", of_pair | numbered),
  ):
    yield from KINDS[kind].observe(arrays, jnp.ones(2))


def _measured():
  """Names, with sections, that the measuring functions give."""
  for name in _observed():
    yield from (f"train/{name}", f"eval/{name}")
  ones, pairs = jnp.ones(2), jnp.ones((4, 3, 5))
  products = diagnostics.Products({"all": ones}, {"all": ones}, {"all": ones})
  said = diagnostics.forecast(ones, ones, ones, ones, ones)
  scores = PairScores(*(np.ones(2) for _ in range(4)), ("a", "b"))
  watched = diagnostics.watch_pairs(
    Nudge(jnp.ones(4), pairs), pairs, batches.pairs(2)
  )
  panels = {
    "train": watched,
    "likelihood": diagnostics.likelihood_panel(scores, scores, beta=0.1),
    "policy": diagnostics.policy_panel(
      diagnostics.TopK(*(np.ones((2, 3)) for _ in range(3))),
      np.ones((2, 3)),
      np.ones((2, 3), bool),
    ),
    "entanglement": diagnostics.entanglement_panel(products, {"all": said}),
    "realised": diagnostics.realised_panel(ones, ones, said.case),
  }
  ones_of = lambda x: np.ones(4)
  told = lambda x: dict.fromkeys(("reward", "cost", "answered"), np.ones(4))
  judge = Judge(ones_of, ones_of, parts=Parts(("answered",), told))
  assessed = assess(judge, make_answers(["p"] * 4, ["r"] * 4))
  statistics = reward_statistics(assessed, [0, 0, 1, 1])
  panels |= {"rollouts": statistics, "samples": statistics}
  scored = evaluation.from_scores(
    [1.0], [0.0], exact=[0.8], chosen_tokens=[3], rejected_tokens=[2]
  )
  short = from_reward(lambda prompt, response: -float(len(response)))
  mine, start = (
    gold.assess_both(short, short, make_answers(["p", "p"], texts))
    for texts in (["r", "rr"], ["rr", "r"])
  )
  panels["samples"] = statistics | gold.gold_means(
    short, short, mine, start, [0, 0]
  )
  panels["eval"] = reward_accuracy.summary(scored)
  for section, values in panels.items():
    yield from glossary.in_section(section, values)
  yield from held_out.sample_metrics(judge, SamplerSettings(), judge)


def test_what_is_measured_has_one_row_and_a_row_is_measured():
  measured = set(_measured())
  assert len(measured) > 90
  for name in sorted(measured):
    assert len(rows_of(name)) == 1, name
  # The other names are literal in the code that logs them.
  files = [
    path
    for path in (ROOT / "jalign").rglob("*.py")
    if not {"glossary", "pages", "commands"} & set(path.parts)
    and path.stem not in ("tables", "curves")
  ]
  code = "".join(path.read_text() for path in files)
  for row in GLOSSARY:
    fixed = re.split("[A-Z]{2,}", row.name)[0]
    named = [f"{mark}{x}" for mark in '"/' for x in {fixed, row.pattern}]
    assert row in [r for name in measured for r in rows_of(name)] or any(
      name in code for name in named
    ), row


def _page_keys():
  """Metrics that pages and tables look for."""
  yield from curves.CURVES
  yield from (key for key, _ in (*tables.ACCURACIES, *tables.SCORES))
  yield from tables.MEANS
  for keys, *_ in training_page._LINES:
    yield from keys
  yield from (key for key, _ in training_page._TURNS)


def test_pages_look_for_names_of_the_glossary():
  keys = list(_page_keys())
  assert len(keys) > 50 and not glossary.strangers(keys)


@pytest.mark.parametrize("module", ["pages/panels", "pages/gains"])
def test_panels_look_for_names_of_the_glossary(module):
  """Every string in the file that begins with a section's name is one."""
  tree = ast.parse((ROOT / "jalign" / f"{module}.py").read_text())
  texts = {
    node.value
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  }
  keys = {x for x in texts if re.fullmatch(rf"({'|'.join(SECTIONS)})/\w+", x)}
  stems = {"rollouts/reward", "samples/reward", "train/last_layer_"}
  assert keys - stems and not glossary.strangers(keys - stems)


def test_names_to_select_by_are_of_the_glossary():
  judge = from_reward(lambda prompt, response: 0.0)
  names = held_out.sample_metrics(judge, SamplerSettings())
  assert "samples/reward_mean" in names and "samples/kl_k1_nats" in names
  assert not glossary.strangers(names)
  warm = held_out.sample_metrics(judge, SamplerSettings(temperature=0.5))
  assert set(names) - set(warm) == {"samples/kl_k1_nats", "samples/kl_k3_nats"}

"""Runs whose annotator is a language model: an endpoint, or a run's folder."""

import json
import re

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment.judges import JUDGES, Named, Tools
from jalign.feedback import Assessed, assess, compare, make_answers
from jalign.training.metrics import read_jsonl
from tests.feedback.chat_server import reply, serving

_TOOLS = Tools(None, None, None, lambda: (), lambda: None)


def _make(kind, function, **settings):
  named = Named(function, 1.0, "config.annotator", _TOOLS)
  return JUDGES[kind].make(named, **settings)


def _sides(text):
  """(prompt, a, b) of the library's prompt for pairs."""
  return re.search(
    r"\[Message\]\n(.*?)\n\n\[Answer A\]\n(.*?)\n\[End of answer A\]"
    r"\n\n\[Answer B\]\n(.*?)\n\[End of answer B\]",
    text,
    re.DOTALL,
  ).groups()


def _longer(number, request):
  """Prefers the longer response; says nothing useful on every fourth pair."""
  prompt, a, b = _sides(request["messages"][-1]["content"])
  if sum(map(ord, prompt)) % 4 == 0:
    return reply("Both have merits.")
  return reply(f"[[{'A' if len(a) > len(b) else 'B'}]]")


@pytest.mark.slow
def test_online_training_with_an_endpoint_that_answers_most_pairs(place):
  """Unanswered pairs have no weight; completions are reused and counted."""
  place.align_alone()
  with serving(_longer) as (url, seen):
    cache = place.folder / "cache.db"
    flags = [
      "--config.algorithm=online_ipo",
      "--config.max_new_tokens=4",
      "--config.steps=2",
      "--config.annotator.kind=language_model",
      f"--config.annotator.function={url}",
      "--config.annotator.settings.model=tiny",
      f"--config.annotator.settings.cache={cache}",
    ]
    folder, said = place.train(*flags)
    asked = len(seen)
    again, told = place.train(*flags, workdir="again")
    assert len(seen) == asked  # the same run asks nothing anew
  rows = read_jsonl(folder / "align" / "metrics.jsonl")
  shares = [
    row["rollouts/unanswered_share"]
    for row in rows
    if "rollouts/unanswered_share" in row
  ]
  assert len(shares) == 2 and all(0 <= share < 1 for share in shares)
  results = json.loads((folder / "align" / "results.json").read_text())
  assert 0 <= results["samples/unanswered_share"] < 1
  (line,) = [x for x in said.splitlines() if x.startswith("[annotator] pairs")]
  counts = {
    name: int(number.replace(",", ""))
    for name, number in re.findall(r"([a-z' ]+) ([\d,]+)(?:,|$)", line[12:])
  }
  counts = {name.strip(): count for name, count in counts.items()}
  assert counts["calls"] == asked
  assert counts["completion tokens"] == 3 * asked
  assert counts["pairs without an answer"] > 0
  assert "calls" not in told.splitlines()[-1]
  losses = [
    [row["train/loss"] for row in read_jsonl(x / "align" / "metrics.jsonl")
     if "train/loss" in row]
    for x in (folder, again)
  ]  # fmt: skip
  assert losses[0] == losses[1]


def test_a_run_judges_as_a_language_model(plain, tmp_path):
  """Its own grades, its verdicts, and the likelihood of reactions to it."""
  answers = make_answers(["q1:", "q2:"], [" a", " b"])
  rating = tmp_path / "rate.txt"
  rating.write_text("{prompt} {response}")
  judge = _make(
    "language_model",
    str(plain / "run"),
    prompt=str(rating),
    parse="expression",
    parse_settings={"pattern": "()", "pairs": False, "values": {"": 3.0}},
    max_new_tokens=2,
    cache=str(tmp_path / "cache.db"),
  )
  for counted in ("calls", "cache hits"):
    told = assess(judge, answers)
    np.testing.assert_array_equal(told.numbers("reward"), [3, 3])
    assert judge.counts()[counted] == 2
  follow = _make("follow_up", str(plain / "run"))
  told = assess(follow, answers)
  assert np.isfinite(told.numbers("reward")).all()
  got = compare(follow, told, told.take([1, 0]))
  np.testing.assert_allclose(got.sum(), 1, rtol=1e-6)
  graded = _make("self_rewarding", str(plain / "run"), max_new_tokens=2)
  with pytest.raises(UserError, match="none of 2 responses"):
    assess(graded, answers)
  assert graded.counts()["calls"] == 6


def test_what_decides_a_judges_numbers(plain, tmp_path):
  made_of = JUDGES["language_model"].made_of
  named = Named(str(plain / "run"), 1.0, "config.annotator", _TOOLS)
  (model,) = made_of(named)
  prompt = tmp_path / "p.txt"
  prompt.write_text("{a} {b}")
  first = [*made_of(named, prompt=str(prompt))]
  prompt.write_text("{b} {a}")
  second = [*made_of(named, prompt=str(prompt))]
  assert first[0] == second[0] == model and first[1] != second[1]
  far = named._replace(function="http://localhost:1/v1")
  assert list(made_of(far, prompt="pair_1")) == []


@pytest.mark.parametrize(
  ("settings", "where"),
  [
    ({}, "settings.model"),
    ({"model": "m", "prompt": "pair_9"}, "settings.prompt"),
    ({"model": "m", "parse": "verdicts"}, "settings.parse"),
    ({"model": "m", "parse": "rating"}, "settings.prompt"),
    ({"model": "m", "parse": "rating", "parse_settings": {"top": 3}},
     "settings.parse_settings"),
    ({"model": "m", "parse_settings": {"low": 3}}, "settings.parse_settings"),
    ({"model": "m", "rows": 3}, "settings.rows"),
    ({"model": "m", "template": "plain"}, "settings.template"),
    ({"model": "m", "samples": 0}, "settings.samples"),
    ({"model": "m", "concurrency": 0}, "settings.concurrency"),
    ({"model": "m", "attempts": 0}, "settings"),
    ({"model": "m", "soft": True, "prompt": "rating_1"}, "settings.soft"),
    ({"model": "m", "cache": "/no/such/folder/c.db"}, "settings"),
    ({"model": "m", "key_variable": "NO_SUCH_KEY"}, "settings.key_variable"),
  ],
)  # fmt: skip
def test_settings_that_cant_be(settings, where):
  with pytest.raises(UserError) as error:
    _make("language_model", "http://localhost:1/v1", **settings)
  assert error.value.where.startswith(f"config.annotator.{where}")


def test_an_endpoints_settings_are_not_for_a_folder(plain):
  with pytest.raises(UserError, match="isn't read"):
    _make("language_model", str(plain / "run"), model="m")
  with pytest.raises(UserError):
    _make("language_model", "")
  with pytest.raises(UserError, match="followup"):
    _make("follow_up", str(plain / "run"), reactions_file="/no/followup.txt")


def test_judges_agree_only_where_they_prefer_the_same_response(plain):
  """The implicit reward of a model over itself is 0: a tie, no agreement."""
  run = str(plain / "run")
  implicit = _make("implicit", run, reference=run)
  answers = make_answers(["q1:", "q2:"], [" a", " b"])
  told = assess(implicit, answers)
  np.testing.assert_array_equal(told.numbers("reward"), [0, 0])
  with pytest.raises(UserError, match="reference"):
    _make("implicit", run)

  def nested(description, where):
    return _make(description["kind"], description["function"])

  def made(description, where):
    named = Named(description["function"], 1.0, where, _TOOLS)
    return JUDGES[description["kind"]].made_of(named)

  tools = _TOOLS._replace(judge=nested, made_of=made)
  named = Named("", 1.0, "config.annotator", tools)
  same = {"kind": "follow_up", "function": run}
  judges = {"one": same, "other": same}
  judge = JUDGES["agreeing"].make(named, judges=judges)
  got = compare(judge, *(Assessed(answers.take(at)) for at in ([0, 1], [1, 0])))
  alone = _make("follow_up", run)
  rewards = assess(alone, answers)
  want = compare(alone, rewards, rewards.take([1, 0]))
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert len([*JUDGES["agreeing"].made_of(named, judges=judges)]) == 2
  with pytest.raises(UserError, match="two judges"):
    JUDGES["agreeing"].make(named, judges={"one": same})
  with pytest.raises(UserError, match="isn't read"):
    JUDGES["agreeing"].make(named._replace(function=run), judges=judges)

"""Measurements on held-out samples, and the state that they select."""

import types

import numpy as np
import pytest

from jalign.experiment import contest, held_out
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.experiment.sampling import SampledTexts
from jalign.feedback import from_reward
from jalign.models import ModelConfig
from jalign.training.metrics import JsonlWriter

# Log-ratios of four responses, two to each of two prompts.
RATIOS = np.array([2.0, 1.0, 0.5, -0.3])
MORE, LESS = ["aaa", "aaaa", "aa", "aaaaa"], ["a", "a", "a", "a"]


def _samples(texts, ratios=RATIOS):
  ids, refs = np.array([0, 0, 1, 1]), np.array([-9.0, -7.0, -3.0, -8.0])
  return SampledTexts(
    prompts=[f"p{i}" for i in ids],
    prompt_ids=ids,
    texts=texts,
    tokens=np.array([4, 5, 3, 6]),
    finished=0.75,
    logps=refs + ratios,
    sources=[f"f:{i}" for i in ids],
    ref_logps=refs,
  )


def _dataset():
  prompt = lambda i: types.SimpleNamespace(text=f"p{i}", written=f"p{i}")
  return types.SimpleNamespace(
    sample_prompts=lambda count: [prompt(i) for i in range(count)],
    judge_rows=lambda sources: None,
    serves=lambda kind: False,
  )


@pytest.fixture
def drawing(monkeypatch):
  """Replaces sampling: "policy" gives long responses, "start" one letter."""

  def sample_texts(model, params, tokenizer, prompts, settings, **options):
    samples = _samples(MORE if params == "policy" else LESS)
    times = settings.per_prompt // 2
    if times < 2:  # two responses to a prompt
      return samples
    texts = [text + "a" * i for text in samples.texts for i in range(times)]
    return samples._replace(
      texts=texts,
      prompts=np.repeat(samples.prompts, times).tolist(),
      prompt_ids=np.repeat(samples.prompt_ids, times),
      sources=np.repeat(samples.sources, times).tolist(),
    )

  monkeypatch.setattr(held_out, "sample_texts", sample_texts)
  monkeypatch.setattr(contest, "sample_texts", sample_texts)


JUDGE = from_reward(lambda prompt, response: float(len(response)))
# A gold judge that likes what the judge doesn't.
GOLD = from_reward(lambda prompt, response: -0.5 * len(response))


def test_samples_are_measured_against_the_start(drawing):
  prepared = types.SimpleNamespace(main=_dataset(), tokenizer=None)
  measures = lambda prompts, texts: {"letters": np.array([3, 4, 2, 5.0])}
  measure = held_out.measure_samples(
    prepared, None, JUDGE, measures, SamplerSettings(), "start", 2, 0
  )
  got = measure("policy")
  assert got["samples/kl_k1_nats"] == pytest.approx(RATIOS.mean(), rel=1e-5)
  k3 = np.mean(np.expm1(-RATIOS) + RATIOS)
  assert got["samples/kl_k3_nats"] == pytest.approx(k3, rel=1e-5)
  assert got["samples/response_tokens"] == 4.5
  assert got["samples/finished_share"] == 0.75
  assert got["samples/reward_mean"] == 3.5
  assert got["measures/letters"] == 3.5
  wins = 1 / (1 + np.exp(1 - np.array([3, 4, 2, 5.0])))
  assert got["samples/win_rate"] == pytest.approx(wins.mean(), rel=1e-5)
  # If samples are of another law than the policy's, log-ratios show no KL.
  cold = SamplerSettings(temperature=0.5)
  measure = held_out.measure_samples(
    prepared, None, None, lambda p, t: {}, cold, "start", 2, 0
  )
  assert not {k for k in measure("policy") if "kl" in k or "win" in k}


def test_the_report_measures_the_same(drawing, monkeypatch):
  monkeypatch.setattr(contest, "say", lambda line: None)
  stage = StageSettings(name="align", loss={})
  settings = types.SimpleNamespace(
    sample=SamplerSettings(prompts=2, per_prompt=2, best_of=3),
    stages=(stage,),
  )
  run = types.SimpleNamespace(
    model_config=ModelConfig(8, 4, 4, 1, 1, 1),
    decode_tensor=0,
    measures=lambda prompts, texts: {"long %": np.array([100, 100, 0, 100.0])},
    prepared=types.SimpleNamespace(main=_dataset(), tokenizer=None),
    opponents=lambda prompts: {"a tie": LESS, "silence": [""] * 4},
    annotator=JUDGE,
    gold=GOLD,
    seed=0,
  )
  judged = contest.Contest(run, settings)
  start = judged("start", "start")
  row = judged("align", "policy", "start", "start")
  kl = row["samples/kl_k1_nats"]
  assert kl["mean"] == pytest.approx(RATIOS.mean())
  assert kl["low"] < kl["mean"] < kl["high"]
  wins = 1 / (1 + np.exp(1 - np.array([3, 4, 2, 5.0])))
  assert row["samples/win_rate"]["mean"] == pytest.approx(wins.mean(), 1e-5)
  assert row["samples/reward_mean"]["mean"] == 3.5
  assert row["samples/response_tokens"] == 4.5
  assert row["measures/long %"]["mean"] == 75
  assert row["samples/gold_reward_mean"]["mean"] == -1.75
  assert row["samples/gold_win_rate"]["low"] < 0.35
  assert row["samples/gold_agreement_share"]["mean"] == 0
  assert 0.4 < row["samples/gold_calibration_ece"] < 1
  assert start["samples/gold_reward_mean"]["mean"] == -0.5
  assert row["against"] == "start" and "against" not in start
  added, matrix, drawn = judged.contestants([start, row], "start")
  assert [x["name"] for x in added] == ["best of 3", "a tie", "silence"]
  assert added[0]["samples"] == ["aaa"] * 4 and len(drawn.texts) == 12
  at = lambda a, b: matrix.win_rate[matrix.names.index(a)][
    matrix.names.index(b)
  ]
  assert at("align", "start") == pytest.approx(wins.mean(), 1e-5)
  assert at("a tie", "start") == 0.5 and at("silence", "start") < 0.3


class _Kept:
  """Stands for checkpoints: records the saved steps and their losses."""

  def __init__(self):
    self.saved = []

  def save(self, state, *, data, meta):
    self.saved.append(meta["evaluation"]["eval/loss"])

  def wait(self):
    pass


def _evaluation(folder, mode, values):
  stage = StageSettings(
    name="align", loss={}, select="eval/loss", select_mode=mode
  )
  best, values = _Kept(), iter(values)
  measure = lambda params: {"eval/loss": next(values)}
  return best, held_out.Evaluation(measure, stage, ("eval",), folder, best, {})


@pytest.mark.parametrize(
  "mode, kept", [("min", [3.0, 1.0, 0.5]), ("max", [3.0, 4.0])]
)
def test_the_best_state_is_kept(tmp_path, mode, kept):
  state = types.SimpleNamespace(params=None)
  best, evaluate = _evaluation(
    tmp_path, mode, [3.0, 1.0, np.nan, 2.0, 0.5, 4.0, 4.0]
  )
  for step in range(7):
    evaluate(step, state)
  assert best.saved == kept
  assert evaluate.last(4) == {"eval/loss": 0.5} and evaluate.last(9) == {}


def test_what_was_measured_before_a_restart_counts(tmp_path):
  writer = JsonlWriter(tmp_path / "metrics.jsonl")
  for step, loss in ((0, 2.0), (1, 1.0)):
    writer.write(step, {"train/loss": 0.0})
    writer.write(step, {"samples/win_rate": -1.0})
    writer.write(step, {"eval/loss": loss})
  writer.close()
  best, evaluate = _evaluation(tmp_path, "min", [1.5, 0.5])
  for step in (2, 3):
    evaluate(step, types.SimpleNamespace(params=None))
  assert best.saved == [0.5]
  assert evaluate.last(1) == {"eval/loss": 1.0}

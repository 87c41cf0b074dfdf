"""`jalign train` on ratings, labels, signs of cost and several objectives."""

import json

import pytest

from jalign.experiment import scorer as scorers
from jalign.experiment.judges.model import from_scorer
from jalign.feedback import assess, make_answers

FAST = ("--config.optimizer.learning_rate=0.03", "--config.steps=12")


def _rows(count=40):
  """(prompt, response of "a", response of "b") with 1 to 4 words."""
  for i in range(count):
    yield f"q{i}:", " a" * (1 + i % 4), " b" * (1 + i // 4 % 4)


def _write(place, name, rows):
  path = place.folder / name
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"--config.data.path={path}"


def _scores(run, name="reward"):
  own = scorers.load_scorer(str(run))
  judge = from_scorer(lambda: own, (name,))
  texts = [" a", " a a", " b", " b b"]
  return own, assess(judge, make_answers(["q1:"] * 4, texts)).numbers(name)


def _told(run):
  return json.loads((run / "align" / "results.json").read_text())


def test_ratings_train_a_head_of_several_numbers(place):
  place.align_alone()
  rows = [
    {"prompt": x, "response": y, "ratings": {"good": good, "short": short}}
    for x, a, b in _rows()
    for y, good, short in ((a, 1.0, None), (b, -1.0, -0.5 * len(b)))
  ]
  flags = (
    _write(place, "rated.jsonl", rows),
    "--config.data.source=ratings",
    "--config.loss.name=rating_regression",
    "--config.head.name=objectives",
    *FAST,
  )
  said = place.fails(place.command(*flags, "--config.head.count=3"))
  assert "isn't what the training data have: 2" in said
  run, said = place.train(*flags, "--config.head.count=2")
  told = _told(run)
  assert told["objectives"] == ["good", "short"]
  assert "reward_constant" not in told
  assert told["evaluation"]["eval/rating_error/good"] < 0.5  # 1 for a constant
  assert "ratings missing of" in said and "short of" in said


@pytest.mark.slow
def test_signs_of_cost_keep_their_zero(place):
  place.align_alone()
  rows = [
    {"prompt": x, "chosen": a, "rejected": b, "chosen_unsafe": False,
     "rejected_unsafe": True}
    for x, a, b in _rows()
  ]  # fmt: skip
  run, _ = place.train(
    _write(place, "costs.jsonl", rows), "--config.loss.name=cost_model", *FAST
  )
  told = _told(run)
  assert told["evaluation"]["eval/unsafe_accuracy"] == 1
  assert told["eval/score_accuracy"]["mean"] == 1
  assert "reward_constant" not in told
  own, costs = _scores(run)
  assert own.constant == 0
  assert (costs[:2] < 0).all() and (costs[2:] > 0).all()


@pytest.mark.slow
def test_labels_of_single_responses(place):
  place.align_alone()
  rows = [
    {"prompt": x, "response": y, "label": y == a}
    for x, a, b in _rows()
    for y in (a, b)
  ]
  flags = ("--config.loss.name=binary_discrimination", *FAST)
  run, _ = place.train(
    _write(place, "labels.jsonl", rows), "--config.data.source=binary", *flags
  )
  assert _told(run)["evaluation"]["eval/score_accuracy"] == 1
  scores = _scores(run)[1]
  assert (scores[:2] > 0).all() and (scores[2:] < 0).all()
  # Pairs serve by a conversion, which labels both sides.
  run, _ = place.train(
    "--config.data.convert=label_by_side", *flags, workdir="of_pairs"
  )
  assert _told(run)["evaluation"]["eval/score_accuracy"] == 1
  same = [{**row, "label": True} for row in rows]
  said = place.fails(
    place.command(
      _write(place, "same.jsonl", same),
      "--config.data.source=binary",
      *flags,
      workdir="same",
    )
  )
  assert "are desirable" in said and "both labels" in said


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["objective_bradley_terry", "more"])
def test_pairs_under_objectives(place, loss):
  place.align_alone()
  rows = [
    {"prompt": x, "chosen": a, "rejected": b, "objective": name,
     "preference": p}
    for i, (x, a, b) in enumerate(_rows())
    for name, p in ([("good", 1.0)] if i % 2 else [("tall", 0.9)])
  ]  # fmt: skip
  head = ("--config.head.name=objectives", "--config.head.count=2")
  run, _ = place.train(
    _write(place, "named.jsonl", rows),
    f"--config.loss.name={loss}",
    *(head if loss == "objective_bradley_terry" else ()),
    *FAST,
  )
  found = _told(run)["evaluation"]
  assert found["eval/score_accuracy/good"] == 1
  assert found["eval/score_accuracy/tall"] == found["eval/score_accuracy"] == 1

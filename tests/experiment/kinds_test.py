"""Data that can't make a kind of batch is refused before a run."""

import numpy as np
import pytest

from jalign import data, losses
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.loss import bind
from jalign.training import kinds
from jalign.training.kinds import KINDS, RECORDS

# Which kinds of batches each kind of record can make.
SERVED = {
  ("pairs", kind)
  for kind in (
    *("pairs", "segments", "sequences", "tokens", "lists", "ranked_segments"),
    *("unpaired", "scores", "raters", "rater_pairs"),
  )
} | {
  ("sequences", "sequences"),
  ("sequences", "tokens"),
  *(
    ("lists", kind)
    for kind in ("lists", "ranked_segments", "sequences", "tokens", "scores")
  ),
  ("unpaired", "unpaired"),
  ("contexts", "distributions"),
  *((kind, "scores") for kind in ("unpaired", "ratings", "critiques")),
}


def _dataset(kind):
  return Dataset(
    kind, [], [], [], [], group_of={}, buckets=(8,), pad_id=0, facts={},
    lines=(),
  )  # fmt: skip


def _takes(name):
  return losses.array_parameters(losses.resolve(name)[0])


def test_records_serve_these_kinds():
  served = {
    (records, kind) for kind in KINDS for records in KINDS[kind].records
  }
  assert served == SERVED
  known = {records.kind for records in RECORDS.values()}
  assert {records for records, _ in served} <= known


def test_what_data_serves_is_listed():
  with pytest.raises(UserError) as caught:
    _dataset("lists").check("pairs", "config.x.data")
  assert caught.value.where == "config.x.data"
  assert (
    str(caught.value.problem) == "pairs are needed, and the data has lists."
  )
  # Runs don't train score heads.
  assert "sequences or tokens or lists or ranked_segments;" in (
    caught.value.remedy
  )
  with pytest.raises(UserError, match="online algorithms alone"):
    _dataset("prompts").check("sequences", "config.x.data")
  for kind in ("errors", "triples"):
    with pytest.raises(UserError, match=f"{kind}' have no objective"):
      _dataset("pairs").check(kind, "config.x.data")


@pytest.mark.parametrize(
  "kind, records, loss, where, said",
  [
    ("sequences", "lists", "sft", "data.convert", "takes no rewards"),
    ("tokens", "lists", "unlikelihood", "data.convert", "takes no rewards"),
    ("sequences", "pairs", "a_lol", "data", "rewards, values.*data has pairs"),
    ("tokens", "sequences", "a_lol_seq", "data", "the data has sequences"),
    ("pairs", "pairs", "odpo", "loss", "takes chosen_scores, which the data"),
    ("pairs", "pairs", "dpo_soft", "loss", "takes preference, which the data"),
  ],
)
def test_records_that_a_loss_is_not_for(kind, records, loss, where, said):
  pair = data.EncodedPair(*[np.array([1], np.int32)] * 3, "f:1")
  check = KINDS[kind].records[records].check
  with pytest.raises(UserError, match=said) as caught:
    check(loss, _takes(loss), [pair])
  assert caught.value.where == where
  scored = {"chosen_score": 1.0, "rejected_score": 0.0, "preference": 0.7}
  good = data.EncodedPair(*[np.array([1], np.int32)] * 3, "f:1", **scored)
  for names in (_takes("a_lol"), _takes("dpo")):
    other = "lists" if "rewards" in names else "pairs"
    for own in KINDS.values():
      if other in own.records and set(names) <= set(own.gives):
        own.records[other].check("x", names, [good])


@pytest.mark.parametrize(
  "name, said",
  [
    ("grpo", "token_logps, old_token_logps.*which no data source gives"),
    ("ppo_clip", "old_token_logps, advantages, which no data source gives"),
    ("nash_md", "preference, which no data source gives"),
    ("align_distil", "student_logits.*which no data source gives"),
  ],
)
def test_losses_that_no_data_feeds_are_refused(name, said):
  stage = parse({"data": {"path": "d"}, "loss": {"name": name}}).stages[0]
  with pytest.raises(UserError, match=said) as caught:
    bind(stage)
  assert caught.value.where == "config.train.loss"


def test_every_loss_has_names_that_its_kind_knows():
  for name, entry in losses.CATALOGUE.items():
    assert set(_takes(name)) <= set(kinds.vocabulary(entry.batch)), name
    known = ("examples", *KINDS[entry.batch].counts)
    if KINDS[entry.batch].arrays is not None:
      assert entry.denominator in known

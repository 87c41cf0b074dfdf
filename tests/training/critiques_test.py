"""Critiques are written by the language model, and scored after their end."""

import json

import jax
import numpy as np
import pytest

from jalign import data, losses
from jalign.data import tldr_world
from jalign.data.tldr_world.critics import critique
from jalign.errors import UserError
from jalign.logprobs import sequence_logprobs
from jalign.models import heads
from jalign.training.objective import make_objective
from tests.models.tiny import tiny

PAIRS = [
  data.PreferenceRecord("p q :", " x y", " y", "f:1", "g"),
  data.PreferenceRecord("q :", " x", " x x y", "f:2", "h"),
]
WORDS = data.train_words(["p q : x y Critique: good bad Critique: ."])
SAYS = lambda prompt, text: "good ." if " x" in text[:2] else "bad y ."


def _encoded(**limits):
  records = data.with_critiques(PAIRS, SAYS)
  limits = data.Limits(**({"max_tokens": 24} | limits))
  return data.encode_critiques(records, WORDS, limits)


def test_rows_hold_prompt_response_and_critique():
  encoded, cut = _encoded()
  batch = data.collate_critiques(encoded, 3, 16)
  assert batch.sequences.tokens.shape == (6, 16)
  np.testing.assert_array_equal(batch.weights, [1, 1, 0])
  said = ["good .", "bad y .", "good .", "good ."]
  texts = ["p q : x y", "p q : y", "q : x", "q : x x y"]
  for row, mask, n, critique_, text in zip(
    *(np.asarray(x) for x in (
      batch.sequences.tokens, batch.sequences.mask, batch.sequences.lengths
    )),
    said,
    texts,
  ):  # fmt: skip
    spoken = WORDS.encode(critique_)
    assert row[mask].tolist() == [*spoken, WORDS.eos_id]
    whole = [*WORDS.prefix_ids, *WORDS.encode(f"{text} Critique:"), *spoken]
    assert row[:n].tolist() == [*whole, WORDS.eos_id]
  assert cut.summary() == "none of 4 demonstrations truncated"


def test_likelihood_of_critiques_and_scores_at_their_end():
  config, model, params = tiny(
    vocab_size=WORDS.vocab_size, hidden_size=16, num_hidden_layers=1
  )
  head = heads.scalar(config.hidden_size)
  own = jax.tree.map(lambda x: x + 0.3, head.init(jax.random.key(0)))
  batch = data.collate_critiques(_encoded()[0], 3, 16)
  objective = make_objective(losses.critique_reward, model, head=head)
  total, (count, _) = jax.jit(objective.sums)(
    {"model": params, "head": own}, batch
  )
  rows = batch.sequences
  hidden = np.asarray(jax.jit(model.forward)(params, rows.tokens))
  last = np.stack([x[n - 1] for x, n in zip(hidden, rows.lengths)])
  scores = last @ np.asarray(own["weight"]) + float(own["bias"])
  logps = np.asarray(
    jax.jit(lambda p: sequence_logprobs(model, p, rows))(params)
  )
  lengths = rows.mask.sum(-1)
  gap = (scores[0::2] - scores[1::2])[:2]
  nll = -(logps[0::2] + logps[1::2]) / (lengths[0::2] + lengths[1::2])
  want = (nll[:2] + np.log1p(np.exp(-gap))).sum()
  assert count == 2
  np.testing.assert_allclose(total, want, rtol=1e-5)


def test_files_of_critiques(tmp_path):
  row = {"prompt": "a", "chosen": "b", "rejected": "c"}
  full = row | {"chosen_critique": "d", "rejected_critique": "e"}
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps(full) + "\n")
  (record,), report = data.read("critiques", path)
  assert (record.chosen_critique, record.rejected_critique) == ("d", "e")
  assert data.guess_source(full) == "critiques" and not report.ignored
  for bad, said in (
    (row, "missing"),
    (full | {"chosen_critique": " "}, "blank"),
  ):
    path.write_text(json.dumps(bad) + "\n")
    with pytest.raises(UserError, match=said):
      data.read("critiques", path)


def test_critiques_in_the_world():
  records, _ = data.read("tldr_world", "preferences[:1]")
  post = records[0].prompt
  good = tldr_world.archetype("complete plain", tldr_world.read_post(post))
  said = critique(post, good)
  assert said.startswith("nothing is false .") and "none" not in said
  false = tldr_world.archetype(
    "complete and one false", tldr_world.read_post(post)
  )
  assert "is false ." in critique(post, false).replace("nothing is false", "")
  assert critique(post, "nonsense").endswith("not grammatical .")

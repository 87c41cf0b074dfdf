"""Scores after given critiques and after a model's own."""

import jax
import numpy as np

from jalign import data
from jalign.data.limits import start_ids
from jalign.experiment.critiqued import critique_scores, own_critiques
from jalign.experiment.scorer import Scorer
from jalign.models import heads
from jalign.sharding import make_mesh
from tests.models.tiny import tiny

PROMPTS, RESPONSES = ["p q", "q"], [" x", " y x"]


def test_scores_after_critiques_of_both_origins():
  words = data.train_words(["p q x y good bad Critique:"])
  config, model, params = tiny(
    vocab_size=words.vocab_size, hidden_size=16, num_hidden_layers=1
  )
  head = heads.scalar(16)
  own = jax.tree.map(lambda x: x + 0.3, head.init(jax.random.key(0)))
  scorer = Scorer(
    "s", config, model, {"model": params, "head": own}, head, words, None,
    constant=0.25,
  )  # fmt: skip
  mesh = make_mesh(devices=jax.devices()[:1])
  forward = jax.jit(model.forward)

  def states(ids):
    return np.asarray(forward(params, np.array(ids)[None])[0], np.float64)

  given = ["good", "bad good"]
  with jax.set_mesh(mesh):
    got = critique_scores(scorer, PROMPTS, RESPONSES, given, mesh, rows=2)
    said = own_critiques(scorer, PROMPTS, RESPONSES, max_new_tokens=3)
  for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES)):
    before = start_ids(f"{prompt}{response} Critique:", words, False)
    ids = [*before, *words.encode(given[i]), words.eos_id]
    want = states(ids)[-1] @ np.asarray(own["weight"]) + float(own["bias"])
    np.testing.assert_allclose(got[i], want - 0.25, rtol=1e-4)
    written = list(before)
    for _ in range(3):
      z = states(written)[-1] @ np.asarray(model.head(params).weight).T
      if z.argmax() == words.eos_id:
        break
      written.append(int(z.argmax()))
    assert words.encode(said[i]) == written[len(before) :]

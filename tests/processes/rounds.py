"""A few rounds of an online algorithm, to be played by any number of processes.

As a script: `python -m tests.processes.rounds FILE MESH:ALGORITHM:JUDGE ...`
plays each of them in turn, and process i writes what it saw to FILE.i.
"""

import json
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jalign import losses, sharding
from jalign.data import EncodedPrompt, PromptBatch
from jalign.errors import UserError
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import sample_texts
from jalign.feedback import (
  Judge,
  assess,
  compare,
  from_preference,
  from_reward,
  make_answers,
  on_tokens,
)
from jalign.models import param_specs
from jalign.online import ALGORITHMS, make_round
from jalign.sharding import fetch, make_mesh, place
from jalign.training import metrics, state_shardings
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny

VOCAB, WIDTH, NEW, PROMPTS = 16, 4, 4, 8


def prompts_of(count):
  """Prompts of several lengths; the last one only fills the batch."""
  rng = np.random.default_rng(1)
  lengths = rng.integers(1, WIDTH + 1, count).astype(np.int32)
  tokens = rng.integers(1, VOCAB, (count, WIDTH)).astype(np.int32)
  weights = np.ones(count, np.float32)
  weights[-1] = 0
  return PromptBatch(
    np.where(np.arange(WIDTH) < lengths[:, None], tokens, 0),
    lengths,
    weights,
    [f"prompt {i}" for i in range(count)],
  )


def judges(asked):
  """Judges by name; those of texts note the prompts that they are asked for."""

  def reward(prompt, response):
    asked.append(prompt)
    # A third is no number of float32, and jnp's operations must stay on this
    # process.
    ids = list(map(int, response.split()))
    return float(jnp.sum(jnp.asarray([0, *ids]))) / 3 + math.sin(len(prompt))

  def prefer(prompt, a, b):
    asked.append(prompt)
    return 1 / (1 + math.exp((len(a) - len(b)) / 3 - len(a) / 7))

  def unequal(prompt, response):
    if jax.process_index() == jax.process_count() - 1:
      raise UserError("can't judge this.", where="judge.py:7")
    return 0.0

  @jax.jit
  def share(sequences):
    drawn = jnp.sum(sequences.tokens * sequences.mask, -1)
    return drawn / (1.0 + jnp.sum(sequences.mask, -1))

  def numbered(answers):
    return np.arange(len(answers.texts)) / 3 + jax.process_index()

  seen = []

  def noted(sequences):
    seen.append(str(sequences.tokens.sharding.spec))
    return share(sequences)

  return {
    "reward": from_reward(reward),
    "preference": from_preference(prefer),
    "unequal": from_reward(unequal),
    "numbered": Judge(numbered, reads_tokens=True),
    "tokens": on_tokens(
      noted, preference=lambda a, b: jax.nn.sigmoid(share(a) - share(b))
    ),
    "seen": seen,
  }


def play(shape, algorithm, judge, *, devices=None, steps=2):
  """Plays rounds, each with its update.

  Args:
    shape: sizes of the mesh.
    algorithm: name of the algorithm.
    judge: a key of `judges`.
    devices: devices of the mesh; all by default.
    steps: number of rounds.

  Returns:
    What this process saw: texts, tokens of batches, losses, metrics.
  """
  config, model, params = tiny(
    vocab_size=VOCAB, num_hidden_layers=1, initializer_range=0.1, remat="none"
  )
  row = ALGORITHMS[algorithm]
  asked: list[str] = []
  named = judges(asked)
  mesh = make_mesh(*shape, devices=devices)
  layout = sharding.shardings(param_specs(config), mesh)
  decode = lambda ids: " ".join(map(str, ids))
  optimizer, seen = optax.adam(0.01), {"rounds": []}
  with jax.set_mesh(mesh):
    reference = jax.tree.map(
      lambda x, at: jax.make_array_from_callback(x.shape, at, x.__getitem__),
      jax.tree.map(np.asarray, params),
      layout,
    )
    where = state_shardings(optimizer, reference, layout, mesh)
    state = init_state(reference, optimizer, where)
    loss = losses.CATALOGUE[row.loss]
    update = make_update(
      make_objective(loss.function, model, batch=loss.batch), optimizer, where
    )
    options = {"max_new_tokens": NEW, "stop_ids": (1,)}
    round_of = lambda judge: make_round(
      row, model, named[judge], decode, **options
    )
    rounds = round_of(judge)
    for step in range(steps):
      key = jax.random.fold_in(jax.random.key(3), step)
      played = rounds(state.params, reference, prompts_of(PROMPTS), key)
      (batch,) = place(played.batches, mesh)
      rows = played.rollout.sequences.tokens
      state, sums = update(state, batch, reference)
      seen["rounds"].append(
        {
          "values": played.values,
          "tokens": fetch(batch.sequences.tokens).tolist(),
          "preference": None
          if batch.preference is None
          else fetch(batch.preference).tolist(),
          "train": metrics.combine([fetch(sums)]),
          # Rows on each device of the process, of all rows.
          "rows": [x.data.shape[0] for x in rows.addressable_shards],
        }
      )
    seen["asked"], seen["specs"] = asked, named["seen"]
    if judge == "reward":
      seen["answers"] = _of_answers(named)
    if judge == "tokens":
      seen["samples"] = _of_samples(model, state.params, reference, named)
    if jax.process_count() > 1:
      try:
        round_of("unequal")(state.params, reference, prompts_of(PROMPTS), key)
      except UserError as e:
        seen["refused"] = str(e)
  return seen


def _of_answers(named):
  """Numbers of answers of which some prompts, and some parts, are odd."""
  prompts = [f"{i % 3}" for i in range(7)]
  texts = [[f"{i * k}" for i in range(7)] for k in (3, 5)]
  sides = [
    assess(named["reward"], make_answers(prompts, side)) for side in texts
  ]
  one = assess(named["reward"], make_answers(["only"], ["1 2"]))
  return {
    "rewards": [side.reward.tolist() for side in (*sides, one)],
    "wins": compare(named["preference"], *sides).tolist(),
    "margins": compare(named["reward"], *sides).tolist(),
  }


class _Tokenizer:
  pad_id, end_ids = 0, (1,)

  def decode(self, ids):
    return " ".join(map(str, ids))


def _of_samples(model, params, reference, named):
  """Held-out samples of 3 prompts, 3 to each, in parts, and their judge."""
  prompts = [
    EncodedPrompt(np.arange(2, 4 + i, dtype=np.int32), name, "a row", name)
    for i, name in enumerate(("p0", "p1", "p2"))
  ]
  samples = sample_texts(
    model,
    params,
    _Tokenizer(),
    prompts,
    SamplerSettings(per_prompt=3, max_new_tokens=NEW),
    seed=5,
    ref_params=reference,
    rows=4,
    keep_tokens=True,
  )
  answers = make_answers(
    samples.prompts, samples.texts, sequences=samples.sequences
  )
  judged = assess(named["tokens"], answers)
  return {
    "texts": samples.texts,
    "tokens": samples.tokens.tolist(),
    "finished": samples.finished,
    "logps": samples.logps.tolist(),
    "ref_logps": samples.ref_logps.tolist(),
    "rewards": fetch(judged.reward).tolist(),
    "wins": compare(named["tokens"], judged, judged.take(range(9))).tolist(),
    "on_the_host": assess(named["numbered"], answers).reward.tolist(),
  }


def cases_of(words):
  """(mesh's shape, algorithm, judge) of words like 2x1x1:ipo_md:reward."""
  for word in words:
    mesh, algorithm, judge = word.split(":")
    yield tuple(map(int, mesh.split("x"))), algorithm, judge


if __name__ == "__main__":
  from tests.processes import launch

  file, *words = launch.join(sys.argv[1:])
  told = [play(*case) for case in cases_of(words)]
  path = pathlib.Path(f"{file}.{jax.process_index()}")
  path.write_text(json.dumps(told))

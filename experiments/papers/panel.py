"""Measures a policy of the TL;DR world while it is aligned.

All measurements take the same held-out posts, and the same keys for samples, so
that curves move only by what is learnt.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers.policies import Trained
from jalign import data, diagnostics
from jalign.data import tldr_world as world
from jalign.data.tldr_world.dataset import preference_record, ranked_record
from jalign.evaluation import clustered_mean, distinct_n
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import SampledTexts, sample_texts
from jalign.logprobs import sequence_logprobs
from jalign.types import Params, SequenceBatch

TOP = 10  # the paper's k
LENGTH = 72  # tokens of a padded row
# Quantities that `make_panel` measures, with units.
QUANTITIES = {
  "chosen": "log-prob of the chosen response minus the reference's, nats",
  "rejected": "log-prob of the rejected response minus the reference's, nats",
  "listed": "the same for other summaries of the post, in none of the pairs",
  "foreign": "the same for a summary of another post",
  "chosen_nll": "minus the chosen's log-prob, nats per token",
  "entropy": "of the 10 likeliest next tokens along the chosen, bits",
  "renormalised": "entropy of their probabilities divided by their sum, bits",
  "mass": "sum of their probabilities",
  "win_rate": "of samples over the reference's, under the population",
  "win_error": "standard error of the win rate over posts",
  "gold": "mean gold reward of samples",
  "grammatical": "share of samples that are grammatical",
  "true": "share of samples' clauses that the post states",
  "words": "mean number of words of a sample",
  "distinct": "different pairs of words in samples, as a share of all pairs",
  "kl": "KL to the reference, nats per sample, estimated",
}


class Responses(NamedTuple):
  """Rows of held-out posts.

  Attributes:
    batch: all rows, padded to `LENGTH`.
    kind: [R] "chosen", "rejected", "listed" or "foreign".
  """

  batch: SequenceBatch
  kind: np.ndarray


def responses(start: Trained, posts: int) -> Responses:
  """The pairs of the first held-out posts, and responses that no pair has."""
  numbers = [
    int(re.findall(r"\d+$", row.source)[0]) - 1
    for row in start.pairs.held_out[:posts]
  ]
  entries: list[tuple[str, str, str]] = []
  pairs = [preference_record(world.post(i), 0, i) for i in numbers]
  for i, pair, other in zip(numbers, pairs, pairs[1:] + pairs[:1]):
    own = {"chosen": pair.chosen, "rejected": pair.rejected}
    listed = ranked_record(world.post(i), 0, i).responses
    entries += [(kind, pair.prompt, text) for kind, text in own.items()]
    entries += [
      ("listed", pair.prompt, text)
      for text in listed
      if text not in own.values()
    ]
    entries.append(("foreign", pair.prompt, other.chosen))
  records = [
    data.DemonstrationRecord(prompt, text, f"panel:{at}", prompt)
    for at, (_, prompt, text) in enumerate(entries)
  ]
  encoded, _ = data.encode_demonstrations(
    records, start.tokenizer, data.Limits(max_tokens=LENGTH)
  )
  batch = data.collate_sequences(
    encoded, len(encoded), LENGTH, pad_id=start.tokenizer.pad_id
  )
  return Responses(batch, np.array([kind for kind, *_ in entries]))


def make_panel(
  start: Trained, posts: int = 256
) -> Callable[[Params], dict[str, float]]:
  """Makes `params -> {quantity: value}`, with those of `QUANTITIES`."""
  rows = responses(start, posts)
  sequences = jax.device_put(rows.batch.sequences)
  prompts = start.pairs.sample_prompts(posts)
  draw = SamplerSettings(per_prompt=2, max_new_tokens=24)
  chosen = jax.tree.map(lambda x: x[rows.kind == "chosen"], sequences)
  tokens = np.asarray(chosen.mask[:, 1:].sum(-1))

  score = jax.jit(lambda p: sequence_logprobs(start.model, p, sequences))

  @jax.jit
  def indicators(params):
    hidden = start.model.forward(params, chosen.tokens)[:, :-1]
    mask = chosen.mask[:, 1:]
    values = diagnostics.top_k(hidden, start.model.head(params), TOP, mask=mask)
    # The mean over tokens, then over responses.
    return jax.tree.map(lambda x: jnp.mean(x.sum(-1) / mask.sum(-1)), values)

  def sample(params, seed) -> SampledTexts:
    # All rows at once: a row that has ended costs little in so small a model.
    return sample_texts(
      start.model,
      params,
      start.tokenizer,
      prompts,
      draw,
      seed=seed,
      ref_params=start.params,
      rows=len(prompts) * draw.per_prompt,
    )

  ref = np.asarray(score(start.params), np.float64)
  # Two responses of each policy to a post make four comparisons.
  theirs = sample(start.params, 1).texts
  swapped = [theirs[i ^ 1] for i in range(len(theirs))]

  def measure(params: Params) -> dict[str, float]:
    logps = np.asarray(score(params), np.float64)
    top = jax.device_get(indicators(params))
    samples = sample(params, 2)
    wins = np.mean(
      [
        world.population(samples.prompts, samples.texts, other)
        for other in (theirs, swapped)
      ],
      0,
    )
    rate = clustered_mean(wins, samples.prompt_ids)
    of = {k: v.mean() for k, v in
          world.measures(samples.prompts, samples.texts).items()}  # fmt: skip
    gains = {
      kind: (logps - ref)[rows.kind == kind].mean()
      for kind in ("chosen", "rejected", "listed", "foreign")
    }
    values = gains | {
      "chosen_nll": np.mean(-logps[rows.kind == "chosen"] / tokens),
      "entropy": top.entropy_bits,
      "renormalised": top.renormalised_bits,
      "mass": top.mass,
      "win_rate": rate.mean,
      "win_error": rate.standard_error,
      "gold": of["gold reward"],
      "grammatical": of["grammatical %"] / 100,
      "true": of["true clauses %"] / 100,
      "words": of["words"],
      "distinct": distinct_n(samples.texts, 2),
      "kl": np.mean(samples.logps - samples.ref_logps),
    }
    return {name: float(value) for name, value in values.items()}

  return measure

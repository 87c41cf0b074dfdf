"""What `nlhf_table`'s methods aim at, computed and not trained.

The SFT policy is replaced by the law of its samples for each post. Of that law,
RLHF on a fitted reward and the Nash equilibrium of the regularised game are
known exactly, and so is what a best type of summary wins over them.
"""

import io
from typing import NamedTuple

import numpy as np

from experiments.papers.nlhf_cells import FOLDER, WIDTH, Bench
from experiments.papers.nlhf_judges import RATERS, Fitted
from experiments.papers.nlhf_measures import Types, rows_of, types_of
from jalign import games
from jalign.data import tldr_world as world
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import sample_texts
from jalign.files import write_whole

POSTS, EACH = 256, 64  # posts, and samples of each, that make up the law
BETAS = (2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
TAUS = (0.3, 0.2, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)


class Curve(NamedTuple):
  """Exact policies of rising strength.

  Attributes:
    kl: [N] KLs to the law of the SFT policy's samples, nats.
    wins: [N] win rates over the SFT policy.
    exploitability: [N] what the best type of summary wins, less one half. The
      type is chosen for posts with equally many salient facts, on one half of
      the posts, and plays on the other.
  """

  kl: np.ndarray
  wins: np.ndarray
  exploitability: np.ndarray


def ideal(bench: Bench, judge: str) -> dict[str, Curve]:
  """`curves` on samples of the SFT policy; kept in the folder of the cells."""
  path = FOLDER / f"ideal_{judge}.npz"
  if not path.exists():
    drawn = sample_texts(
      bench.start.model,
      bench.start.params,
      bench.start.tokenizer,
      bench.prompts[:POSTS],
      SamplerSettings(per_prompt=EACH, max_new_tokens=WIDTH),
      seed=5,
      rows=512,
    )
    of = np.stack(world.attributes(drawn.prompts, drawn.texts), 1)
    salient = bench.salient[:POSTS]
    fit = bench.fits[judge]
    got = curves(judge, of.reshape(POSTS, EACH, -1), salient, fit)
    stream = io.BytesIO()
    np.savez(stream, RLHF=np.array(got["RLHF"]), Nash=np.array(got["Nash"]))
    write_whole(path, stream.getvalue())
  with np.load(path) as held:
    return {name: Curve(*held[name]) for name in held.files}


def curves(
  judge: str, samples: np.ndarray, salient: np.ndarray, fit: Fitted
) -> dict[str, Curve]:
  """{"RLHF": ..., "Nash": ...} under a judge of `RATERS`.

  Args:
    judge: name of the judge.
    samples: [G, K, 8] attributes of the SFT policy's samples.
    salient: [G] number of salient facts of each post.
    fit: the reward that is fitted to the judge.
  """
  every = {
    int(n): rows_of(world.attainable(int(n))) for n in np.unique(salient)
  }
  types = types_of(RATERS[judge], [samples, *every.values()])
  challengers = {n: types.find(rows) for n, rows in every.items()}
  reward = fit.reward(types.attributes)
  starts = []
  for ids in types.find(samples):
    own, counts = np.unique(ids, return_counts=True)
    starts.append((own, counts / len(ids)))

  def rlhf(own: np.ndarray, start: np.ndarray, beta: float) -> np.ndarray:
    logits = np.log(start) + reward[own] / beta
    policy = np.exp(logits - logits.max())
    return policy / policy.sum()

  def nash(own: np.ndarray, start: np.ndarray, tau: float) -> np.ndarray:
    if len(own) == 1:
      return start
    game = types.wins[np.ix_(own, own)]
    return np.asarray(games.regularized_nash(game, start, tau, tolerance=1e-8))

  def curve(solve, strengths) -> Curve:
    points = []
    for strength in strengths:
      policies = [solve(*start, strength) for start in starts]
      points.append(_point(types, challengers, salient, starts, policies))
    return Curve(*np.array(points).T)

  return {"RLHF": curve(rlhf, BETAS), "Nash": curve(nash, TAUS)}


def _point(types: Types, challengers, salient, starts, policies):
  kl = [
    float(np.sum(q * np.log(np.maximum(q, 1e-300) / start)))
    for (_, start), q in zip(starts, policies)
  ]
  wins = [
    float(q @ types.wins[np.ix_(own, own)] @ start)
    for (own, start), q in zip(starts, policies)
  ]
  values = np.zeros(len(salient))
  halves = np.arange(len(salient)) % 2 == 0
  for n, every in challengers.items():
    at = np.flatnonzero(salient == n)
    scores = np.stack(
      [types.wins[np.ix_(every, starts[g][0])] @ policies[g] for g in at]
    )
    for chosen_on in (halves[at], ~halves[at]):
      best = scores[chosen_on].mean(0).argmax()
      values[at[~chosen_on]] = scores[~chosen_on, best]
  return np.mean(kl), np.mean(wins), values.mean() - 0.5

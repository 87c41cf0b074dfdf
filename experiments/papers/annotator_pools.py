"""Simulated annotators that rank methods (AlpacaFarm); constitutions (ICAI).

Methods are the world's archetypes and mixtures of these. People are the
population or the gold rater, whose win rates are exact; the simulated annotator
is a pool of raters, some of whom are biased, with or without label noise.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.papers.claims import Claim
from experiments.papers.order_bias import WorldPairs, ask, world_pairs
from jalign.data import tldr_world as world
from jalign.data.tldr_world.language import rng
from jalign.feedback import from_batch
from jalign.feedback.answers import Answers
from jalign.feedback.constitution import (
  ballots,
  decision_list,
  kept,
  of_factors,
  reconstructed,
  tally,
)
from jalign.feedback.noise import noisy, pool

FARM = "ours, on Dubois et al. 2023, arXiv:2305.14387"
ICAI = "ours, on Findeis et al. 2024, arXiv:2406.06560"
PEOPLE = {"population": world.population_rater, "gold": world.gold_rater}
# The simulated annotators: the groups, and copies of gold with a bias or noise.
POOL = world.GROUPS | {
  "gold, length-biased": world.length_biased(world.gold_rater),
  "gold, 20 % flipped": world.noisy(world.gold_rater),
}
MIXTURES = 12
POSTS = 100
PAIRS = (10, 30, 100, 300, 1000, 3000, 10_000)
NOISE = 0.25  # share of wrong labels
TRIALS = 400


# ----------------------------------------------------------------- AlpacaFarm


class WinRates(NamedTuple):
  """Exact win rates of M methods against demonstrations.

  Attributes:
    people: name of the people -> [M].
    pool: [M] under the pool's mean.
  """

  people: dict[str, np.ndarray]
  pool: np.ndarray


@functools.cache
def win_rates(posts: int = POSTS) -> WinRates:
  """The win rates of the archetypes, and of mixtures of three of these."""
  there = [world.post(i) for i in range(posts)]
  texts = [post.text for post in there]
  drawn = [
    world.sample_demonstration(post, rng(0, "opponents", i))[1]
    for i, post in enumerate(there)
  ]
  opponents = world.attributes(texts, drawn)
  own = [
    world.attributes(texts, [world.archetype(name, p) for p in there])
    for name in world.ARCHETYPES
  ]
  generator = np.random.default_rng(0)
  count = len(own)
  mixed = np.zeros((MIXTURES, count))
  for row in mixed:
    three = generator.permutation(count)[:3]
    row[three] = generator.dirichlet(np.ones(3))
  policies = np.concatenate([np.eye(count), mixed])
  rate = lambda rater: policies @ [rater(of, opponents).mean() for of in own]
  return WinRates(
    {name: rate(rater) for name, rater in PEOPLE.items()},
    np.mean([rate(rater) for rater in POOL.values()], 0),
  )


def seen(rate: np.ndarray, share: float) -> np.ndarray:
  """The win rate that labels show, `share` of which are wrong."""
  return 0.5 + (1 - 2 * share) * (rate - 0.5)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """[...] rank correlations of [..., M] and [M]; ties have mean ranks."""
  x, y = (stats.rankdata(v, axis=-1) for v in (a, b))
  x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
  size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
  return (x * y).sum(-1) / np.where(size > 0, size, 1.0)


def correlations(
  people: np.ndarray, simulated: np.ndarray, share: float, trials: int = TRIALS
) -> np.ndarray:
  """[PAIRS] mean Spearman correlation of people and drawn labels.

  Args:
    people: [M] exact win rates by people.
    simulated: [M] exact win rates by the simulated annotator.
    share: share of wrong labels.
    trials: number of draws, each of new labels for every method.
  """
  generator = np.random.default_rng(0)
  rate = seen(simulated, share)
  wins = [generator.binomial(n, rate, (trials, len(rate))) for n in PAIRS]
  return np.array([spearman(w, people).mean() for w in wins])


def farm_claims(posts: int = POSTS) -> list[Claim]:
  """Which annotators rank methods as people do, with how many labels."""
  rates = win_rates(posts)
  exact = {
    name: (
      float(spearman(rates.pool, people)),
      float(spearman(seen(rates.pool, NOISE), people)),
    )
    for name, people in rates.people.items()
  }
  low, high = PAIRS.index(100), PAIRS.index(10_000)
  people = rates.people["population"]
  plain = correlations(people, rates.pool, 0.0)
  loud = correlations(people, rates.pool, NOISE)
  other = float(spearman(rates.people["gold"], people))
  few = correlations(people, people, 0.0)
  return [
    Claim(
      FARM,
      "a pool of partly biased annotators ranks methods much as people do, and"
      " closer to either kind of people than these are to each other",
      f"Spearman of {len(people)} methods' exact win rates with the pool's: "
      + ", ".join(f"{name} {a:.4f}" for name, (a, _) in exact.items())
      + f"; of the two kinds of people {other:.4f}",
      min(a for a, _ in exact.values()) > max(other, 0.7),
      True,
    ),
    Claim(
      "derived",
      "label noise changes no rank of exact win rates, as a quarter of wrong"
      " labels is a line of slope 1/2",
      f"with noise {', '.join(f'{b:.4f}' for _, b in exact.values())}",
      all(abs(a - b) < 1e-12 for a, b in exact.values()),
    ),
    Claim(
      "derived",
      "so noise costs labels alone: it lowers the correlation at few pairs, and"
      " not at many",
      f"population, {PAIRS[low]} pairs: {plain[low]:.3f} without noise,"
      f" {loud[low]:.3f} with; {PAIRS[high]:,} pairs: {plain[high]:.3f},"
      f" {loud[high]:.3f}",
      bool(loud[low] < plain[low] - 0.02 and loud[high] > plain[high] - 0.02),
    ),
    Claim(
      "derived",
      "a bias doesn't vanish with labels: people's own labels reach 1, the"
      " pool's stay at its exact correlation",
      f"{PAIRS[high]:,} pairs: people {few[high]:.3f}, pool {plain[high]:.3f},"
      f" exact {exact['population'][0]:.3f}",
      bool(
        few[high] > plain[high]
        and abs(plain[high] - exact["population"][0]) < 0.02
      ),
    ),
  ]


def noise_claims(posts: int = 40) -> list[Claim]:
  """The laws of label noise, by the library's judges on pairs of the world."""
  a, b = world_pairs(posts)

  def draw(posts, a, b):
    return (world.gold(posts, a, b) > 0.5).astype(float)

  sure = from_batch(draw)
  own, loud = ask(sure, a, b), ask(noisy(sure, share=NOISE), a, b)
  agreement = float(np.mean(own == loud))
  judges = {
    name: from_batch(world.annotator(rater)) for name, rater in POOL.items()
  }
  picked = ask(pool(judges), a, b)
  mean = np.mean([ask(judge, a, b) for judge in judges.values()], 0)
  label = ask(noisy(pool(judges), share=NOISE), a, b)
  width = 4 / np.sqrt(len(own))
  observed, law = float(label.mean()), float(seen(picked.mean(), NOISE))
  return [
    Claim(
      FARM,
      "with a quarter of wrong labels an annotator agrees with himself on 0.75;"
      " a win rate of 0.8 is seen as 0.65",
      f"{len(own):,} pairs: agreement {agreement:.4f}; 0.8 is seen as"
      f" {float(seen(np.array(0.8), NOISE)):.2f}; the pool's win rate"
      f" {picked.mean():.4f} is seen as {observed:.4f}, law {law:.4f}",
      abs(agreement - 0.75) < width * np.sqrt(0.75 * 0.25)
      and abs(observed - law) < width / 2,
    ),
    Claim(
      "derived",
      "a pair's one rater of the pool is the pool's mean on average",
      f"mean preference {picked.mean():.4f}, of the mean {mean.mean():.4f}",
      bool(abs(picked.mean() - mean.mean()) < width / 2),
    ),
  ]


# ----------------------------------------------------------------------- ICAI


class Constitution(NamedTuple):
  """What explains a group's labels.

  Attributes:
    principles: the recovered list, the most important first.
    voted: the list that the released code's order by votes gives.
    right: group -> share of its held-out labels that the list finds.
    by_votes: the same of the list by votes, for its own group.
  """

  principles: list[str]
  voted: list[str]
  right: dict[str, float]
  by_votes: float


FACTORS = ("coverage", "hallucinations", "words", "sourced")


def _factors(answers: Answers) -> dict[str, np.ndarray]:
  return world.attributes(answers.prompts, answers.texts)._asdict()


PRINCIPLES = of_factors(_factors, FACTORS)


def labelled(group: str, pairs: WorldPairs, seed: int) -> np.ndarray:
  """[K, N] ballots of all principles on the pairs that a group's label tells.

  Labels are draws of the group's probabilities; undecided pairs are left out.
  """
  a, b = pairs
  p = world.annotator(world.GROUPS[group])(a.prompts, a.texts, b.texts)
  first = p > np.random.default_rng(seed).random(len(p))
  sides = [
    [x if w == one else y for x, y, w in zip(a.texts, b.texts, first)]
    for one in (True, False)
  ]
  chosen, rejected = (
    Answers(a.prompts, side, a.rows).take(np.flatnonzero(p != 0.5))
    for side in sides
  )
  return ballots(PRINCIPLES, chosen, rejected)


@functools.cache
def constitutions(posts: int = 20) -> dict[str, Constitution]:
  """The constitution of each group, from `posts` posts, tested on as many."""
  names = list(PRINCIPLES)
  train, test = world_pairs(posts), world_pairs(posts, posts)
  held_out = {g: labelled(g, test, 1) for g in world.GROUPS}
  found = {}
  for group in world.GROUPS:
    votes = labelled(group, train, 0)
    principles = decision_list(names, votes)
    voted = kept(tally(names, votes))
    right = lambda of, by: float(reconstructed(names, of, by).mean())
    found[group] = Constitution(
      principles,
      voted,
      {g: right(of, principles) for g, of in held_out.items()},
      right(held_out[group], voted),
    )
  return found


def icai_claims(posts: int = 20) -> list[Claim]:
  """Constitutions are recovered, and find what the raters' tremble leaves."""
  found = constitutions(posts)
  first = {group: c.principles[0] for group, c in found.items()}
  own = {group: c.right[group] for group, c in found.items()}
  others = [x for g, c in found.items() for h, x in c.right.items() if g != h]
  return [
    Claim(
      ICAI,
      "labels alone tell the first principle of each group: +coverage, -words,"
      " and +sourced or -hallucinations",
      "; ".join(f"{g}: {', '.join(c.principles)}" for g, c in found.items()),
      [x in ok for x, ok in zip(first.values(), FIRST)] == [True] * 3,
    ),
    Claim(
      ICAI,
      "a judge with the constitution finds 95 % of held-out labels, which is"
      " all that the raters' tremble of 5 % leaves",
      ", ".join(f"{g} {100 * x:.1f} %" for g, x in own.items()),
      all(abs(x - 0.95) < 0.03 for x in own.values()),
    ),
    Claim(
      ICAI,
      "another group's constitution finds far fewer",
      f"{100 * min(others):.1f} to {100 * max(others):.1f} %",
      max(others) < 0.85,
    ),
    Claim(
      "derived",
      "principles that are asked one after the other must have the order of a"
      " decision list: in the order of their votes they find less",
      ", ".join(
        f"{g} {100 * c.by_votes:.1f} % by votes" for g, c in found.items()
      ),
      all(own[g] >= c.by_votes - 1e-9 for g, c in found.items()),
    ),
  ]


FIRST = (("+coverage",), ("-words",), ("+sourced", "-hallucinations"))

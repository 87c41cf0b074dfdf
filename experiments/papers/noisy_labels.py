"""Labels that are wrong or contradict each other, and reward models' losses.

python -m experiments.papers.noisy_labels --out=runs/papers

Reward models that are linear in products of a summary's exact attributes, on
pairs of the TL;DR world. Cost: 30 s on a CPU core.
"""

import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from jalign import losses
from jalign.data import tldr_world
from jalign.evaluation import reliability
from jalign.pages.style import PALETTE, new_figure
from jalign.types import Array

SECRETS = "Wang et al. 2024, arXiv:2401.06080"
MORE = "Zeng et al. 2023, arXiv:2312.07401"
PAIRS, HELD_OUT, FLIP = 400, 4000, 0.2
MODELS, SEEDS, STEPS = 5, 10, 300
SHARES = (0.8, 0.1, 0.1)  # of pairs that the three groups of raters label
GROUPS = tuple(tldr_world.GROUPS)


class Pairs(NamedTuple):
  """Pairs of demonstrations of the world.

  Attributes:
    features: [N, 2, D] what a reward model reads of the two summaries.
    gap: [N] gold reward of the first less that of the second.
    gold: [N] P(first > second) under the gold rater.
    groups: [N, 3] the same under each group of raters.
  """

  features: np.ndarray
  gap: np.ndarray
  gold: np.ndarray
  groups: np.ndarray


def _demonstrations(start: int, count: int) -> list[tldr_world.Attributes]:
  """Attributes [N] of two demonstrations of each of N posts of the world."""
  rng = np.random.default_rng(start)
  posts = [tldr_world.post(i) for i in range(start, start + count)]
  texts = [post.text for post in posts]
  draw = lambda: [tldr_world.sample_demonstration(p, rng)[1] for p in posts]
  return [tldr_world.attributes(texts, draw()) for _ in range(2)]


@functools.cache
def _scales() -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation [8] of the attributes of other posts."""
  x = np.stack(_demonstrations(900_000, 1000)[0], -1)
  return x.mean(0), np.maximum(x.std(0), 1e-9)


@functools.cache
def pairs(start: int, count: int) -> Pairs:
  """Pairs of two demonstrations of each of `count` posts of the world."""
  both = _demonstrations(start, count)
  mean, deviation = _scales()
  x = np.stack([np.stack(side, -1) for side in both], 1)
  x = (x - mean) / deviation
  first, second = np.triu_indices(x.shape[-1])
  return Pairs(
    np.concatenate([x, x[..., first] * x[..., second]], -1),
    tldr_world.reward(both[0]) - tldr_world.reward(both[1]),
    tldr_world.gold_rater(*both),
    np.stack([rater(*both) for rater in tldr_world.GROUPS.values()], -1),
  )


@functools.partial(jax.jit, static_argnums=0)
def _descend(loss: Callable[..., Array], features: Array, *arrays: Array):
  """Head [D] at the end of descent with momentum on the mean loss."""
  scores = lambda head: jnp.sum(features * head, -1)

  def value(head):
    chosen, rejected = scores(head).T
    return jnp.mean(loss(chosen, rejected, *arrays))

  def step(state, _):
    head, speed = state
    speed = 0.9 * speed - 0.03 * jax.grad(value)(head)
    return (head + speed, speed), None

  zero = jnp.zeros(features.shape[-1])
  return jax.lax.scan(step, (zero, zero), None, STEPS)[0][0]


def _fit(loss: Callable[..., Array], features, *arrays) -> np.ndarray:
  return np.asarray(_descend(loss, *map(jnp.asarray, (features, *arrays))))


def _labelled(data: Pairs, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Features [N, 2, D] with the labelled winner first, and [N] gold gaps.

  Pairs of equal gold rewards, which no label contradicts, are left out.
  """
  rng = np.random.default_rng(seed)
  first = rng.uniform(size=len(data.gap)) < FLIP + (1 - 2 * FLIP) * data.gold
  turned = data.features[:, ::-1]
  features = np.where(first[:, None, None], data.features, turned)
  apart = np.abs(data.gap) > 1e-9
  return features[apart], np.where(first, data.gap, -data.gap)[apart]


def strength(features: np.ndarray, seed: int) -> np.ndarray:
  """[N] mean gap of models that are each fitted to a resample of the pairs."""
  rng = np.random.default_rng(seed)
  count = len(features)
  heads = [
    _fit(losses.bradley_terry, features[rng.integers(0, count, count)])
    for _ in range(MODELS)
  ]
  gaps = np.stack([(features[:, 0] - features[:, 1]) @ head for head in heads])
  return np.asarray(losses.preference_strength(jnp.asarray(gaps)).mean)


class Course(NamedTuple):
  """One seed: labels, their strength, and models of several losses.

  Attributes:
    wrong: [N] whether the label contradicts the gold order.
    strength: [N] mean gaps of the ensemble.
    accuracy: loss -> share of held-out pairs in the gold order.
    nll: loss -> negative log-likelihood of labels without flips, in nats.
  """

  wrong: np.ndarray
  strength: np.ndarray
  accuracy: dict[str, float]
  nll: dict[str, float]


@functools.cache
def course(seed: int, count: int = PAIRS, held_out: int = HELD_OUT) -> Course:
  """Labels with flips, an ensemble's strength, and what losses make of both."""
  features, gap = _labelled(pairs(10_000 * (seed + 1), count), seed)
  mean = strength(features, seed)
  relabel = lambda **shares: np.asarray(
    losses.relabelled(jnp.asarray(mean), **shares)
  )
  smooth = functools.partial(losses.bradley_terry, label_smoothing=FLIP)
  soft = losses.bradley_terry_soft
  heads = {
    "as labelled": _fit(losses.bradley_terry, features),
    "all smoothed": _fit(smooth, features),
    "lowest 20 % flipped": _fit(soft, features, relabel(ambiguous=0.0)),
    "flipped, 20 % softened": _fit(soft, features, relabel()),
    "strength as margin": _fit(losses.bradley_terry_margin, features, mean),
  }
  test = pairs(0, held_out)
  accuracy, nll = {}, {}
  apart = np.abs(test.gap) > 1e-9
  for name, head in heads.items():
    z = (test.features[:, 0] - test.features[:, 1]) @ head
    accuracy[name] = float(np.mean((z * test.gap > 0)[apart]))
    nll[name] = float(np.mean(np.logaddexp(0, -z) + (1 - test.gold) * z))
  return Course(gap < 0, mean, accuracy, nll)


@functools.cache
def balanced(seed: int, count: int = 2000) -> dict[str, np.ndarray]:
  """Loss -> [3, 2]: accuracy and calibration error on each group's labels."""
  rng = np.random.default_rng(seed)
  data, test = pairs(10_000 * (seed + 1), count), pairs(0, HELD_OUT)
  group = np.eye(3)[rng.choice(3, count, p=SHARES)]
  first = rng.uniform(size=count) < (data.groups * group).sum(1)
  features = np.where(
    first[:, None, None], data.features, data.features[:, ::-1]
  )
  gaps = features[:, 0] - features[:, 1]
  extra = gaps, np.ones((count, 3)), group
  heads = {"pooled": _fit(losses.bradley_terry, features)}
  for name in ("more", "more_l2", "more_loss", "more_loss_plus"):
    heads[name] = _fit(getattr(losses, name), features, *extra)
  chosen = rng.uniform(size=test.groups.shape) < test.groups
  found = {}
  for name, head in heads.items():
    z = (test.features[:, 0] - test.features[:, 1]) @ head
    rows = []
    for m in range(3):
      limit = tldr_world.expected(1 / (1 + np.exp(-z)), test.groups[:, m])
      told = reliability(np.where(chosen[:, m], z, -z))
      rows.append((limit.accuracy, told.ece))
    found[name] = np.array(rows)
  return found


def _told(values: list[float]) -> str:
  error = np.std(values, ddof=1) / np.sqrt(len(values))
  return f"{np.mean(values):.3f} ± {error:.3f}"


def _caught(run: Course) -> tuple[float, float, float]:
  """Share of wrong labels: in all, in the lowest 20 %, and caught by these."""
  lowest = run.strength < np.quantile(run.strength, 0.2)
  wrong = run.wrong
  return wrong.mean(), wrong[lowest].mean(), lowest[wrong].mean()


def claims() -> list[Claim]:
  """The claims of this page."""
  runs = [course(seed) for seed in range(SEEDS)]
  base, precise, recalled = np.array([_caught(run) for run in runs]).T
  of = lambda name: [run.accuracy[name] for run in runs]
  nll = lambda name: [run.nll[name] for run in runs]
  better = np.subtract(of("lowest 20 % flipped"), of("as labelled"))
  milder = np.subtract(nll("flipped, 20 % softened"), nll("as labelled"))
  found = np.mean([list(balanced(s).values()) for s in range(SEEDS)], 0)
  names = list(balanced(0))
  worst = dict(zip(names, found[..., 0].min(-1)))
  largest = found[names.index("more"), 0, 0], found[0, 0, 0]
  return [
    Claim(
      SECRETS,
      "an ensemble gives wrong labels a low or negative strength: the lowest"
      " 20 % have more of them than all labels",
      f"wrong: {base.mean():.2f} of all, {precise.mean():.2f} of the lowest"
      f" 20 %, which hold {recalled.mean():.2f} of the wrong ones",
      bool((precise > base).all()),
      finding=True,
    ),
    Claim(
      SECRETS,
      "flipping the lowest 20 % improves the reward model",
      f"accuracy {_told(of('as labelled'))} as labelled,"
      f" {_told(of('lowest 20 % flipped'))} flipped;"
      f" difference {_told(list(better))}",
      bool(better.mean() > 2 * better.std(ddof=1) / np.sqrt(SEEDS)),
      finding=True,
    ),
    Claim(
      SECRETS,
      "flips and soft labels improve the likelihood of labels without flips",
      f"nats {_told(nll('as labelled'))} as labelled,"
      f" {_told(nll('all smoothed'))} all smoothed,"
      f" {_told(nll('flipped, 20 % softened'))} flipped and softened",
      bool(milder.mean() < -2 * milder.std(ddof=1) / np.sqrt(SEEDS)),
      finding=True,
    ),
    Claim(
      MORE,
      "min-norm weights serve the worst-served of three groups better than"
      " pooled labels, of which one group gives 80 %",
      ", ".join(f"{name} {value:.3f}" for name, value in worst.items())
      + "; the price is the largest group's accuracy: more"
      f" {largest[0]:.3f}, pooled {largest[1]:.3f}",
      bool(worst["more_l2"] > worst["pooled"]),
      finding=True,
    ),
    Claim(
      MORE,
      "reward models of balanced objectives are better calibrated: lower"
      " expected calibration error, mean over the groups",
      ", ".join(
        f"{name} {value:.3f}"
        for name, value in zip(names, found[..., 1].mean(-1))
      ),
      bool(found[1:, :, 1].mean(-1).min() < found[0, :, 1].mean()),
      finding=True,
    ),
  ]


def draw() -> Figure:
  """Plots strengths, the losses' accuracies, and the groups' accuracies."""
  figure = new_figure(13, 4.2, "Wrong and contradictory labels")
  left, middle, right = figure.subplots(1, 3)
  runs = [course(seed) for seed in range(SEEDS)]
  mean = np.concatenate([run.strength for run in runs])
  wrong = np.concatenate([run.wrong for run in runs])
  bins = np.linspace(*np.quantile(mean, (0.005, 0.995)), 40)
  for share, name, colour in ((~wrong, "right", 0), (wrong, "wrong", 1)):
    left.hist(mean[share], bins, color=PALETTE[colour], alpha=0.6, label=name)
  left.set(xlabel="strength: mean gap of five models", ylabel="labels")
  left.legend(frameon=False)
  for i, name in enumerate(runs[0].accuracy):
    values = [run.accuracy[name] for run in runs]
    middle.plot(values, [i] * SEEDS, "o", color=PALETTE[0], alpha=0.35)
    middle.plot(np.mean(values), i, "|", color=PALETTE[1], ms=22, mew=3)
  middle.set_yticks(range(len(runs[0].accuracy)), list(runs[0].accuracy))
  middle.set(xlabel="share of held-out pairs in the gold order")
  middle.invert_yaxis()
  found = [balanced(seed) for seed in range(SEEDS)]
  for m, (group, share) in enumerate(zip(GROUPS, SHARES)):
    values = [np.mean([f[name][m, 0] for f in found]) for name in found[0]]
    right.plot(
      values,
      range(len(values)),
      "o",
      color=PALETTE[m],
      label=f"{group} ({100 * share:.0f} % of labels)",
    )
  right.set_yticks(range(len(found[0])), list(found[0]))
  right.set(xlabel="accuracy on the group's labels")
  right.invert_yaxis()
  right.legend(frameon=False, fontsize=8, loc="center right")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Wrong and contradictory labels of reward models"
  sys.exit(report("noisy_labels", title, claims(), draw, out))

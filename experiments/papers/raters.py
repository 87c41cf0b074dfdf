"""Can a reward model that knows the rater exceed any shared one?

python -m experiments.papers.raters --out=experiments/results

VPL (Poddar et al. 2024, arXiv:2408.10075) and PAL (Chen et al. 2024,
arXiv:2406.08469) on raters of the TL;DR world, who belong to three groups that
decide by different criteria. The heads read exact attributes of the summaries
in place of a language model's states, so that whatever is missing to the limits
is theirs. The limits are exact: the groups' probabilities are known.
"""

import functools
import sys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.rater_learners import (
  BATCH,
  CONTEXT,
  NEW,
  PEOPLE,
  PER,
  STEPS,
  active_units,
  fit,
  fitted_weights,
  gaps_by_context,
  gaps_by_weights,
  limit,
  people,
  purity,
  reached,
  without_raters,
)
from jalign import losses
from jalign.data import tldr_world as world
from jalign.models.ideal_points import pal_a
from jalign.models.rater_heads import vpl
from jalign.pages.style import PALETTE, new_figure

VPL = "Poddar et al. 2024, arXiv:2408.10075"
PAL = "Chen et al. 2024, arXiv:2406.08469"
KEPT = 16  # pairs of a known rater that are trained on; the others are tested
SHOTS = (0, 1, 2, 4, 8, 16)
WEIGHTS = (3e-6, 1e-3, 1e-2, 1e-1)  # of VPL's KL
MAIN = 1e-3
PROTOTYPES = (1, 2, 3, 4)


class Results(NamedTuple):
  """What the claims, the table and the figure are made of.

  Attributes:
    limits: "shared" and "grouped" -> per cent on the new raters' pairs.
    vpl: weight of the KL -> shots -> per cent on the new raters' pairs.
    units: weight of the KL -> active units.
    trap: shots -> per cent with vectors scaled in training only.
    latents: [U, Z] means of new raters, from 8 pairs.
    group: [U] the new raters' groups.
    shared: per cent of a network without raters, on the new raters' pairs.
    pal: prototypes -> (per cent on new pairs of known raters, mean largest
      weight, share of raters whose largest prototype is their group's).
    shots: prototypes -> shots -> per cent on the new raters' other pairs.
    spread: largest difference of one prototype's scores between raters.
    opposed: NLL of Bradley-Terry, its accuracy, and VPL's with a pair, of two
      opposed groups.
  """

  limits: dict[str, float]
  vpl: dict[float, dict[int, float]]
  units: dict[float, int]
  trap: dict[int, float]
  latents: np.ndarray
  group: np.ndarray
  shared: float
  pal: dict[int, tuple[float, float, float]]
  shots: dict[int, dict[int, float]]
  spread: float
  opposed: tuple[float, float, float]


def two_groups() -> tuple[float, float, float]:
  """Two groups of equal size that want the opposite of a coordinate."""
  x = np.random.default_rng(0).normal(size=(400, PER, 2, 2))
  sign = np.where(np.arange(400) % 2, 1, -1)[:, None]
  swap = (x[..., 0, 0] - x[..., 1, 0]) * sign < 0
  x = np.where(swap[..., None, None], x[..., ::-1, :], x)
  train, test = jnp.asarray(x[:200], jnp.float32), jnp.asarray(x[200:])
  loss = functools.partial(losses.vpl, kl_weight=MAIN)
  found = []
  for head in (without_raters(2), vpl(2, latent=4)):
    params = fit(head, train, loss)
    found.append(gaps_by_context(head, params, test, 1)[0])
  one, own = found
  right = np.where(one == 0, 0.5, one > 0)
  return (
    float(np.logaddexp(0, -one).mean()),
    100 * float(right.mean()),
    100 * float(np.mean(own > 0)),
  )


def run() -> Results:
  """Trains all heads."""
  known, new = people()
  size = known.pairs.shape[-1]
  train, later = known.pairs[:, :KEPT], known.pairs[:, KEPT:]
  by_shots, units, latents = {}, {}, np.zeros(0)
  for weight in WEIGHTS:
    head = vpl(size)
    loss = functools.partial(losses.vpl, kl_weight=weight)
    params = fit(head, train, loss)
    by_shots[weight] = {}
    for shots in SHOTS:
      gaps, means = gaps_by_context(head, params, new.pairs, shots)
      by_shots[weight][shots] = reached(gaps, new.exact)
      if shots == CONTEXT:
        units[weight] = active_units(means)
        latents = means[:, 0] if weight == MAIN else latents
    print(f"VPL, KL {weight:g}: {by_shots[weight]}, {units[weight]} units")
  head = vpl(size, scaled="training")
  params = fit(head, train, functools.partial(losses.vpl, kl_weight=MAIN))
  trap = {
    shots: reached(
      gaps_by_context(head, params, new.pairs, shots)[0], new.exact
    )
    for shots in SHOTS
  }
  print(f"VPL, scaled in training only: {trap}")
  alone = without_raters(size)
  params = fit(alone, train, functools.partial(losses.vpl, kl_weight=0.0))
  shared = reached(gaps_by_context(alone, params, new.pairs, 1)[0], new.exact)
  print(f"a network without raters: {shared:.1f} %")
  pal, few, spread = {}, {}, np.nan
  for k in PROTOTYPES:
    model = pal_a(size, raters=PEOPLE, prototypes=k)
    params = fit(model, train, losses.pal_logistic)
    weights = model.weights(params, jnp.arange(PEOPLE))
    gaps = gaps_by_weights(model, params, later, weights)
    share = np.asarray(weights)
    pal[k] = (
      reached(gaps, known.exact[:, KEPT:]),
      float(share.max(-1).mean()),
      purity(share, known.group),
    )
    few[k] = {}
    for shots in SHOTS:
      own = fitted_weights(model, params, new.pairs, shots)
      rest = gaps_by_weights(model, params, new.pairs[:, KEPT:], own)
      few[k][shots] = reached(rest, new.exact[:, KEPT:])
    if k == 1:
      same = jnp.broadcast_to(new.pairs[:1], (PEOPLE, *new.pairs.shape[1:]))
      every = gaps_by_weights(model, params, same, weights)
      spread = float(np.abs(every - every[:1]).max())
    print(f"PAL, {k} prototypes: {pal[k]}, new raters {few[k]}")
  return Results(
    {
      "shared": limit(new.shared, new.exact),
      "grouped": limit(new.exact, new.exact),
    },
    by_shots,
    units,
    trap,
    latents,
    new.group,
    shared,
    pal,
    few,
    spread,
    two_groups(),
  )


# --------------------------------------------------------------------- report


def claims_of(r: Results) -> list[Claim]:
  """The papers' claims about these raters."""
  finding = lambda paper, claim, ours, holds: Claim(
    paper, claim, ours, holds, True
  )
  percent = lambda row: ", ".join(f"{n}: {x:.1f}" for n, x in row.items())
  own, low, high = r.vpl[MAIN], r.limits["shared"], r.limits["grouped"]
  nll, chance, known = r.opposed
  best = max(max(row.values()) for row in r.vpl.values())
  most = max(max(row.values()) for row in r.shots.values())
  return [
    finding(
      VPL,
      "two opposed groups: a shared reward is at chance, log 2 = 0.693 nats at"
      " best, and one known pair of the rater suffices for nearly all others",
      f"new raters: shared NLL {nll:.3f}, {chance:.1f} %; VPL {known:.1f} %",
      abs(chance - 50) < 2 and nll > np.log(2) - 1e-3 and known > 97,
    ),
    Claim(
      "derived",
      "no model exceeds the limit of the groups' probabilities, in expected"
      " accuracy",
      f"limit {high:.2f} %; best of VPL {best:.2f}, best of PAL {most:.2f}",
      max(best, most) <= high + 1e-9,
    ),
    finding(
      "derived",
      "no model without the rater exceeds the shared limit",
      f"limit {low:.2f} %; a network without raters {r.shared:.2f}, VPL without"
      f" context {own[0]:.2f}, PAL of one prototype {r.shots[1][0]:.2f}",
      max(r.shared, own[0], r.shots[1][0]) <= low,
    ),
    finding(
      VPL,
      "accuracy on new raters rises with the number of known pairs, from the"
      " shared limit to near the groups'",
      f"known pairs: %: {percent(own)}",
      own[0] < low + 0.5 and own[8] > high - 3,
    ),
    finding(
      VPL,
      "a large weight of the KL shuts units of the latent, and costs accuracy",
      "weight: active units of 16, % with 8 known pairs: "
      + "; ".join(f"{w:g}: {n}, {r.vpl[w][8]:.1f}" for w, n in r.units.items()),
      r.units[WEIGHTS[-1]] < r.units[MAIN]
      and r.vpl[WEIGHTS[-1]][8] < own[8] - 2,
    ),
    finding(
      VPL,
      "scaling vectors in training only, as the public code does, costs"
      " accuracy (our question)",
      f"scaled in training only: {percent(r.trap)}",
      r.trap[8] < own[8] - 0.5,
    ),
    Claim(
      PAL,
      "one prototype is one ideal point, the same for all raters",
      f"largest difference of scores between raters {r.spread:.1g}",
      r.spread == 0,
    ),
    finding(
      PAL,
      "two or more prototypes serve known raters far above the shared limit",
      "prototypes: % on their other pairs, mean largest weight, % of raters"
      " with their group's largest prototype: "
      + "; ".join(
        f"{k}: {a:.1f}, {w:.2f}, {of:.0f}" for k, (a, w, of) in r.pal.items()
      ),
      r.pal[3][0] > low + 10,
    ),
    finding(
      PAL,
      "weights alone place new raters from few pairs",
      f"3 prototypes, known pairs: %: {percent(r.shots[3])}",
      r.shots[3][16] > r.shots[3][0] + 10,
    ),
  ]


def table(r: Results) -> str:
  """Accuracies by number of known pairs, in Markdown."""
  some = lambda n, what: f"{n} {what}" + "s" * (n != 1)
  header = ("model", *(some(n, "pair") for n in SHOTS))
  line = lambda name, row: (name, *(f"{row[n]:.1f} %" for n in SHOTS))
  rows = [
    header,
    ("---",) * len(header),
    *(line(f"VPL, KL weight {w:g}", row) for w, row in r.vpl.items()),
    line(f"VPL, KL weight {MAIN:g}, scaled in training only", r.trap),
    *(
      line(f"PAL-A, {some(k, 'prototype')}", row) for k, row in r.shots.items()
    ),
  ]
  lines = ["| " + " | ".join(row) + " |" for row in rows]
  note = (
    f"Expected accuracy under the exact probabilities of each rater's group, on"
    f" {NEW} raters never seen, by the number of their pairs that are known."
    f" Trained on {PEOPLE} raters with {KEPT} pairs each, one seed, {STEPS:,}"
    f" steps of {BATCH} pairs. Limits: {r.limits['shared']:.1f} % without the"
    f" rater, {r.limits['grouped']:.1f} % with the rater's group."
  )
  return "\n".join([note, "", *lines])


def plane(points: np.ndarray) -> np.ndarray:
  """[N, 2] principal components of [N, Z] points."""
  centred = points - points.mean(0)
  return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def draw_figure(r: Results) -> Figure:
  """Plots inferred raters by group, and accuracy by known pairs."""
  figure = new_figure(11, 4, "A reward model that infers or fits the rater")
  left, right = figure.subplots(1, 2)
  at = plane(r.latents)
  for number, (name, colour) in enumerate(zip(world.GROUPS, PALETTE)):
    some = at[r.group == number]
    left.scatter(*some.T, color=colour, s=18, alpha=0.7, label=name)
  left.set(xlabel="first component", ylabel="second component")
  left.set_title("VPL: new raters, inferred from 8 pairs")
  left.legend(frameon=False)
  place = np.arange(len(SHOTS))
  curves = {
    "VPL": r.vpl[MAIN],
    "PAL-A, 3 prototypes": r.shots[3],
    "PAL-A, 1 prototype": r.shots[1],
  }
  for (name, row), colour in zip(curves.items(), PALETTE):
    right.plot(place, list(row.values()), marker="o", color=colour, label=name)
  for name, value in r.limits.items():
    right.axhline(value, color="#333333", linestyle=":", linewidth=1)
    right.annotate(f"limit, {name}", (0, value + 0.4), fontsize=9)
  right.set_xticks(place, [str(n) for n in SHOTS])
  right.set(xlabel="known pairs of a new rater", ylabel="accuracy, %")
  right.set_title("Accuracy on raters never seen")
  right.legend(frameon=False, loc="center right")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  found = run()
  sys.exit(
    report(
      "raters",
      "Reward models that know the rater",
      claims_of(found),
      lambda: draw_figure(found),
      out,
      table(found),
    )
  )

"""How wrong are judges, and what corrects them?

python -m experiments.papers.simulated_judges --out=runs/papers

FairEval (Wang et al. 2023, arXiv:2305.17926), AlpacaFarm's simulated annotators
(Dubois et al. 2023, arXiv:2305.14387), inverse constitutional AI (Findeis et
al. 2024, arXiv:2406.06560), and general preference models (Zhang et al. 2024,
arXiv:2410.02197) against Bradley-Terry's: with judges and populations whose
probabilities are known. No model of language is trained.
"""

import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.papers import annotator_pools as pools
from experiments.papers import intransitive as forms
from experiments.papers import order_bias as orders
from experiments.papers.claims import Claim, out_folder, report
from jalign.pages.style import PALETTE, new_figure

PARTS = (
  orders.gaussian_claims,
  orders.world_claims,
  pools.farm_claims,
  pools.noise_claims,
  pools.icai_claims,
)


def claims() -> list[Claim]:
  """All claims; in seconds, of which the posts of the world take most."""
  rows = [claim for part in PARTS for claim in part()]
  return [*rows, *forms.claims_of(forms.fits())]


def _lines(rows: list[tuple[str, ...]]) -> str:
  rows = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
  return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def table() -> str:
  """Models of the population, constitutions and people, in Markdown."""
  f = forms.fits()
  limit = lambda name, x: (name, f"{x.nll:.4f}", f"{x.accuracy:.4f}")
  models = [
    ("model", "NLL, nats", "accuracy"),
    *(limit(name, x) for name, x in f.exact.items()),
    limit("limit of every model", f.floor),
  ]
  found = pools.constitutions()
  groups = list(found)
  lists = [
    ("constitution of", "principles", *(f"labels of {g}" for g in groups)),
    *(
      (
        g,
        ", ".join(c.principles),
        *(f"{100 * c.right[h]:.1f} %" for h in found),
      )
      for g, c in found.items()
    ),
  ]
  people = orders.with_people(orders.sampled(3))
  sent = [
    ("judged by people", *(f"{100 * share:g} %" for share in orders.SENT)),
    *((name, *(f"{x:.4f}" for x in curve)) for name, curve in people.items()),
  ]
  return "\n\n".join(
    [
      f"Models of the population with parameters for each of {f.types} types of"
      f" demonstrations, fitted to the exact probabilities of {f.pairs} pairs"
      f" of types, from {forms.PAIRS:,} pairs of demonstrations.",
      _lines(models),
      "Share of held-out labels that a recovered constitution finds.",
      _lines(lists),
      "Accuracy of a judge with a bonus of 0.8 for the first place, three"
      " samples in both orders, when people judge a share of the pairs.",
      _lines(sent),
    ]
  )


def _ticks(axis, at: Sequence[float]) -> None:
  """Plain numbers on a logarithmic axis."""
  axis.set_ticks(at, [f"{x:,}" for x in at])
  axis.set_ticks([], minor=True)


def _draw_orders(axes) -> None:
  gap = np.linspace(0, 5, 200)
  for bonus, colour in zip((0, 0.8, 1.6, 3.2), PALETTE):
    same = orders.same_winner(gap, bonus)
    axes.plot(gap, same, color=colour, label=f"bonus {bonus:g}")
  axes.plot(*zip(*orders.SAME.items()), "o", color="#333333")
  axes.set(xlabel="true gap, log-odds", ylabel="share of equal verdicts")
  axes.set_title("Two drawn verdicts, one in each order (FairEval)")
  axes.legend(frameon=False, fontsize=8)


def _draw_people(axes) -> None:
  for k, style in zip(orders.SAMPLES[:2], (":", "-")):
    curves = orders.with_people(orders.sampled(k))
    for (name, curve), colour in zip(curves.items(), PALETTE):
      axes.plot(
        orders.SENT, curve, style, color=colour, label=f"{name}, k = {k}"
      )
  axes.set(xlabel="share of pairs that people judge", ylabel="accuracy")
  axes.set_title("Which pairs should people judge?")
  axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_ranks(axes) -> None:
  rates = pools.win_rates()
  people = rates.people["population"]
  curves = {
    "people": (people, 0.0),
    "pool": (rates.pool, 0.0),
    "pool, 25 % wrong labels": (rates.pool, pools.NOISE),
  }
  for (name, (rate, share)), colour in zip(curves.items(), PALETTE):
    found = pools.correlations(people, rate, share)
    axes.semilogx(pools.PAIRS, found, "o-", color=colour, label=name)
  exact = float(pools.spearman(rates.pool, people))
  exactly = "pool's exact win rates"
  axes.axhline(exact, color="#333333", linestyle=":", label=exactly)
  _ticks(axes.xaxis, pools.PAIRS[::2])
  axes.set(xlabel="labels of each method", ylabel="Spearman with people")
  axes.set_title(f"Ranks of {len(people)} methods by labels (AlpacaFarm)")
  axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_forms(axes) -> None:
  f = forms.fits()
  for name, colour in zip(forms.SHOWN, PALETTE):
    excess = [x.nll - f.floor.nll for x in f.drawn[name]]
    axes.loglog(forms.LABELS, excess, "o-", color=colour, label=name)
    exact = f.exact[name].nll - f.floor.nll
    axes.axhline(exact, color=colour, linestyle=":", linewidth=1)
  _ticks(axes.xaxis, (1000, 10_000, 100_000, 1_000_000))
  _ticks(axes.yaxis, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1))
  axes.set(xlabel="labels", ylabel="NLL over the limit, nats")
  axes.set_title("Intransitive population; dotted: exact probabilities")
  axes.legend(frameon=False, fontsize=8)


def draw() -> Figure:
  """Draws orders, people, ranks of methods, and forms of models."""
  figure = new_figure(11, 8.2, "How wrong judges are, and what corrects them")
  grid = figure.subplots(2, 2)
  _draw_orders(grid[0, 0])
  _draw_people(grid[0, 1])
  _draw_ranks(grid[1, 0])
  _draw_forms(grid[1, 1])
  return figure


if __name__ == "__main__":
  out, title = out_folder(__doc__), "Simulated judges"
  rows = claims()
  sys.exit(report("simulated_judges", title, rows, draw, out, table()))

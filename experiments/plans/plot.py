"""The plot of docs/scale.md: how a program's needs grow."""

import pathlib

from experiments.plans.figures import FOLDER, Figures, figures, read
from experiments.plans.rows import GROWTH

PATH = pathlib.Path(__file__).resolve().parents[2] / "docs/static/growth.png"
QUANTITIES = {
  "memory": lambda f: f.needs,
  "FLOPs": lambda f: f.flops,
  "gathered bytes": lambda f: f.gathered,
  "reduced bytes": lambda f: f.reduced,
}


def ratios(folder: pathlib.Path = FOLDER) -> dict[str, list[float]]:
  """Quantity -> its factor for each growth, over the first row."""
  made = {name: _first(name, folder) for name in GROWTH}
  base, *others = made.values()
  return {
    quantity: [of(f) / of(base) for f in others]
    for quantity, of in QUANTITIES.items()
  }


def draw(path: pathlib.Path = PATH, folder: pathlib.Path = FOLDER) -> None:
  """Draws the factors, if all plans have been made."""
  if not all(read(name, folder) for name in GROWTH):
    return
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
  groups = [row.about for row in GROWTH.values()][1:]
  width = 0.8 / len(QUANTITIES)
  for i, (quantity, factors) in enumerate(ratios(folder).items()):
    places = [at + i * width for at in range(len(groups))]
    bars = axes.bar(places, factors, width, label=quantity)
    axes.bar_label(bars, fmt="%.2f", fontsize=7)
  axes.axhline(1, color="black", linewidth=0.6)
  axes.set_xticks([at + 1.5 * width for at in range(len(groups))], groups)
  axes.set_ylabel("factor, per device")
  axes.legend(fontsize=7, ncols=len(QUANTITIES), loc="upper left")
  axes.set_ylim(0, 1.3 * max(max(f) for f in ratios(folder).values()))
  figure.savefig(path, dpi=150, metadata={"Software": None})
  pyplot.close(figure)


def _first(name: str, folder: pathlib.Path) -> Figures:
  plan = read(name, folder)
  assert plan is not None, name
  return figures(plan)[0]

"""All pairwise losses on one page for the wall: values and slopes over h.

python experiments/papers/loss_shapes.py --out=runs/loss_shapes.pdf

Each loss has a panel, in families (the modules of `jalign.losses.pairwise`).
Above is the loss. Below are d_w = -dl / d log pi(y_w) and d_l = dl / d log
pi(y_l), which say how hard a step raises the chosen and lowers the rejected
response. The margin h moves both alike: the log-ratios are h / 2 and -h / 2.

Cost: 7 s on 2 CPU cores. The suffix of the file picks PNG, PDF or SVG. The page
is A2, and is readable at A3.
"""

import argparse
import io
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jalign import diagnostics, losses
from jalign.cli import loss_tables
from jalign.files import write_whole
from jalign.pages.style import PALETTE, STYLE, wrapped
from jalign.training.kinds import vocabulary

REFERENCE, LENGTH, REACH = -40.0, 20.0, 40.0
# Hyperparameters for which this scale shows what the papers' defaults hide: a
# target beyond the page, a penalty that dwarfs the rest. Panels state them.
SETTINGS: dict[str, dict[str, float]] = {
  "asft": {"lam": 1.0},
  "dpop": {"beta": 0.1, "lam": 2.0},
  "exo": {"label_smoothing": 0.1},
  "ipo": {"tau": 0.05},
  "ipo_avg": {"tau": 1.0},
  "ipo_soft": {"tau": 0.05},
  "orpo": {"lam": 1.0},
  "slic_hf": {"delta": 10.0},
  "sppo": {"beta": 0.05},
  "sppo_soft": {"beta": 0.05},
  "tpo_l": {"beta": 2.0, "alpha": 0.1},
}
# Values of arrays other than the four log-probs. Any other log-prob is the
# reference's, any other number 1 and any flag true.
ARRAYS: dict[str, float] = {
  "chosen_lengths": LENGTH,
  "rejected_lengths": LENGTH,
  "chosen_scores": 2.0,
  "rejected_scores": 1.0,
  "preference": 0.8,
  "chosen_margin_scores": 0.5,
  "rejected_margin_scores": 0.0,
  "chosen_collision_logps": -30.0,
  "rejected_collision_logps": -30.0,
}
# A curve that grows EXPLODES times beyond NEAR leaves its panel.
NEAR, EXPLODES = 10.0, 20.0
WIDTH, HEIGHT = 23.39, 16.54  # A2, in inches
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.45, 1.3, 0.85
LINES = 3  # most lines of a formula
INK, FAINT = "#222222", "#666666"
CHOSEN, REJECTED, DASHES = PALETTE[0], PALETTE[1], (0, (3, 2))


class Panel(NamedTuple):
  """A loss as the page shows it.

  Attributes:
    name: name in the catalogue.
    family: what the losses of its module have in common.
    formula: the loss, then its letters' meanings unless the footnote has them.
    settings: its hyperparameters.
    values: [N] losses.
    slopes: ([N] d_w, [N] d_l).
  """

  name: str
  family: str
  formula: list[str]
  settings: str
  values: np.ndarray
  slopes: tuple[np.ndarray, np.ndarray]


def inputs(names: Sequence[str], h: jax.Array) -> dict[str, jax.Array]:
  """Arrays [N] or [N, 1, ...], as `vocabulary` has them, for margins h [N]."""
  moved = {
    "chosen_logps": REFERENCE + h / 2,
    "rejected_logps": REFERENCE - h / 2,
  }
  # Equally long responses share all of their tokens.
  moved["chosen_shared_logps"] = moved["chosen_logps"]
  moved["rejected_shared_logps"] = moved["rejected_logps"]
  arrays = {}
  for name in names:
    axes, _, kind = vocabulary("pairs")[name].partition(" ")
    value = ARRAYS.get(name, REFERENCE if name.endswith("logps") else 1.0)
    x = moved.get(name, jnp.full(h.shape, value))
    x = x.reshape(-1, *(1 for _ in axes[1:]))
    arrays[name] = x.astype(bool) if kind == "bool" else x
  return arrays


def evaluate(
  loss: Callable[..., jax.Array], h: np.ndarray
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """[N] values and slopes, pair by pair, since some losses see their batch."""
  names = losses.array_parameters(loss)

  def alone(x):
    arrays = inputs(names, x[None])
    up, down = diagnostics.pulls_of(loss, arrays)
    return loss(**arrays)[0], (up[0], down[0])

  return jax.jit(jax.vmap(alone))(jnp.asarray(h))


def panels(h: np.ndarray) -> list[Panel]:
  """A panel for each loss on pairs, with families together."""
  entries = loss_tables.groups()["pairs"]
  shared = loss_tables.legend(entries)
  shapes = []
  for name, entry in entries.items():
    settings = SETTINGS.get(name, {})
    loss, _ = losses.resolve(name, **settings)

    values, (up, down) = evaluate(loss, h)
    module = sys.modules[entry.function.__module__]
    family = (module.__doc__ or module.__name__).split("\n")[0].rstrip(".")
    own = [c for c in loss_tables.clauses(entry) if c not in shared]
    bound = losses.hyperparameters(loss)
    shapes.append(
      Panel(
        name,
        family,
        own,
        ", ".join(f"{k} = {np.array(v).tolist()}" for k, v in bound.items()),
        np.asarray(values),
        (np.asarray(up), np.asarray(down)),
      )
    )
  order = list(dict.fromkeys(panel.family for panel in shapes))
  return sorted(shapes, key=lambda panel: order.index(panel.family))


def ladder(x: float) -> float:
  """The least of 1, 2, 3 and 5 times a power of ten that is at least x > 0."""
  power = 10.0 ** math.floor(math.log10(x))
  return next(m * power for m in (1, 2, 3, 5, 10) if m * power >= 0.999 * x)


def limits(h: np.ndarray, curves: Sequence[np.ndarray]) -> tuple[float, float]:
  """Round limits around 0; a curve that explodes leaves the panel."""
  y = np.stack(curves)
  near = y[:, np.abs(h) <= NEAR]
  if not np.abs(y).max() <= EXPLODES * np.abs(near).max():  # also for NaN
    y = near
  low, high = min(y.min(), 0), max(y.max(), 0)
  top = ladder(max(high, -low / 4, 1e-6))
  # A dip below 0 is shown, but takes no more than half of the panel.
  bottom = -ladder(min(-low, top)) if low < -0.02 * top else -0.03 * top
  return 1.04 * bottom, 1.04 * top


def draw() -> Figure:
  """Draws the page."""
  h = np.linspace(-REACH, REACH, 321, dtype=np.float32)
  shown = panels(h)
  width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
  columns = math.ceil(math.sqrt(len(shown) * width / height))
  rows = -(-len(shown) // columns)
  width, height = width / columns, height / rows
  figure = Figure(figsize=(WIDTH, HEIGHT))
  _frame(figure, len(shown))
  for i, panel in enumerate(shown):
    row, column = divmod(i, columns)
    left, top = LEFT + column * width, HEIGHT - TOP - row * height
    before = shown[i - 1].family if column else ""
    if panel.family != before:
      run = [p.family for p in shown[i : (row + 1) * columns]]
      span = next((k for k, f in enumerate(run) if f != panel.family), len(run))
      _heading(figure, panel.family, left, top, span * width)
    _cell(figure, panel, h, (left, top, width, height), row == rows - 1)
  return figure


def _text(figure: Figure, x: float, y: float, text: str, **style: Any):
  """Text with its upper left corner at inches from the lower left."""
  style = {"va": "top", "ha": "left", "color": INK} | style
  figure.text(x / WIDTH, y / HEIGHT, text, **style)


def _frame(figure: Figure, count: int) -> None:
  """Draws title, legend and footnote."""
  top = HEIGHT - 0.4
  title = f"The shapes of {count} losses on preference pairs"
  _text(figure, LEFT, top, title, fontsize=26, weight="bold")
  _text(
    figure,
    LEFT,
    top - 0.5,
    "Over the margin h = (log pi/ref)(chosen) - (log pi/ref)(rejected), from"
    f" {-REACH:g} to {REACH:g} nats. Above: the loss l. Below: how hard a step"
    " raises the chosen response and lowers the rejected one.",
    fontsize=12,
    color=FAINT,
  )
  legend = {
    "loss l": Line2D([], [], color=INK, linewidth=2.2),
    "d_w = -dl / d log pi(y_w)": Line2D([], [], color=CHOSEN, linewidth=2.6),
    "d_l = dl / d log pi(y_l)": Line2D(
      [], [], color=REJECTED, linewidth=2, linestyle=DASHES
    ),
    "below 0: chosen falls, or rejected rises": Patch(color=CHOSEN, alpha=0.18),
  }
  figure.legend(
    legend.values(),
    legend.keys(),
    loc="upper right",
    bbox_to_anchor=(1 - RIGHT / WIDTH, 1 - 0.32 / HEIGHT),
    ncols=2,
    frameon=False,
    fontsize=11.5,
  )
  letters = ";  ".join(loss_tables.legend(loss_tables.groups()["pairs"]))
  _text(
    figure,
    LEFT,
    0.62,
    f"{letters}.\nLog-ratios are h / 2 and -h / 2; the reference gives both"
    f" responses {REFERENCE:g} nats. Lengths {LENGTH:g}; scores 2, 1; p = 0.8."
    " A pair is a batch of its own. Limits are round numbers; a curve that"
    " explodes leaves its panel.",
    fontsize=10,
    color=FAINT,
    linespacing=1.5,
  )


def _heading(
  figure: Figure, family: str, left: float, top: float, width: float
) -> None:
  """Draws a family's name above a rule over its panels of this row."""
  x, y = left + 0.04, top - 0.31
  lines = wrapped(family, max(int(width * 13), 12), 2)
  _text(figure, x, y, lines, va="bottom", fontsize=9.5, color=FAINT)
  ends = [x / WIDTH, (left + width - 0.12) / WIDTH]
  height = [(y - 0.05) / HEIGHT] * 2
  figure.add_artist(Line2D(ends, height, color="#BBBBBB", linewidth=1))


def _cell(
  figure: Figure,
  panel: Panel,
  h: np.ndarray,
  box: tuple[float, float, float, float],
  last: bool,
) -> None:
  """Draws a loss: its name, formula, values and slopes."""
  left, top, width, height = box
  scale = min(1.0, width / 3)
  top -= 0.41  # room for the heading of a family
  _text(
    figure, left + 0.04, top, panel.name, fontsize=13 * scale, weight="bold"
  )
  size = 7.8 * scale
  line = 1.25 * size / 72
  characters = int((width - 0.12) * 72 / (0.53 * size))
  formula = "\n".join(wrapped(part, characters) for part in panel.formula)
  if formula.count("\n") >= LINES:
    formula = wrapped(", ".join(panel.formula), characters, LINES)
  style: dict[str, Any] = {"fontsize": size, "linespacing": 1.25}
  top -= 0.25 * scale
  _text(figure, left + 0.04, top, formula, color=FAINT, **style)
  settings = wrapped(panel.settings, characters, 1)
  below_formula = top - line * (formula.count("\n") + 1)
  _text(figure, left + 0.04, below_formula, settings, **style)
  top -= (LINES + 1) * line + 0.09
  bottom = box[1] - height + 0.3
  x, wide = left + 0.42, width - 0.56
  tall = top - bottom
  share = 0.47 * tall
  value = _axes(figure, x, top - share, wide, share)
  value.plot(h, panel.values, color=INK, linewidth=2)
  value.set_ylim(limits(h, [panel.values]))
  value.tick_params(labelbottom=False)
  below = _axes(figure, x, bottom, wide, tall - share - 0.13)
  up, down = panel.slopes
  for d, colour, dashes, thick in (
    (up, CHOSEN, "-", 2.4),
    (down, REJECTED, DASHES, 1.8),
  ):
    below.plot(h, d, color=colour, linestyle=dashes, linewidth=thick)
    below.fill_between(
      h, d, 0, where=d < 0, color=colour, alpha=0.18, linewidth=0
    )
  below.set_ylim(limits(h, [up, down]))
  below.axhline(0, color="#888888", linewidth=0.8)
  if last:
    below.set_xlabel("h (nats)", fontsize=8, color=FAINT, labelpad=1)


def _axes(figure: Figure, x: float, y: float, width: float, height: float):
  axes = figure.add_axes(
    (x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT)
  )
  axes.set_xlim(-REACH, REACH)
  axes.set_xticks([-REACH, 0, REACH])
  axes.locator_params(axis="y", nbins=4)
  axes.axvline(0, color="#BBBBBB", linewidth=0.8)
  axes.tick_params(labelsize=7.5, length=2, pad=2)
  return axes


def main(argv: Sequence[str] | None = None) -> None:
  """Draws the page into a file."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--out", required=True, help=".png, .pdf or .svg")
  out = pathlib.Path(parser.parse_args(argv).out)
  kind = out.suffix[1:].lower()
  if kind not in ("png", "pdf", "svg"):
    parser.error(f"--out={out}: the name must end in .png, .pdf or .svg.")
  page = io.BytesIO()
  with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}):
    draw().savefig(page, format=kind, dpi=150)
  write_whole(out, page.getvalue())
  print(out)


if __name__ == "__main__":
  main()

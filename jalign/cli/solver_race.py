"""`python -m jalign.games`: solvers of a game race to its equilibrium.

Prints the equilibrium, what a Bradley-Terry reward makes of the game, and how
exploitable each solver's policy is over the steps; draws the curves.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from jalign.errors import UserError
from jalign.games import (
  bradley_terry_fit,
  exploitability,
  nash,
  regularized_nash,
  run,
  solvers,
)
from jalign.games.examples import EXAMPLES, Example
from jalign.pages.style import STYLE, new_figure, run_colours, save_figure

PROGRAM = "python -m jalign.games"
_FLOOR = 1e-16  # rounding, below which a log scale shows noise


def main(argv: Sequence[str] | None = None) -> None:
  """Solves a game by every method."""
  parser = argparse.ArgumentParser(PROGRAM, description=__doc__)
  parser.add_argument(
    "game", nargs="?", default="golden", help=f"one of {', '.join(EXAMPLES)}"
  )
  parser.add_argument("--tau", type=float, default=0.1, help="KL strength")
  parser.add_argument("--steps", type=int, default=1000)
  parser.add_argument("--out", default="runs/games", help="folder of the plot")
  args = parser.parse_args(argv)
  try:
    _race(args.game, args.tau, args.steps, args.out)
  except UserError as e:
    print(e.paragraph(PROGRAM), file=sys.stderr)
    sys.exit(2)
  except BrokenPipeError:  # `| head` has read enough; Python would complain
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _race(name: str, tau: float, steps: int, out: str) -> None:
  if name not in EXAMPLES:
    raise UserError(f"no game {name!r}: one of {', '.join(EXAMPLES)}.")
  if not tau > 0:
    raise UserError(f"{tau} must be > 0.", where="--tau")
  if steps < 1:
    raise UserError(f"{steps} must be >= 1.", where="--steps")
  game = EXAMPLES[name]()
  _describe(name, game, tau)
  curves = {}
  print(f"\nexploitability after {'':<13}", end="")
  marks = sorted({m for m in (1, 10, 100, 1000, 10000) if m < steps} | {steps})
  print("".join(f"{m:>10}" for m in marks), flush=True)
  for label, (solver, size) in entrants(tau).items():
    with warnings.catch_warnings(record=True) as said:
      warnings.simplefilter("always", UserWarning)
      race = run(solver, *game[:2], tau, steps=steps, step_size=size)
    curve = np.asarray(race.exploitability)
    curves[label] = curve
    values = "".join(f"{curve[m]:>10.1e}" for m in marks)
    orbits = any("orbit" in str(w.message) for w in said)
    print(f"{label:<34}{values}{'  beyond its bound' if orbits else ''}")
  path = _draw(name, tau, curves, out)
  print(f"\n{path}")


def entrants(tau: float) -> dict[str, tuple]:
  """Solvers with steps in the range of their theory, where it has one."""
  return {
    "Nash Mirror Prox, step 2": (solvers.nash_mirror_prox(), 2.0),
    "EGPO, step 1": (solvers.extragradient(), 1.0),
    "Nash-MD, decaying steps": (solvers.nash_md(), solvers.decaying(tau)),
    "Nash-MD, step 1": (solvers.nash_md(), min(1.0, 1 / tau)),
    "mirror descent (INPO), step 1": (solvers.online_mirror_descent(), 1.0),
    "policy gradient, step 1": (solvers.policy_gradient(), 1.0),
    "policy gradient, mix_ref 1/8": (solvers.policy_gradient(0.125), 1.0),
    "fictitious play": (solvers.fictitious_play(), _harmonic),
    "MWU (SPPO), step 0.1, no pull": (solvers.multiplicative_weights(), 0.1),
  }


def _harmonic(t):
  return 1 / (t + 2.0)


def _describe(name: str, game: Example, tau: float) -> None:
  equilibrium = regularized_nash(*game[:2], tau)
  print(f"{name}: {len(game.actions)} actions, tau {tau:g}\n")
  rows = {
    "reference": game.reference,
    f"Nash at tau {tau:g}": equilibrium,
    "plain Nash": nash(game.preferences),
  }
  try:
    reward = np.asarray(bradley_terry_fit(game.preferences))
    logits = np.log(game.reference) + reward / tau
    policy = np.exp(logits - logits.max())
    rows["RLHF on a fitted reward"] = policy / policy.sum()
  except UserError:
    pass  # certain preferences: no finite reward to show
  shown = game.actions[:8]
  more = "  ..." if len(game.actions) > len(shown) else ""
  print(f"{'':<26}{''.join(f'{a:>11}' for a in shown)}{more}  exploitability")
  for label, policy in rows.items():
    gap = float(exploitability(policy, *game[:2], tau))
    row = "".join(f"{p:>11.6f}" for p in np.asarray(policy)[: len(shown)])
    print(f"{label:<26}{row}{more}  {gap:.1e}")


def _draw(name: str, tau: float, curves: dict[str, np.ndarray], out: str):
  import matplotlib

  with matplotlib.rc_context(STYLE):
    title = f"How exploitable each solver's policy is: {name}, tau {tau:g}"
    figure = new_figure(8, 4.5, title)
    axes = figure.subplots()
    for label, (colour, line) in run_colours(list(curves)).items():
      y = np.maximum(curves[label], _FLOOR)
      axes.loglog(np.arange(1, len(y) + 1), y, line, color=colour, label=label)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_formatter("{x:g}")
    axes.set_xlabel("iterates (1 is the reference)")
    axes.set_ylabel("exploitability (share of comparisons)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return save_figure(figure, f"{out}/{name}.png")

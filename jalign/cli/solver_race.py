"""`python -m jalign.games` lets solvers of a game race to its equilibrium.

The command prints the equilibrium, the policy of a Bradley-Terry reward fitted
to the game, and how exploitable each solver's policy is over the steps, and
draws the curves.
"""

import sys
import warnings
from collections.abc import Sequence

import numpy as np

from jalign.cli.parsing import Flag, Values, command, number, whole
from jalign.cli.terminal import guarded
from jalign.errors import UserError, nearest
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
_FLOOR = 1e-16  # below it are rounding errors, which a log scale would show


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of `python -m jalign.games`; exits the process."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  guarded(PROGRAM, lambda: _games(PROGRAM, arguments))


def _examples() -> str:
  return f"games: {', '.join(EXAMPLES)}"


@command(
  Flag("tau", "X", "strength of the KL regularisation, > 0", 0.1, number),
  Flag("steps", "N", "iterates of each solver", 1000, whole(1)),
  Flag("out", "DIR", "folder of the plot", "runs/games"),
  words="[GAME]",
  more=_examples,
)
def _games(values: Values) -> None:
  """Lets solvers of a preference game race to its equilibrium.

  The command prints the equilibrium, the policy of a Bradley-Terry reward
  fitted to the game, and how exploitable each solver's policy is over the
  steps, and draws the curves. GAME is golden by default.

  example:
    python -m jalign.games golden --tau=0.05 --steps=2000
  """
  if len(values.words) > 1:
    raise UserError("give one GAME at most.")
  if not values.tau > 0:
    raise UserError(f"{values.tau} must be > 0.", where="--tau")
  name = values.words[0] if values.words else "golden"
  if name not in EXAMPLES:
    raise UserError(f"no game {name!r}.", remedy=nearest(name, EXAMPLES))
  _race(name, values.tau, values.steps, values.out)


def _race(name: str, tau: float, steps: int, out: str) -> None:
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
  """Returns solvers, with step sizes that their theory allows if it has any."""
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
    pass  # certain preferences have no finite reward to show
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

"""The methods of `nlhf_table`, and the order in which cells are trained.

All methods draw 64 or 96 responses a step and take equally many steps, with the
same optimiser. The strength of the pull to the SFT policy differs in meaning
from method to method, so that only frontiers are compared, never equal numbers.
"""

import itertools
import time
from collections.abc import Iterable, Iterator

from experiments.papers.nlhf_cells import (
  RESPONSE_STEPS,
  Bench,
  Cell,
  Method,
  load_params,
  make,
  of_reference,
  path_of,
)
from jalign.online import ALGORITHMS

RESPONSE = "responder"  # method of a trained best responder


_TAU = (0.1, 0.05, 0.03, 0.2)
_BETA = (0.3, 0.1, 1.0)


def _game(title: str, name: str, prompts: int = 32, **settings) -> Method:
  row = ALGORITHMS[name]
  return Method(
    title, row, "tau", _TAU, game=True, prompts=prompts, settings=settings
  )


METHODS: dict[str, Method] = {
  "online_ipo": _game("Online IPO", "online_ipo"),
  "rlhf_dpo": Method(
    "RLHF, by online DPO", ALGORITHMS["online_dpo"], "beta", _BETA, fitted=True
  ),
  "rloo": Method(
    "RLHF, RLOO",
    ALGORITHMS["rloo"],
    "beta",
    _BETA,
    fitted=True,
    prompts=16,
    settings={"samples": 4},
  ),
  "ipo_md": _game("IPO-MD", "ipo_md"),
  "nash_md": _game("Nash-MD", "nash_md", 48),
  "online_dpo": Method("Online DPO", ALGORITHMS["online_dpo"], "beta", _BETA),
  "self_play": _game("Self-play", "self_play"),
  "nash_mirror_prox": _game(
    "Mirror Prox", "nash_mirror_prox", 48, inner=5, step=2.0
  ),
  "inpo": _game("INPO", "inpo", eta=0.25),
  "dpo": Method(
    "DPO, offline",
    of_reference(ALGORITHMS["online_dpo"]),
    "beta",
    _BETA,
    rate=5e-4,
  ),
  "egpo": _game("EGPO", "egpo", 48),
  "nash_ema": _game("Nash-EMA", "nash_ema", 48, decay=0.98),
  "ppo": Method(
    "RLHF, PPO",
    ALGORITHMS["ppo"],
    "beta",
    _BETA,
    fitted=True,
    rate=5e-4,
    settings={
      "samples": 2,
      "passes": 2,
      "minibatches": 2,
      "whiten": True,
      "value_clip": 0.5,
    },
    steps=70,
  ),
  "sppo": Method(
    "SPPO",
    ALGORITHMS["sppo"],
    "eta",
    (1.0, 2.0, 0.5),
    game=True,
    prompts=16,
    settings={"samples": 4},
  ),
}


_RESPONDER = Method(
  "Best response",
  ALGORITHMS["best_response"],
  "tau",
  (0.005,),
  prompts=48,
  steps=RESPONSE_STEPS,
)


# What is trained first, where not all can be.
_MAIN = ("rlhf_dpo", "online_ipo", "rloo", "ipo_md", "self_play", "nash_md")


def _sweep(
  judge: str, at: int, seed: int = 0, names: Iterable[str] = METHODS
) -> Iterator[Cell]:
  for name in names:
    if at < len(METHODS[name].strengths):
      yield Cell(judge, name, METHODS[name].strengths[at], seed)


def _responders(judge: str, names: Iterable[str] = METHODS) -> Iterator[Cell]:
  """A best response to the middle policy of each method."""
  for name in names:
    target = Cell(judge, name, METHODS[name].strengths[0])
    strength = _RESPONDER.strengths[0]
    yield Cell(judge, RESPONSE, strength, 0, target.name.partition("/")[2])


def order() -> list[Cell]:
  """All cells, the most important first."""
  parts = (
    _sweep("cycle", 0),
    _sweep("cycle", 1),
    _sweep("gold", 0),
    _sweep("cycle", 2, names=_MAIN),
    _sweep("gold", 1, names=_MAIN[:4]),
    _responders("cycle", _MAIN[:4]),
    _sweep("cycle", 1, 1, _MAIN[:4]),
    _sweep("gold", 2, names=("rlhf_dpo", "rloo")),
    _sweep("gold", 1, names=_MAIN),
    _sweep("learned", 0, names=_MAIN[:2]),
    _sweep("cycle", 0, 1, _MAIN[:4]),
    _sweep("cycle", 2),
    _sweep("learned", 0, names=_MAIN[:4]),
    _sweep("cycle", 0, 1),
    _sweep("gold", 1),
    _sweep("cycle", 1, 1),
    _responders("cycle"),
    _sweep("gold", 2),
    _sweep("learned", 0),
    *(_sweep("cycle", at, 2) for at in (0, 1)),
    _sweep("cycle", 2, 1),
    _sweep("cycle", 2, 2),
    _sweep("cycle", 3),
    _responders("gold"),
    *(_sweep("gold", at, seed) for seed in (1, 2) for at in (0, 1)),
  )
  return list(dict.fromkeys(itertools.chain(*parts)))


def train_missing(bench: Bench, deadline: float) -> None:
  """Trains cells that have no file, in their order.

  Args:
    bench: what all cells share.
    deadline: `time.monotonic()` after which no cell is begun.
  """
  for cell in order():
    if path_of(cell).exists():
      continue
    if time.monotonic() > deadline:
      break
    began = time.monotonic()
    if cell.target:
      path = path_of(cell).parent / f"{cell.target}.npz"
      if not path.exists():
        continue
      target = load_params(path, bench.start.params)
      got = make(bench, cell, _RESPONDER, reference=target)
    else:
      got = make(bench, cell, METHODS[cell.method])
    print(
      f"{time.strftime('%H:%M:%S')} {cell.name}:"
      f" {time.monotonic() - began:.0f} s, KL {got.ratios.mean():.2f},"
      f" {got.tokens.mean():.1f} tokens,"
      f" {100 * got.attributes[..., 0].mean():.1f} % grammatical",
      flush=True,
    )

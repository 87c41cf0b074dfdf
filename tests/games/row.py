"""The record of an online algorithm in exact terms."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.games.world import Here

Objective = Callable[[jax.Array, Here], jax.Array]


class Row(NamedTuple):
  """An online algorithm on the enumerated game.

  Attributes:
    objective: `(tokens, here) -> []`, a function of the log-probs [N, L] of all
      responses' tokens under the policy, written from the paper's formula in
      float64; its gradient is the expected gradient of an update.
    speed: learning rate of the exact descent to `point`.
    loss: hyperparameters of the loss.
    settings: hyperparameters of the algorithm.
    mix_ref: the reference's weight in the mixture.
    point: gives the policy [N] at which training settles, by theory; None if it
      has no closed form and is found by descent.
    carry: `(carry that keeps KEPT, KEPT) -> carry` that the round is played
      with; None for the carry that starts at KEPT.
    held: whether the carry goes on keeping the start, instead of following
      the policy.
    rate: learning rate of Adam in training, at first.
    steps: number of rounds of training.
    prompts: number of prompts in the test of the gradient; a round of training
      has a sixteenth of them.
    why: what the row is biased by, or where it doesn't settle; "" if neither.
    settles: whether training settles at a point.
  """

  objective: Objective
  speed: float = 1.0
  loss: Mapping[str, Any] = {}
  settings: Mapping[str, Any] = {}
  mix_ref: float = 0.4
  point: Callable[[], np.ndarray] | None = None
  carry: Callable[[Any, Any], Any] | None = None
  held: bool = False
  rate: float = 0.05
  steps: int = 300
  prompts: int = 16384
  why: str = ""
  settles: bool = True

"""Gridworlds small enough to solve, and all the segments that occur in them.

Returns are not discounted unless asked for, so that episodes of different
lengths count as they are. Temperature 0 is ordinary reinforcement learning;
above 0, the entropy of the policy counts as reward.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Walls #, cells . and the ends: a far goal G, a near exit e, pits X.
GRID = (
  "....G",
  ".#.X.",
  "...#.",
  "e....",
)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
BONUS = {"G": 6.0, "e": 1.5, "X": -4.0, ".": 0.0}
SLIPS = {"certain": 0.0, "slippery": 0.2}
LENGTH = 3  # steps of a segment
ALPHA = 0.5  # temperature of maximum-entropy optima


class Mdp(NamedTuple):
  """A decision process with ends, which are absorbing.

  Attributes:
    transitions: [S, A, S] probabilities of the next state.
    rewards: [S, A, S] reward of each transition; 0 from an end.
    ends: [S] bool.
  """

  transitions: np.ndarray
  rewards: np.ndarray
  ends: np.ndarray


class Optimum(NamedTuple):
  """Optimal values V [S], Q [S, A], and A = Q - V [S, A]."""

  v: np.ndarray
  q: np.ndarray
  a: np.ndarray


class Segments(NamedTuple):
  """Segments of at most T steps.

  Attributes:
    states: [N, T + 1] states; after an end, the end.
    actions: [N, T] actions; 0 after an end.
    mask: [N, T] bool, True on steps before the end.
    law: [N] probabilities of the segments.
  """

  states: np.ndarray
  actions: np.ndarray
  mask: np.ndarray
  law: np.ndarray

  def take(self, rows: np.ndarray) -> "Segments":
    """Some of the segments, with their law among themselves."""
    subset = Segments(*(x[rows] for x in self))
    return subset._replace(law=subset.law / subset.law.sum())

  def values(self, table: np.ndarray) -> np.ndarray:
    """[N, T] entries of a table [S, A] or [S, A, S] at the segments' steps."""
    at = (self.states[:, :-1], self.actions, self.states[:, 1:])
    return table[at[: table.ndim]] * self.mask


def cells() -> list[tuple[int, int]]:
  """(row, column) of each state."""
  return [
    (i, j)
    for i, row in enumerate(GRID)
    for j, kind in enumerate(row)
    if kind != "#"
  ]


def gridworld(slip: float, step: float = -1.0) -> Mdp:
  """The grid as a process; a move may slip to either side of its aim.

  Args:
    slip: probability of slipping, half of it to either side.
    step: reward of each step, beside the bonus of the cell that it enters.
  """
  at = cells()
  index = {cell: s for s, cell in enumerate(at)}
  bonus = np.array([BONUS[GRID[i][j]] for i, j in at])
  ends = bonus != 0
  p = np.zeros((len(at), len(MOVES), len(at)))
  for s, (i, j) in enumerate(at):
    for a in range(len(MOVES)):
      for turn, chance in ((0, 1 - slip), (1, slip / 2), (-1, slip / 2)):
        di, dj = MOVES[(a + turn) % len(MOVES)]
        p[s, a, index.get((i + di, j + dj), s)] += chance
  p[ends] = np.eye(len(at))[ends][:, None]
  rewards = np.where(ends[:, None, None], 0.0, step + bonus) + 0 * p
  return Mdp(p, rewards, ends)


def lottery(win: float, loss: float) -> Mdp:
  """A choice: nothing for certain, or a win or a loss with equal chances."""
  p, rewards = np.zeros((2, 4, 2, 4))
  p[0] = [[0, 1, 0, 0], [0, 0, 0.5, 0.5]]  # 1 nothing, 2 the win, 3 the loss
  p[1:] = np.eye(4)[1:, None]
  rewards[0] = [0, 0, win, -loss]
  return Mdp(p, rewards, np.arange(4) > 0)


def shaped(mdp: Mdp, potential: np.ndarray) -> Mdp:
  """Adds a potential's change [S] to the rewards; it counts as 0 at ends."""
  phi = np.where(mdp.ends, 0.0, potential)
  gain = (phi - phi[:, None])[:, None] * ~mdp.ends[:, None, None]
  return mdp._replace(rewards=mdp.rewards + gain)


def optimum(
  mdp: Mdp, alpha: float = 0.0, discount: float = 1.0, backups: int = 500
) -> Optimum:
  """Value iteration from 0, also for rewards that make it grow without limit.

  Even then the advantages are those of an agent that has `backups` steps left.

  Args:
    mdp: a process with S states and A actions.
    alpha: temperature; Q / alpha are the optimal policy's logits.
    discount: discount per step.
    backups: most iterations; fewer are made once nothing changes.
  """
  v = np.zeros(len(mdp.ends))
  mean = (mdp.transitions * mdp.rewards).sum(-1)
  for _ in range(backups):
    q = mean + discount * mdp.transitions @ v
    top = q.max(-1)
    if alpha:
      top += alpha * np.log(np.exp((q - top[:, None]) / alpha).sum(-1))
    new = np.where(mdp.ends, 0.0, top)
    still, v = np.abs(new - v).max() < 1e-14, new
    if still:
      break
  return Optimum(v, q, q - v[:, None])


def mean_return(
  mdp: Mdp, policy: np.ndarray, alpha: float = 0.0, steps: int = 200
) -> float:
  """Mean return of episodes from a uniform start, cut after some steps; exact.

  Args:
    mdp: a process with S states and A actions.
    policy: [S, A] probabilities.
    alpha: weight of the policy's entropy at each step.
    steps: most steps of an episode.
  """
  mean = (mdp.transitions * mdp.rewards).sum(-1)
  entropy = -policy * np.log(np.where(policy > 0, policy, 1.0))
  gain = np.where(mdp.ends, 0.0, (policy * mean + alpha * entropy).sum(-1))
  move = np.einsum("sa,sat->st", policy, mdp.transitions)
  v = np.zeros(len(mdp.ends))
  for _ in range(steps):
    v = gain + np.where(mdp.ends, 0.0, move @ v)
  return float(v[~mdp.ends].mean())


def _grow(mdp: Mdp, rows: list) -> Iterator[tuple]:
  for states, actions, chance in rows:
    s = states[-1]
    count = 1 if mdp.ends[s] else mdp.transitions.shape[1]
    for a in range(count):
      for t in np.flatnonzero(mdp.transitions[s, a]):
        p = chance * mdp.transitions[s, a, t] / count
        yield (*states, t), (*actions, a), p


def segments(mdp: Mdp, length: int) -> Segments:
  """All segments from a uniform start that is no end, by uniform actions."""
  starts = np.flatnonzero(~mdp.ends)
  rows = [((s,), (), 1 / len(starts)) for s in starts]
  for _ in range(length):
    rows = list(_grow(mdp, rows))
  states, actions, law = (np.array(x) for x in zip(*rows))
  return Segments(states, actions, ~mdp.ends[states[:, :-1]], law)


class World(NamedTuple):
  """A gridworld, its optima, and its segments.

  Attributes:
    mdp: the grid.
    hard: the ordinary optimum.
    soft: the optimum at temperature ALPHA.
    policy: [S, A] the policy of the soft optimum; uniform at ends.
    ended: segments of LENGTH steps, or fewer if they reach an end.
    whole: the segments of LENGTH steps.
  """

  mdp: Mdp
  hard: Optimum
  soft: Optimum
  policy: np.ndarray
  ended: Segments
  whole: Segments

  def gain(self, policy: np.ndarray) -> float:
    """Mean return including entropy, which `self.policy` maximises."""
    return mean_return(self.mdp, policy, ALPHA)

  def divergence(self, policy: np.ndarray) -> float:
    """KL(optimal, policy) at temperature ALPHA, averaged over states, nats."""
    live = ~self.mdp.ends
    p, q = self.policy[live], policy[live]
    return float((p * np.log(p / q)).sum(-1).mean())


@functools.cache
def world(name: str) -> World:
  """The world of a name in `SLIPS`."""
  mdp = gridworld(SLIPS[name])
  hard, soft = optimum(mdp), optimum(mdp, ALPHA)
  ended = segments(mdp, LENGTH)
  whole = ended.take(ended.mask.all(1))
  idle = np.full(soft.a.shape, 1 / len(MOVES))
  policy = np.where(mdp.ends[:, None], idle, np.exp(soft.a / ALPHA))
  return World(mdp, hard, soft, policy, ended, whole)

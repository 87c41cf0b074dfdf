"""What does PPO's critic cost, against ReMax's greedy response?

python -m experiments.papers.remax_ppo --out=experiments/results

ReMax (Li et al. 2023, arXiv:2310.10505) replaces the critic by a baseline, the
reward of the greedy response: one more response to decode, but no second
network with moments to train. The paper says that this takes about half of
PPO's memory and about half of its time. Both are measured here on the TL;DR
world's policy: bytes of arrays that live from step to step, bytes of the
program of an update with its temporaries, and processor time of a step.

Decoding is short here (24 tokens), which favours ReMax less than the paper's
hundreds of tokens favour PPO; ratios, not seconds, are what to compare.
"""

import functools
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.papers import policies
from experiments.papers.claims import Claim, out_folder, report
from jalign.data.tldr_world import gold_reward
from jalign.experiment.assemble import assemble
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials
from jalign.feedback import from_reward
from jalign.pages.style import PALETTE, new_figure
from jalign.sharding import make_mesh
from jalign.training.optimizer import OptimizerConfig

LI = "Li et al. 2023, arXiv:2310.10505"
PROMPTS, STEPS, FIRST = 32, 16, 4  # the first steps compile
ONE_PASS = {"passes": 1, "minibatches": 1}


class Cost(NamedTuple):
  """What a step takes.

  Attributes:
    trained: bytes of what is trained, parameters and moments.
    frozen: bytes of the reference and of a reward model of its size.
    update: bytes of the update's program: arguments and temporaries.
    seconds: processor seconds of a step, the median over steps.
  """

  trained: int
  frozen: int
  update: int
  seconds: float

  @property
  def live(self) -> int:
    """Bytes that live from step to step."""
    return self.trained + self.frozen


def bytes_of(tree: Any) -> int:
  """Bytes of a tree's arrays."""
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def cost(name: str, **settings: Any) -> Cost:
  """What a step of an algorithm takes, on the world's policy.

  Args:
    name: name of the algorithm.
    **settings: hyperparameters of the algorithm.
  """
  policy, mesh = policies.world(), make_mesh()
  stage = StageSettings(
    name=name,
    loss={},
    algorithm=name,
    algorithm_settings=settings,
    optimizer=OptimizerConfig(learning_rate=3e-4),
    steps=STEPS,
    batch_size=PROMPTS,
    max_new_tokens=24,
  )
  with jax.set_mesh(mesh):
    assembly = assemble(
      Materials(
        policy.config,
        mesh,
        policy.pairs,
        policy.tokenizer,
        from_reward(gold_reward),
        lambda purpose: stream(0, "remax_ppo", purpose),
      ),
      stage,
      policy.params,
    )
    state, prompts = assembly.init(), assembly.batches()
    prepare = assembly.prepare(policy.params, None)
    trained = bytes_of((state.params, state.opt_state))
    seconds, program = [], None
    for _ in range(STEPS):
      batch = next(prompts)
      jax.block_until_ready(state)
      began = time.process_time()
      placed = prepare(state, batch)
      sums = []
      if program is None:
        lowered = assembly.lower(state, placed.batches[0], policy.params)
        program = lowered.compile().memory_analysis()
      for data in placed.batches:
        state, one = assembly.update(state, data, policy.params)
        sums.append(one)
      if assembly.finish is not None:
        state, _ = assembly.finish(state, placed.values, sums)
      jax.block_until_ready(state)
      seconds.append(time.process_time() - began)
    prompts.close()
  assert program is not None
  return Cost(
    trained,
    2 * bytes_of(policy.params),
    program.argument_size_in_bytes + program.temp_size_in_bytes,
    float(np.median(seconds[FIRST:])),
  )


@functools.cache
def costs() -> dict[str, Cost]:
  """Costs by what is run."""
  return {
    "ReMax": cost("remax"),
    "PPO": cost("ppo", **ONE_PASS),
    "PPO, 4 passes": cost("ppo", passes=4, minibatches=1),
  }


def claims() -> list[Claim]:
  """The claims, measured."""
  found = costs()
  remax, ppo, more = (found[n] for n in ("ReMax", "PPO", "PPO, 4 passes"))
  ratio = lambda name, of=ppo: getattr(remax, name) / getattr(of, name)
  return [
    Claim(
      "derived",
      "ReMax trains half of what PPO trains: a critic of the policy's size"
      " doubles parameters and moments",
      f"{remax.trained / 2**20:.2f} against {ppo.trained / 2**20:.2f} MiB,"
      f" ratio {ratio('trained'):.3f}",
      0.49 < ratio("trained") < 0.51,
    ),
    Claim(
      LI,
      "ReMax takes about half of PPO's memory",
      f"arrays that live from step to step, with the reference and a reward"
      f" model: ratio {ratio('live'):.3f} (5 against 8 networks' worth, .625);"
      f" the update's program with temporaries: ratio {ratio('update'):.3f}",
      ratio("live") < 0.65 and ratio("update") < 0.65,
    ),
    Claim(
      LI,
      "a step of ReMax takes about half of the time of one of PPO",
      f"processor time of a step: ratio {ratio('seconds'):.2f} against one pass"
      f" over the samples, {ratio('seconds', more):.2f} against four",
      0.35 < ratio("seconds") < 0.65,
      finding=True,
    ),
  ]


def draw() -> Figure:
  """Bars of memory and time, in units of PPO's with one pass."""
  found = costs()
  figure = new_figure(6.4, 2.6, "")
  for axes, (name, title) in zip(
    figure.subplots(1, 3),
    (
      ("live", "live arrays"),
      ("update", "program of an update"),
      ("seconds", "processor time of a step"),
    ),
  ):
    unit = getattr(found["PPO"], name)
    for at, (label, one) in enumerate(found.items()):
      share = getattr(one, name) / unit
      axes.bar(at, share, color=PALETTE[at], label=label)
      axes.text(at, share, f"{share:.2f}", ha="center", va="bottom")
    axes.set_xticks(range(len(found)), ["ReMax", "PPO", "PPO\n4 passes"])
    axes.set_title(f"{title} / PPO's", fontsize=8)
    axes.margins(y=0.15)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  sys.exit(report("remax_ppo", "ReMax and PPO", claims(), draw, out))

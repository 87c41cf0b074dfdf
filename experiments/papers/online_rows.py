"""What does each online algorithm reach in the same 100 steps?

python -m experiments.papers.online_rows --out=experiments/results

Every algorithm of `python -m jalign.online`, with the settings of the config
`online`, from the demo's SFT policy: 100 steps of 32 prompts against the gold
reward, whose preferences are sigmoid(2 (r - r')). Settings were tried, not
searched, so that this is a table of what to expect of a config, and no ranking
of methods. A measured algorithm is a file in runs/papers/online_rows, and isn't
measured again.
"""

import functools
import json
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.papers import policies
from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.nlhf_cells import Bench, Sampled
from jalign.configs import online
from jalign.data import tldr_world as world
from jalign.data.tldr_world.summary import Attributes
from jalign.experiment.assemble import assemble
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config.parse import parse
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials
from jalign.experiment.plugins import load_annotator
from jalign.files import write_whole
from jalign.online import ALGORITHMS
from jalign.pages.style import PALETTE, new_figure
from jalign.sharding import make_mesh
from jalign.training import loop
from jalign.training.critic import policy_of

FOLDER = policies.RUNS / "online_rows"
SCALE = 2.0  # of the gold reward's preferences


class Reached(NamedTuple):
  """What an algorithm has reached.

  Attributes:
    wins: win rate over the SFT policy's samples under the gold reward.
    error: standard error of the win rate over posts.
    readers: the same win rate under the population of readers.
    gold: mean gold reward.
    kl: KL to the SFT policy, nats a response.
    grammatical: share of grammatical responses.
    tokens: mean length.
    seconds: of a step, on a machine that also did other work.
  """

  wins: float
  error: float
  readers: float
  gold: float
  kl: float
  grammatical: float
  tokens: float
  seconds: float


def trained(bench: Bench, name: str) -> Sampled:
  """Samples of the policy that an algorithm trains by its config."""
  c = online.get_config(name)
  c.stages = ("align",)
  c.start = ""
  del c["warmup"], c["sft"]
  ((_, values),) = expand(c.to_dict())
  settings = parse(values)
  stage, start, mesh = settings.stage("align"), bench.start, make_mesh()
  with jax.set_mesh(mesh):
    assembly = assemble(
      Materials(
        start.config,
        mesh,
        start.pairs,
        start.tokenizer,
        load_annotator(settings),
        lambda purpose: stream(0, "online_rows", purpose),
      ),
      stage,
      start.params,
    )
    prompts = assembly.batches()
    began = time.perf_counter()
    state = loop.run(
      assembly.init(),
      steps=assembly.steps,
      batches=prompts,
      prepare=assembly.prepare(start.params, None),
      update=assembly.update,
      finish=assembly.finish,
      ref_params=start.params,
      write=lambda step, values: None,
      description=name,
    )
    jax.block_until_ready(state.params)
    seconds = (time.perf_counter() - began) / assembly.steps
    prompts.close()
  params = jax.device_put(jax.device_get(policy_of(state.params)))
  return bench.sampled(params, 0, seconds=seconds, steps=assembly.steps)


def reached(bench: Bench, sampled: Sampled) -> Reached:
  """The numbers of a policy's samples beside the SFT policy's."""
  own, sft = (
    Attributes(*np.moveaxis(x.attributes, -1, 0)) for x in (sampled, bench.sft)
  )
  gold = world.reward(own)
  apart = gold[:, :, None] - world.reward(sft)[:, None, :]
  by_post = (1 / (1 + np.exp(-SCALE * apart))).mean((1, 2))
  each = lambda of, at: Attributes(*(np.expand_dims(x, at) for x in of))
  readers = world.population_rater(each(own, 2), each(sft, 1))
  return Reached(
    float(by_post.mean()),
    float(by_post.std(ddof=1) / np.sqrt(len(by_post))),
    float(np.mean(readers)),
    float(gold.mean()),
    float(sampled.ratios.mean()),
    float(own.grammatical.mean()),
    float(sampled.tokens.mean()),
    sampled.seconds,
  )


@functools.cache
def rows() -> dict[str, Reached]:
  """Name of an algorithm -> what it has reached."""
  found, bench = {}, None
  for name in ALGORITHMS:
    path = FOLDER / f"{name}.json"
    if not path.exists():
      bench = bench or Bench()
      numbers = reached(bench, trained(bench, name))
      path.parent.mkdir(parents=True, exist_ok=True)
      write_whole(path, json.dumps(numbers._asdict()).encode())
      print(name, numbers, flush=True)
    found[name] = Reached(**json.loads(path.read_text()))
  return found


def table() -> str:
  """All algorithms, by name."""
  lines = [
    "100 steps of 32 prompts from one SFT policy, one seed, settings of the"
    " config `online`; win rates over that policy's own samples on 512 held-out"
    " posts, 8 responses each. Not a ranking: settings were tried, not"
    " searched.",
    "",
    "| algorithm | win rate, gold | win rate, readers | gold reward | KL, nats"
    " | grammatical | tokens |",
    "| --- | --- | --- | --- | --- | --- | --- |",
  ]
  for name, row in rows().items():
    lines.append(
      f"| `{name}` | {100 * row.wins:.1f} ± {196 * row.error:.1f} % |"
      f" {100 * row.readers:.1f} % | {row.gold:.2f} | {row.kl:.2f} |"
      f" {100 * row.grammatical:.1f} % | {row.tokens:.1f} |"
    )
  return "\n".join(lines)


def claims() -> list[Claim]:
  """What holds for all algorithms."""
  found = rows()
  worst = min(found, key=lambda name: found[name].wins)
  above = [n for n, row in found.items() if row.wins - 1.96 * row.error > 0.5]
  return [
    Claim(
      "derived",
      "every algorithm gains over the SFT policy under the judge that it learns"
      " from",
      f"{len(above)} of {len(found)}; the least is {worst} with"
      f" {found[worst].wins:.1%}",
      len(above) == len(found),
      finding=True,
    )
  ]


def draw() -> Figure:
  """Win rates and KLs, a line for each algorithm."""
  found = rows()
  figure = new_figure(8, 8, "100 steps by every online algorithm")
  left, right = figure.subplots(1, 2, sharey=True)
  at = np.arange(len(found))
  share = lambda name: [100 * getattr(row, name) for row in found.values()]
  left.plot(share("wins"), at, "o", color=PALETTE[0], label="gold reward")
  left.plot(share("readers"), at, "s", color=PALETTE[1], label="readers")
  left.set_yticks(at, list(found))
  left.invert_yaxis()
  left.set_xlabel("win rate over the SFT policy (%)")
  left.legend(frameon=False, loc="lower left")
  right.plot([row.kl for row in found.values()], at, "o", color=PALETTE[2])
  right.set_xlabel("KL to the SFT policy (nats a response)")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Every online algorithm in the demo's world"
  sys.exit(report("online_rows", title, claims(), draw, out, table()))

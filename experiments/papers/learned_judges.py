"""What does a policy lose that learns from a learned judge?

python -m experiments.papers.learned_judges --out=experiments/results

Online DPO and online IPO in the TL;DR world, from one SFT policy, against three
judges: the exact population of readers, a Bradley-Terry reward model and a
general preference model, both trained on pairs that these readers labelled. The
exact population measures all policies. Where the judge's own win rate rises and
the population's doesn't, the policy exploits the judge (Gao et al. 2022,
arXiv:2210.10760).
"""

import functools
import pathlib
import sys
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.papers import policies
from experiments.papers.claims import Claim, out_folder, report
from jalign.configs import judge, reward_model
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk import lock
from jalign.experiment.run import run_one
from jalign.pages.style import PALETTE, new_figure
from jalign.training.metrics import read_jsonl

GAO = "Gao et al. 2022, arXiv:2210.10760"
RUNS = policies.RUNS / "learned_judges"
MODELS = {  # judge -> loss of the model
  "reward model": "bradley_terry",
  "preference model": "general_preference",
}
EXACT = "exact readers"
ALGORITHMS = {"online_dpo": {"beta": 0.1}, "online_ipo": {"tau": 0.03}}
STEPS, EVERY = 100, 10


class Path(NamedTuple):
  """A policy while it trains.

  Attributes:
    judged: win rates over the start under the judge that it learns from.
    gold: the same under the exact readers.
    kl: KL to the start, nats a response.
    agreement: share of pairs of samples on which the two judges agree.
  """

  judged: list[float]
  gold: list[float]
  kl: list[float]
  agreement: list[float]


def trained(name: str, c) -> pathlib.Path:
  """The folder of a config's run: done, or gone on with."""
  ((_, values),) = expand(c.to_dict())
  folder = RUNS / name
  folders.check(folder, values)
  if not (folder / "report.md").exists():
    with lock.hold(folder):
      run_one(parse(values), values, folder)
  return folder


def model_config(loss: str):
  """The config of a reward or preference model on the readers' labels."""
  c = reward_model.get_config(loss)
  c.stages = ("reward",)
  c.start = ""
  del c["warmup"], c["sft"]
  c.init_from = str(policies.RUNS / "world")
  return c


def policy_config(algorithm: str, folder: pathlib.Path | None):
  """The config of a policy that learns from a model, or from the readers."""
  c = judge.get_config(str(folder))
  c.stages = ("align",)
  c.start = ""
  del c["warmup"], c["sft"]
  c.init_from = str(policies.RUNS / "world")
  c.algorithm = algorithm
  c.loss = ALGORITHMS[algorithm]
  c.steps, c.eval_every, c.save_every = STEPS, EVERY, STEPS // 2
  c.annotator.opponents = ""
  c.sample.prompts = c.sample.eval_prompts = 128
  c.sample.per_prompt = 2
  if folder is None:
    c.annotator.function = c.annotator.gold["function"]
    c.annotator.kind = c.annotator.gold["kind"]
    c.annotator.gold = {}
  return c


@functools.cache
def paths() -> dict[tuple[str, str], Path]:
  """(algorithm, judge) -> how the policy went."""
  policies.world()
  judges: dict[str, pathlib.Path | None] = {EXACT: None}
  for name, loss in MODELS.items():
    judges[name] = trained(loss, model_config(loss))
  found = {}
  for algorithm in ALGORITHMS:
    for name, folder in judges.items():
      run = trained(
        f"{algorithm} {name}".replace(" ", "_"),
        policy_config(algorithm, folder),
      )
      rows = read_jsonl(run / "align" / "metrics.jsonl")
      rows = [row for row in rows if "samples/win_rate" in row]
      of = lambda key, rows=rows: [row[key] for row in rows if key in row]
      judged = of("samples/win_rate")
      found[algorithm, name] = Path(
        judged,
        of("samples/gold_win_rate") or judged,
        of("samples/kl_k1_nats"),
        of("samples/gold_agreement_share"),
      )
  return found


def claims() -> list[Claim]:
  """The claims, measured on the trained policies."""
  found, rows = paths(), []
  for algorithm in ALGORITHMS:
    exact = found[algorithm, EXACT]
    for name in MODELS:
      path = found[algorithm, name]
      rows.append(
        Claim(
          GAO,
          f"{algorithm} on a {name}: the judge's win rate overstates what the"
          " readers see",
          f"at the end {path.judged[-1]:.1%} under the judge,"
          f" {path.gold[-1]:.1%} under the readers (best {max(path.gold):.1%});"
          f" the judges agree on {path.agreement[0]:.0%} of the start's pairs"
          f" and on {path.agreement[-1]:.0%} of the end's",
          path.judged[-1] > path.gold[-1],
          finding=True,
        )
      )
      rows.append(
        Claim(
          "derived",
          f"{algorithm}: the readers themselves teach more than a {name}",
          f"{max(exact.gold):.1%} at best, against {max(path.gold):.1%}",
          max(exact.gold) > max(path.gold),
          finding=True,
        )
      )
  return rows


def table() -> str:
  """All policies at the end of training."""
  lines = [
    f"{STEPS} steps of 32 prompts from one SFT policy, one seed; win rates over"
    " that policy on 128 held-out posts, 2 responses each.",
    "",
    "| algorithm | judge | win rate, judge | win rate, readers | best, readers"
    " | KL, nats |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for (algorithm, name), path in paths().items():
    lines.append(
      f"| {algorithm} | {name} | {path.judged[-1]:.1%} | {path.gold[-1]:.1%} |"
      f" {max(path.gold):.1%} | {path.kl[-1]:.2f} |"
    )
  return "\n".join(lines)


def draw() -> Figure:
  """Win rates against KL: solid under the readers, dashed under the judge."""
  figure = new_figure(10, 4.2, "Policies that learn from learned judges")
  axes = figure.subplots(1, 2, sharey=True)
  for ax, algorithm in zip(axes, ALGORITHMS):
    for colour, name in zip(PALETTE, (EXACT, *MODELS)):
      path = paths()[algorithm, name]
      percent = lambda values: [100 * value for value in values]
      ax.plot(path.kl, percent(path.gold), "o-", ms=3, color=colour, label=name)
      if name != EXACT:
        ax.plot(path.kl, percent(path.judged), "--", color=colour)
    ax.axhline(50, color="0.8", lw=1, zorder=0)
    ax.set_title(algorithm)
    ax.set_xlabel("KL to the start (nats a response)")
  axes[0].set_ylabel("win rate over the start (%)")
  figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    title="learns from (solid: win rate under the readers; dashed: under the"
    " judge itself)",
  )
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  found = claims()
  sys.exit(
    report(
      "learned_judges",
      "Policies that learn from learned judges",
      found,
      draw,
      out,
      table(),
    )
  )

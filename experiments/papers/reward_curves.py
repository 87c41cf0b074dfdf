"""What is lost when a learned reward is optimised, and what shows that.

python -m experiments.papers.reward_curves --out=experiments/results

From the SFT policy of the TL;DR world, policies maximise a Bradley-Terry reward
model of the readers' labels: best-of-n, PPO and online DPO; PPO also on the log
sigmoid of the reward, online DPO also with RPO's term of imitation. Beside the
learned reward stand the readers themselves. A last policy, of online DPO,
maximises a reward model of one half of the labels, and a reward model of the
other half looks on: where the two part, the reward is exploited, which should
take no reader to see (Bai et al. 2022).

All numbers are win rates over SFT's own responses to the same post, so that a
learned reward and the readers have one unit. KL is in nats a response.

Finished work stays in runs/papers. Cost: about 10 minutes of CPU time, by
estimate.
"""

import functools
import sys
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.papers import tldr_runs
from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.reward_courses import (
  BEST,
  DRAWS,
  EACH,
  EVERY,
  HALF,
  NS,
  PLAIN,
  STEPS,
  WAYS,
  Course,
  course,
)
from jalign.pages.style import PALETTE, new_figure

GAO = "Gao et al. 2022, arXiv:2210.10760"
BAI = "Bai et al. 2022, arXiv:2204.05862"
WANG = "Wang et al. 2024, arXiv:2402.00742"
RPO = "Liu et al. 2024, arXiv:2405.16436"
NAMES = (BEST, PLAIN, *WAYS)


def peak(one: Course) -> int:
  """The point of the highest gold win rate."""
  return int(np.argmax(one.gold))


def _fall(one: Course) -> tuple[float, float]:
  """How far gold is below its peak at the end, and the standard error."""
  top = peak(one)
  error = float(np.hypot(one.error[top], one.error[-1]))
  return float(one.gold[top] - one.gold[-1]), error


def gold_claims(courses: Mapping[str, Course]) -> list[Claim]:
  """Of each way of optimising: gold rises, and falls while the reward rises."""
  rows = []
  for name in (BEST, "PPO", PLAIN):
    one = courses[name]
    top, (fall, error) = peak(one), _fall(one)
    rises = one.judged[-1] > one.judged[top]
    rows.append(
      Claim(
        GAO,
        f"{name}: the readers' win rate peaks and falls while the learned one"
        " rises",
        f"readers {one.gold[top]:.1%} at {one.kl[top]:.2f} nats,"
        f" {one.gold[-1]:.1%} at {one.kl[-1]:.2f} nats: {fall:.1%}"
        f" ± {error:.1%} lower; learned {one.judged[top]:.1%} and"
        f" {one.judged[-1]:.1%}",
        bool(rises and fall > 2 * error),
        finding=True,
      )
    )
  return rows


def variant_claims(courses: Mapping[str, Course]) -> list[Claim]:
  """Of the two remedies: how much of the peak is left at the end."""
  rows = []
  for paper, remedy, plain in (
    (WANG, "PPO on the log sigmoid", "PPO"),
    (RPO, "online DPO + SFT", PLAIN),
  ):
    ours, theirs = courses[remedy], courses[plain]
    gain = float(ours.gold[-1] - theirs.gold[-1])
    error = float(np.hypot(ours.error[-1], theirs.error[-1]))
    rows.append(
      Claim(
        paper,
        f"{remedy}: the readers like the end better than that of {plain}",
        f"{ours.gold[-1]:.1%} at {ours.kl[-1]:.2f} nats against"
        f" {theirs.gold[-1]:.1%} at {theirs.kl[-1]:.2f}: {gain:+.1%}"
        f" ± {error:.1%}; best {ours.gold.max():.1%} and"
        f" {theirs.gold.max():.1%}",
        gain > 2 * error,
        finding=True,
      )
    )
  return rows


def half_claims(courses: Mapping[str, Course]) -> list[Claim]:
  """Of two reward models on halves of the labels."""
  one = courses[HALF]
  gap = one.judged - one.other
  return [
    Claim(
      BAI,
      "a reward model of the other half of the labels stops rising with the"
      " maximised one: the gap grows, and no reader is asked",
      f"maximised {one.judged[-1]:.1%}, other half {one.other[-1]:.1%},"
      f" readers {one.gold[-1]:.1%} at {one.kl[-1]:.2f} nats; the gap"
      f" after {EVERY} steps is {gap[1]:.1%}, in the end {gap[-1]:.1%}",
      bool(gap[-1] > gap[1] > 0),
      finding=True,
    )
  ]


@functools.cache
def measured() -> dict[str, Course]:
  """All courses, by name."""
  return {name: course(name) for name in NAMES}


def claims() -> list[Claim]:
  """All claims of this script."""
  courses = measured()
  return [
    *gold_claims(courses),
    *variant_claims(courses),
    *half_claims(courses),
  ]


def table(courses: Mapping[str, Course]) -> str:
  """Where each course ends, and where the readers liked it best."""
  lines = [
    f"{STEPS} steps from one SFT policy, one seed; best-of-n to n = {NS[-1]}."
    f" Win rates over that policy's own {DRAWS} responses to each of"
    f" {tldr_runs.PROMPTS} held-out posts, {EACH} responses of the policy."
    " Online DPO is that of `learned_judges`: 256 pairs of 128 posts.",
    "",
    "| optimised by | KL, nats | learned | readers | readers at best | at KL |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for name, one in courses.items():
    top = peak(one)
    lines.append(
      f"| {name} | {one.kl[-1]:.2f} | {one.judged[-1]:.1%} |"
      f" {one.gold[-1]:.1%} ± {one.error[-1]:.1%} | {one.gold[top]:.1%} |"
      f" {one.kl[top]:.2f} |"
    )
  return "\n".join(lines)


def draw(courses: Mapping[str, Course]) -> Figure:
  """Win rates against sqrt(KL): solid by the readers, dashed as learned."""
  figure = new_figure(
    12, 4.2, "What a learned reward says (dashed), and the readers (solid)"
  )
  axes = figure.subplots(1, 3, sharey=True)
  groups = {
    "three ways to maximise one reward": (BEST, "PPO", PLAIN),
    "two remedies": ("PPO on the log sigmoid", "online DPO + SFT"),
    "two halves of the labels": (HALF,),
  }
  colours = dict(zip(NAMES, PALETTE))
  percent = lambda values: 100 * values
  for ax, (title, names) in zip(axes, groups.items()):
    for name in names:
      one = courses[name]
      d = np.sqrt(np.maximum(one.kl, 0))
      colour = colours[name]
      ax.errorbar(
        *(d, percent(one.gold), 1.96 * percent(one.error)),
        fmt="o-",
        markersize=3,
        color=colour,
        label=name,
      )
      ax.plot(d, percent(one.judged), "--", color=colour)
      if len(one.other):
        ax.plot(d, percent(one.other), ":", color=colour, label="other half")
    ax.axhline(50, color="0.8", lw=1, zorder=0)
    ax.set(title=title, xlabel="sqrt(KL to the start), KL in nats a response")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
  axes[0].set_ylabel("win rate over the start (%)")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "A learned reward, optimised, with the readers beside it"
  found = measured()
  picture = functools.partial(draw, found)
  rows = claims()
  sys.exit(report("reward_curves", title, rows, picture, out, table(found)))

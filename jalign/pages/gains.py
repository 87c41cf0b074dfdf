"""Panels on samples: their rewards, and their gain against distance."""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from jalign.pages.traces import Drawing, Dynamics, Panel, Runs, explain


def rewards(key: str) -> Drawing:
  """Mean reward of samples; for one run, a band of one standard deviation."""

  def draw(axes, runs: Runs, looks) -> bool:
    drawn = False
    for name, run in runs.items():
      mean, spread = run.curve(f"{key}_mean"), run.curve(f"{key}_std")
      if mean is None:
        continue
      drawn = True
      colour = looks[name][0]
      axes.plot(*mean, color=colour)
      if len(runs) == 1 and spread and len(spread[0]) == len(mean[0]):
        low, high = mean[1] - spread[1], mean[1] + spread[1]
        axes.fill_between(mean[0], low, high, color=colour, alpha=0.12)
    axes.set_ylabel("reward")
    return drawn

  return draw


_SPREADS = {
  "rollouts/reward_std": ("all samples", "-"),
  "rollouts/reward_std_within_prompt": ("within a prompt", "--"),
}
_PREFERENCES = {
  "rollouts/preference_certainty": ("certainty, |2p - 1|", "-"),
  "rollouts/win_rate_over_mixture": ("win rate over the mixture", "--"),
  "rollouts/identical_pairs_share": ("identical pairs", ":"),
}


def _styled(lines: Mapping[str, tuple[str, str]], ylabel: str, scale: float):
  """Draws several metrics of a run on the same axes, by line style."""

  def draw(axes, runs: Runs, looks) -> bool:
    drawn = {}
    for name, run in runs.items():
      for key, (label, style) in lines.items():
        curve = run.curve(key)
        if curve is not None:
          steps, values = curve
          axes.plot(steps, scale * values, style, color=looks[name][0])
          drawn[label] = style
    axes.set_ylabel(ylabel)
    explain(axes, drawn)
    return bool(drawn)

  return draw


spreads: Drawing = _styled(_SPREADS, "sd of the reward", 1)
preferences: Drawing = _styled(_PREFERENCES, "%", 100)


def _gain(run: Dynamics):
  """(label, KLs, gains) of a run's held-out samples; None without samples."""
  kl = run.curve("samples/kl_k1_nats")
  own = {k for row in run.rows for k in row if k.startswith("measures/")}
  rewards = sorted(k for k in own if "reward" in k)
  for key in ("samples/reward_mean", *rewards, "samples/win_rate"):
    gain = run.curve(key)
    if gain is None or kl is None or len(gain[1]) != len(kl[1]):
      continue
    if key == "samples/win_rate":
      return "win rate over the start (%)", kl[1], 100 * gain[1]
    what = key.partition("/")[2].removesuffix("_mean").replace("_", " ")
    return f"mean {what}", kl[1], gain[1]
  return None


def gains(runs: Runs) -> list[Panel]:
  """A panel of gain against distance for each start and each kind of gain.

  KL and win rates are relative to the policy that a run started from, so runs
  from different starts don't share an axis.
  """
  groups: dict[tuple[str, str], list[str]] = {}
  for name, run in runs.items():
    measured = _gain(run)
    if measured is not None:
      start = run.start or f"of {name}"
      groups.setdefault((start, measured[0]), []).append(name)
  starts = list(dict.fromkeys(start for start, _ in groups))
  panels = []
  for (start, label), names in groups.items():
    title = "Gain and distance"
    if len(starts) > 1:
      title += f", start {starts.index(start) + 1} of {len(starts)}"
    panels.append(Panel(title, _path(names, label), "", split=True))
  return panels


def _path(names: Sequence[str], label: str) -> Drawing:
  """Draws the samples' gain against the policy's distance, to a last point."""

  def draw(axes, runs: Runs, looks) -> bool:
    for name in names:
      measured = _gain(runs[name])
      assert measured is not None  # `gains` saw to it
      _, kl, gain = measured
      colour = looks[name][0]
      axes.plot(kl, gain, "o-", color=colour, markersize=3)
      axes.plot(kl[-1:], gain[-1:], "o", color=colour, markersize=7)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("KL to the start (nats a response)")
    axes.set_ylabel(label)
    return True

  return draw

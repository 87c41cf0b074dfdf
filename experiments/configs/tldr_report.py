"""The first sections of the demo's report: the world, the cycle, the ceilings.

`config.report` names the function `sections`, which gets an Outcome
(`jalign.experiment.run_report.Outcome`).
"""

import numpy as np
from scipy.optimize import linprog

from jalign.data import tldr_world as world
from jalign.experiment.run_report import Outcome, colours, frontier
from jalign.experiment.tables import interval, percent
from jalign.pages import Figure, Section, Table, plot_cycle, plot_frontier

MEASURES = ("grammatical %", "true clauses %", "words")  # shown first
KL, WINS = "samples/kl_k1_nats", "samples/win_rate"
CYCLE = ("complete plain", "complete sourced", "all but one sourced")


def sections(outcome: Outcome) -> list[Section]:
  """Returns the sections in order; for another config, only the frontier."""
  rows, matrix = outcome.rows, outcome.matrix
  shown = matrix is not None and set(world.SHOWN) <= set(matrix.names)
  needed = {f"measures/{name}" for name in (*MEASURES, "gold reward")}
  measured = all(needed <= set(row) for row in rows)
  if not rows or not shown or not measured:
    return frontier(outcome)
  parts = [_what(outcome), _cycle(outcome)]
  ceiling, references = _ceilings(outcome)
  parts += [_nash(outcome), *frontier(outcome, references), ceiling]
  return [*parts, *_reward(outcome)]


def _what(outcome: Outcome) -> Section:
  rows = [row for row in outcome.rows if WINS in row]
  base = outcome.rows[0]
  text = (
    "A post tells who did what; cue words (importantly, notably, surprisingly,"
    " finally) mark the facts that matter. A good summary states these facts,"
    " briefly, and invents nothing. A small transformer first learns to"
    " summarise from imperfect demonstrations (SFT). Then each method starts"
    " from that same policy and learns from the same judge: a population of"
    " three groups of readers, whose preference is known exactly."
  )
  header = (
    "policy",
    f"wins over {base['name']}",
    "KL (nats)",
    *MEASURES,
    "worst opponent",
    "loses to it",
  )
  return Section(
    "What happened",
    [
      text,
      Table(
        header,
        [
          (
            row["name"],
            percent(row[WINS]) if WINS in row else "",
            interval(row[KL]) if KL in row else "",
            *(f"{row[f'measures/{name}']['mean']:.1f}" for name in MEASURES),
            *_worst(outcome, row["name"]),
          )
          for row in (base, *rows)
        ],
      ),
      f"Win rates over {base['name']} on held-out posts, 95 % intervals"
      " clustered by post. The worst opponent is the policy or fixed summary of"
      " the matrix below that beats this policy most; its win rate is a lower"
      " bound on how far the policy can be exploited.",
    ],
  )


def _worst(outcome: Outcome, name: str) -> tuple[str, str]:
  matrix = outcome.matrix
  if matrix is None:
    return "", ""
  column = matrix.win_rate[:, matrix.names.index(name)].copy()
  column[matrix.names.index(name)] = 0
  worst = int(column.argmax())
  return matrix.names[worst], f"{100 * column[worst]:.1f} %"


def _cycle(outcome: Outcome) -> Section:
  """Shows the cycle on one held-out post, with the verdicts of all readers."""
  prompts = outcome.rows[0]["prompts"]
  text = min(prompts, key=lambda x: len(world.read_post(x).salient))
  post = world.read_post(text)
  texts = [world.archetype(name, post) for name in CYCLE]
  nexts = texts[1:] + texts[:1]
  rates = world.population([text] * 3, texts, nexts)
  path = plot_cycle(
    CYCLE,
    rates.tolist(),
    outcome.folder / "plots" / "cycle.png",
    texts=dict(zip(CYCLE, texts)),
    title="What the population prefers",
  )
  rows = [
    (
      group,
      *(
        f"{100 * world.annotator(rater)([text], [a], [b])[0]:.0f} %"
        for a, b in zip(texts, nexts)
      ),
    )
    for group, rater in world.GROUPS.items()
  ]
  rows.append(("the population", *(f"{100 * rate:.0f} %" for rate in rates)))
  pairs = [f"{a} over {b}" for a, b in zip(CYCLE, (*CYCLE[1:], CYCLE[0]))]
  return Section(
    "A preference that runs in a circle",
    [
      f"*{text.strip()}*",
      Figure(path, "Three summaries of this post."),
      "Each group is consistent: it looks first at coverage, at brevity, or at"
      " being faithful and sourced. The groups' average isn't consistent: for"
      " every answer there is an answer that beats it. No reward can express"
      " that.",
      Table(("group of a third each", *pairs), rows),
    ],
  )


def _nash(outcome: Outcome) -> Section:
  """Shows the exact solution of the game over pure types."""
  posts = outcome.rows[0]["prompts"]
  names = tuple(world.ARCHETYPES)
  texts = {
    name: [world.archetype(name, world.read_post(x)) for x in posts]
    for name in names
  }
  game = np.array(
    [
      [world.population(posts, texts[a], texts[b]).mean() for b in names]
      for a in names
    ]
  )
  nash = _solve(game)
  best = int(game.mean(1).argmax())
  pure = np.eye(len(names))[best]
  table = [
    (label, _mix(mix, names), f"{100 * ((game @ mix).max() - 0.5):.1f}")
    for label, mix in (
      ("maximise a fitted reward", pure),
      ("play the Nash equilibrium", nash),
    )
  ]
  return Section(
    "Why Nash methods exist",
    [
      "Fit a Bradley-Terry reward to this population's verdicts on all pairs of"
      " types of summaries and maximise the reward: the result is one type, and"
      " another type beats it. The Nash equilibrium of the preference mixes"
      " types, and no type beats the mixture. The numbers are exact, over"
      f" {len(names)} pure types and the held-out posts:",
      Table(("strategy", "summaries", "beaten beyond one half by, %"), table),
      "The two strategies tie against each other. The gain of Nash methods is"
      " that no opponent can exploit them, not a higher win rate over a given"
      " opponent. The policies above are trained for minutes; the column 'loses"
      " to it' shows how close each policy comes.",
    ],
  )


def _mix(weights, names) -> str:
  parts = [
    f"{100 * w:.0f} % {name}" for w, name in zip(weights, names) if w > 0.005
  ]
  return ", ".join(parts)


def _solve(game: np.ndarray) -> np.ndarray:
  """Returns a maximin mixture of a symmetric zero-sum game, by linprog."""
  n = len(game)
  solution = linprog(
    np.r_[np.zeros(n), -1],
    A_ub=np.c_[-(game - 0.5).T, np.ones(n)],
    b_ub=np.zeros(n),
    A_eq=np.r_[np.ones(n), 0][None],
    b_eq=[1],
    bounds=[(0, 1)] * n + [(None, None)],
  )
  return solution.x[:n]


def _reward(outcome: Outcome) -> list[Section]:
  """Shows the gold reward, on which no policy was trained, against KL."""
  points = {}
  for row in outcome.rows:
    gold = row["measures/gold reward"]
    kl = row.get(KL, {"mean": 0.0, "low": 0.0, "high": 0.0})
    half = (kl["high"] - kl["low"]) / 2
    points[row["name"]] = (
      *(kl["mean"], half),
      *(gold[key] for key in ("mean", "low", "high")),
    )
  path = plot_frontier(
    points,
    outcome.folder / "plots" / "gold_reward.png",
    xlabel=f"KL to {outcome.rows[0]['name']} (nats a response)",
    ylabel="gold reward (95 % interval)",
    looks=colours(outcome),
  )
  caption = (
    "The gold reward is another judge, on which no policy was trained: 3 for"
    " full coverage, -1.5 for each false clause, -0.05 for each word."
  )
  return [Section("Gold reward", Figure(path, caption))]


def _ceilings(outcome: Outcome) -> tuple[Section, dict[str, float]]:
  """Shows the highest possible win rates over the common start of all runs."""
  matrix, drawn = outcome.matrix, outcome.drawn
  assert matrix is not None
  base = outcome.rows[0]["name"]
  start = matrix.names.index(base)
  beaten = dict(zip(matrix.names, matrix.win_rate[:, start].tolist()))
  fixed = max(world.SHOWN, key=lambda name: beaten[name])
  rows = [(f"the best fixed type: {fixed}", f"{100 * beaten[fixed]:.1f} %")]
  references = {}
  if drawn is not None:
    n = outcome.settings.sample.best_of
    groups = [drawn.texts[i : i + n] for i in range(0, len(drawn.texts), n)]
    best = f"best of {n}"
    posts = [world.read_post(x) for x in drawn.prompts[::n]]
    rater = world.population_rater
    top = world.best_responses(rater, posts, groups).mean()
    fitted = world.cross_fitted(rater, posts, groups).mean()
    rows += [
      (f"{best} of its own samples", f"{100 * beaten[best]:.1f} %"),
      (
        "a best response to half of its samples, over the other half",
        f"{100 * fitted:.1f} %",
      ),
      (f"no response more than, over {n} samples", f"{100 * top:.1f} %"),
    ]
    references = {"upper bound": 100 * top, best: 100 * beaten[best]}
  return (
    Section(
      "Ceilings",
      [
        f"The highest possible win rates over {base}. Best responses are exact:"
        " for each post, everything that raters see of any grammatical summary"
        f" is enumerated. The best response to {base} itself lies between the"
        " last two rows.",
        Table(("answer", f"wins over {base}"), rows),
      ],
    ),
    references,
  )

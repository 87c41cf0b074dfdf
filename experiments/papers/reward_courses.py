"""Policies that maximise a learned reward, measured on their way.

The courses of `reward_curves`: best-of-n of the SFT policy, and policies that
are trained on a Bradley-Terry reward model of the readers' labels. Win rates
are those over the SFT policy's own responses to the same post. Finished courses
stay in runs/papers/reward_curves.
"""

import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.papers import learned_judges, policies, tldr_runs
from experiments.papers.win_rates import best_of, learned, readers
from jalign import losses
from jalign.configs import demo
from jalign.data import tldr_world as world
from jalign.evaluation.clustered import clustered_mean
from jalign.experiment.assemble import assemble
from jalign.experiment.commands.inspect import load_run
from jalign.experiment.config.parse import parse
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials
from jalign.experiment.data.prepare import prepare
from jalign.experiment.judges import tools_of
from jalign.experiment.sampling import SampledTexts
from jalign.feedback import Judge, combine, make_answers
from jalign.files import write_whole
from jalign.losses import Entry
from jalign.online import ALGORITHMS
from jalign.sharding import make_mesh
from jalign.training import loop
from jalign.training.metrics import read_jsonl

FOLDER = policies.RUNS / "reward_curves"
HALVES = {"train_half": "raters[:6000]", "test_half": "raters[6000:12000]"}
STEPS, EVERY, EACH, DRAWS = 60, 10, 4, 128
NS = (1, 2, 4, 8, 16, 32, 64)


class Course(NamedTuple):
  """A policy while it is optimised; N points.

  Attributes:
    kl: [N] KL to the start, nats a response.
    judged: [N] win rates over the start under the reward that is maximised.
    gold: [N] the same under the readers.
    error: [N] standard errors of `gold`, clustered by post.
    other: [N] win rates under the other half's reward model; empty without.
  """

  kl: np.ndarray
  judged: np.ndarray
  gold: np.ndarray
  error: np.ndarray
  other: np.ndarray


class Way(NamedTuple):
  """How a policy is optimised.

  Attributes:
    algorithm: a row of `ALGORITHMS`.
    loss: hyperparameters of the loss.
    settings: hyperparameters of the algorithm.
    rate: learning rate.
    reward: run that trained the reward model.
    log_sigmoid: whether the reward is its log sigmoid.
  """

  algorithm: str
  loss: dict[str, float]
  settings: dict[str, Any] = {}
  rate: float = 1e-3
  reward: str = "bradley_terry"
  log_sigmoid: bool = False


_PPO = Way(
  "ppo",
  {"value_clip": 0.5},
  {"samples": 2, "passes": 2, "minibatches": 2, "whiten": True},
  5e-4,
)
WAYS = {
  "PPO": _PPO,
  "PPO on the log sigmoid": _PPO._replace(log_sigmoid=True),
  "online DPO + SFT": Way("online_rpo", {}),
  "online DPO, half": Way("online_dpo", {"beta": 0.1}, reward="train_half"),
}
BEST, PLAIN, HALF = "best of n", "online DPO", "online DPO, half"
FULL = "bradley_terry"


def reward_config(path: str) -> ConfigDict:
  """The config of a Bradley-Terry reward model on some of the labels."""
  c = learned_judges.model_config("bradley_terry")
  c.data.path = path
  return c


class Judges(NamedTuple):
  """Reward models, and the policy and posts that they are asked about.

  Attributes:
    start: the SFT policy.
    models: run -> judge.
    samples: `DRAWS` of its responses to each post.
    rewards: run -> [posts, DRAWS] rewards of these.
    of: attributes of these, [posts, DRAWS] each.
  """

  start: tldr_runs.Start
  models: dict[str, Judge]
  samples: SampledTexts
  rewards: dict[str, np.ndarray]
  of: world.Attributes


def _rewards(judge: Judge, samples: SampledTexts) -> np.ndarray:
  """[N] rewards of samples."""
  assert judge.reward is not None
  answers = make_answers(samples.prompts, samples.texts)
  return np.asarray(judge.reward(answers), np.float64)


def reward_models() -> dict[str, pathlib.Path]:
  """The runs that trained reward models, which are trained if they aren't."""
  configs = {FULL: learned_judges.model_config(FULL)}
  configs |= {name: reward_config(path) for name, path in HALVES.items()}
  return {name: learned_judges.trained(name, c) for name, c in configs.items()}


@functools.cache
def judges() -> Judges:
  """Trains what isn't trained yet, and draws from the start."""
  policies.world()
  folder = policies.RUNS / "world"
  mesh = make_mesh()
  settings = parse(policies.world_config().to_dict())
  loaded = load_run(folder, mesh)
  start = tldr_runs.Start(loaded, prepare(settings, folder, None), mesh)
  tools = tools_of(settings, None, lambda: None)
  with jax.set_mesh(mesh):
    models = {
      name: tools.judge({"function": str(model), "kind": "model"}, "annotator")
      for name, model in reward_models().items()
    }
    samples = tldr_runs.draw(start, loaded.params, DRAWS, "reward_curves")
    rewards = {
      name: _rewards(judge, samples).reshape(-1, DRAWS)
      for name, judge in models.items()
    }
  of = world.attributes(samples.prompts, samples.texts)
  shaped = world.Attributes(*(np.reshape(x, (-1, DRAWS)) for x in of))
  return Judges(start, models, samples, rewards, shaped)


def _best_points() -> list[dict[str, float]]:
  """Best-of-n for `NS`, by the reward model of all labels."""
  told = judges()
  rewards = told.rewards["bradley_terry"]
  gold, judged = readers(told.of, told.of), learned(rewards, rewards)
  points = []
  for n in NS:
    cost, mine = best_of(rewards, judged, n)
    _, theirs = best_of(rewards, gold, n)
    points.append(
      {
        "kl": float(cost),
        "judged": float(mine.mean()),
        "gold": float(theirs.mean()),
        "error": float(theirs.std(ddof=1) / np.sqrt(len(theirs))),
      }
    )
  return points


def _judge_of(way: Way, told: Judges) -> Judge:
  """The judge that a policy learns from."""
  judge = told.models[way.reward]
  if not way.log_sigmoid:
    return judge
  # Good means better than the start's median response to any post.
  middle = float(np.median(told.rewards[way.reward]))
  return combine.all_good({"learned": judge}, {"learned": middle})


def _stage(way: Way):
  """Settings of the stage, in the demo's manner."""
  c = demo.get_config()
  c.algorithm, c.steps = way.algorithm, STEPS
  c.loss = ConfigDict(way.loss)
  c.algorithm_settings = ConfigDict(way.settings)
  c.optimizer.learning_rate = way.rate
  c.optimizer.b1 = 0.9
  if ALGORITHMS[way.algorithm].critic:
    c.critic.learning_rate_scale = 3.0
  return parse(c.to_dict()).stages[-1]


def _train(name: str, way: Way, told: Judges) -> list[dict[str, float]]:
  start, policy = told.start, told.start.policy
  streams = {"online": "online", "data": "prompts", "trainable": "trainable"}
  assembly = assemble(
    Materials(
      policy.config,
      start.mesh,
      start.prepared.main,
      policy.tokenizer,
      _judge_of(way, told),
      lambda purpose: stream(0, "reward_curves", name, streams[purpose]),
    ),
    _stage(way),
    policy.params,
  )
  points: list[dict[str, float]] = []

  def measure(step, state):
    params = assembly.policy(state.params)
    samples = tldr_runs.draw(start, params, EACH, name, str(step))
    of = world.attributes(samples.prompts, samples.texts)
    shaped = world.Attributes(*(np.reshape(x, (-1, EACH)) for x in of))
    gold = clustered_mean(
      readers(shaped, told.of).ravel(),
      np.repeat(np.arange(len(shaped[0])), EACH),
    )
    under = lambda run: float(
      learned(
        _rewards(told.models[run], samples).reshape(-1, EACH),
        told.rewards[run],
      ).mean()
    )
    point = {
      "step": step,
      "kl": float(np.mean(samples.logps - samples.ref_logps)),
      "judged": under(way.reward),
      "gold": float(gold[0]),
      "error": float(gold[1]),
    }
    if name == HALF:
      point["other"] = under("test_half")
    points.append(point)
    print(name, point, flush=True)
    return point

  prompts = assembly.batches()
  loop.run(
    assembly.init(),
    steps=assembly.steps,
    batches=prompts,
    prepare=assembly.prepare(policy.params, None),
    update=assembly.update,
    finish=assembly.finish,
    ref_params=policy.params,
    write=lambda step, values: None,
    probes=[loop.Probe(EVERY, measure)],
    description=name,
  )
  prompts.close()
  return points


def earlier() -> Course:
  """Online DPO of `learned_judges`, for as many steps.

  It was measured on 256 pairs with the start, one of each two from a post, so
  that a standard error is 1/32 at most.
  """
  run = learned_judges.trained(
    "online_dpo_reward_model",
    learned_judges.policy_config("online_dpo", reward_models()[FULL]),
  )
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  rows = [r for r in rows if "samples/win_rate" in r and r["step"] <= STEPS]
  of = lambda name: np.array([row[f"samples/{name}"] for row in rows])
  gold = of("gold_win_rate")
  error = np.full(len(gold), 1 / 32)
  none = np.array([])
  return Course(of("kl_k1_nats"), of("win_rate"), gold, error, none)


def course(name: str) -> Course:
  """The course of a policy; its points stay in the folder once it is over."""
  if name == PLAIN:
    return earlier()
  path = FOLDER / f"{name.replace(' ', '_')}.json"
  if not path.exists():
    ALGORITHMS.setdefault("online_rpo", ONLINE_RPO)
    told = judges()
    with jax.set_mesh(told.start.mesh):
      points = (
        _best_points() if name == BEST else _train(name, WAYS[name], told)
      )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(points).encode())
  start = {"kl": 0.0, "judged": 0.5, "gold": 0.5, "error": 0.0, "other": 0.5}
  points = json.loads(path.read_text())
  if "other" not in points[0]:
    del start["other"]
  if points[0]["kl"]:
    points = [start, *points]
  of = lambda key: np.array([p[key] for p in points if key in p])
  return Course(of("kl"), of("judged"), of("gold"), of("error"), of("other"))


# Online DPO with RPO's imitation of the chosen response. The paper imitates
# responses of the data; here they are the policy's own: our parametrisation.
ONLINE_RPO = ALGORITHMS["online_dpo"]._replace(
  loss=Entry(losses.rpo(beta=0.1, eta=0.2), "pairs", "2405.16436")
)

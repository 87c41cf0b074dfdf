"""SFT in the TL;DR world, and online training whose gold reward is measured.

A KL is that of whole responses to the SFT policy, in nats, estimated as the
mean log-ratio of the policy's own samples.
"""

import io
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jalign.configs import demo
from jalign.data import EncodedPrompt
from jalign.data import tldr_world as world
from jalign.evaluation.clustered import clustered_mean
from jalign.experiment.assemble import assemble
from jalign.experiment.commands.inspect import Loaded, load_run
from jalign.experiment.config.parse import parse
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials
from jalign.experiment.data.prepare import Prepared, prepare
from jalign.experiment.run import run_one
from jalign.experiment.sampling import SampledTexts, sample_texts
from jalign.feedback import from_batch
from jalign.files import write_whole
from jalign.sharding import make_mesh
from jalign.training import loop

PROMPTS = 100  # held-out prompts
ROWS = 200  # responses that are decoded together


class Start(NamedTuple):
  """What online training starts from.

  Attributes:
    policy: the SFT policy, which is also the reference.
    prepared: its tokenizer and prompts.
    mesh: the mesh that the policy's parameters are on.
  """

  policy: Loaded
  prepared: Prepared
  mesh: Any

  @property
  def prompts(self) -> list[EncodedPrompt]:
    """The held-out prompts."""
    return self.prepared.main.sample_prompts(PROMPTS)


class Point(NamedTuple):
  """Measurements of a policy on the held-out prompts.

  Attributes:
    step: updates so far.
    kl: KL of a response, nats.
    kl_error: standard error of the KL, clustered by prompt.
    gold: mean gold reward.
    gold_error: standard error of the mean gold reward, clustered by prompt.
  """

  step: int
  kl: float
  kl_error: float
  gold: float
  gold_error: float


def sft_config(steps: int) -> ConfigDict:
  """The demo's config with warm-up and SFT alone, and fewer prompts."""
  c = demo.get_config()
  c.title = "SFT in the TL;DR world"
  c.stages = ("warmup", "sft")
  for name in ("dpo", "online_dpo", "online_ipo"):
    del c[name]
  c.algorithm = c.start = c.report = c.annotator.function = ""
  c.annotator.opponents = ""
  c.loss = ConfigDict(dict(name="sft"))
  c.data.path = "prompts[:8000]"
  c.sft.steps = steps
  c.sft.save_every = 0
  c.sample.best_of = 0
  c.sample.prompts = 200
  return c


def sft(folder: pathlib.Path, steps: int) -> Start:
  """Trains the SFT policy, or reads it if the folder holds it already."""
  config = sft_config(steps).to_dict()
  settings = parse(config)
  if not (folder / "sft" / "results.json").exists():
    run_one(settings, config, folder)
  mesh = make_mesh()
  return Start(load_run(folder, mesh), prepare(settings, folder, None), mesh)


def online_stage(algorithm: str, steps: int, **loss: float) -> StageSettings:
  """A stage with the demo's optimiser for online training.

  Args:
    algorithm: a row of `jalign.online.ALGORITHMS`.
    steps: number of updates.
    **loss: hyperparameters of the loss.
  """
  c = demo.get_config()
  c.algorithm, c.steps, c.loss = algorithm, steps, ConfigDict(loss)
  return parse(c.to_dict()).stages[-1]


def draw(
  start: Start, params: Any, per_prompt: int, *purpose: str
) -> SampledTexts:
  """Samples responses to the held-out prompts; the SFT policy scores them, too.

  Args:
    start: the SFT policy.
    params: parameters of the policy to draw from.
    per_prompt: responses to a prompt.
    *purpose: names of the random stream.
  """
  return sample_texts(
    start.policy.model,
    params,
    start.policy.tokenizer,
    start.prompts,
    SamplerSettings(per_prompt=per_prompt, max_new_tokens=24),
    seed=stream(0, "tldr_runs", *purpose),
    ref_params=start.policy.params,
    rows=ROWS,
  )


def gold_rewards(samples: SampledTexts) -> np.ndarray:
  """[N] gold rewards."""
  return world.reward(world.attributes(samples.prompts, samples.texts))


def drawn_rewards(
  start: Start, per_prompt: int, folder: pathlib.Path
) -> np.ndarray:
  """[prompts, per_prompt] gold rewards of SFT's samples, cached on disk."""
  path = folder / f"rewards_{per_prompt}.npy"
  if not path.exists():
    with jax.set_mesh(start.mesh):
      samples = draw(start, start.policy.params, per_prompt, "best of n")
    data = io.BytesIO()
    np.save(data, gold_rewards(samples).reshape(-1, per_prompt))
    write_whole(path, data.getvalue())
  return np.load(path)


def trained(
  start: Start,
  stage: StageSettings,
  folder: pathlib.Path,
  *,
  every: int,
  per_prompt: int,
) -> list[Point]:
  """Points along an online run, with the gold reward; cached in the folder.

  The run trains on the gold reward's own preferences, sigmoid(2 (r(a) - r(b))).

  Args:
    start: the policy, which is also the reference.
    stage: algorithm, loss and optimiser.
    folder: holds ALGORITHM.json once the run is over.
    every: steps between points.
    per_prompt: responses to each held-out prompt, at each point.
  """
  name = stage.algorithm
  path = folder / f"{name}.json"
  if not path.exists():
    with jax.set_mesh(start.mesh):
      points = _train(start, stage, every, per_prompt)
    write_whole(path, json.dumps(points).encode())
  return [Point(*row) for row in json.loads(path.read_text())]


def _train(start, stage, every, per_prompt) -> list[Point]:
  policy, name = start.policy, stage.algorithm
  streams = {"online": "online", "data": "prompts", "trainable": "trainable"}
  assembly = assemble(
    Materials(
      policy.config,
      start.mesh,
      start.prepared.main,
      policy.tokenizer,
      from_batch(world.gold),
      lambda purpose: stream(0, "tldr_runs", name, streams[purpose]),
    ),
    stage,
    policy.params,
  )
  points: list[Point] = []

  def measure(step, state):
    samples = draw(start, state.params, per_prompt, name, str(step))
    ratios = samples.logps - samples.ref_logps
    kl = clustered_mean(ratios, samples.prompt_ids)
    gold = clustered_mean(gold_rewards(samples), samples.prompt_ids)
    points.append(Point(step, *map(float, (*kl[:2], *gold[:2]))))
    return points[-1]._asdict()

  def write(step, values):
    if "gold" in values:
      gold, kl = values["gold"], values["kl"]
      print(f"[{name}] step {step}: gold {gold:.3f}, KL {kl:.3f}", flush=True)

  prompts = assembly.batches()
  loop.run(
    assembly.init(),
    steps=assembly.steps,
    batches=prompts,
    prepare=assembly.prepare(policy.params, None),
    update=assembly.update,
    finish=assembly.finish,
    ref_params=policy.params,
    write=write,
    probes=[loop.Probe(every, measure)],
    description=name,
  )
  prompts.close()
  return points


def ceiling(start: Start) -> float:
  """Mean over the held-out posts of the best summary's gold reward."""
  posts = [world.read_post(prompt.text) for prompt in start.prompts]
  best = [world.reward(world.attainable(len(p.salient))).max() for p in posts]
  return float(np.mean(best))

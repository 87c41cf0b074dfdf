"""Trains the policies of `nlhf_table`, each stored with its measurements.

A cell is a method with a judge, a strength of the pull to the SFT policy, and a
seed. Its file holds the policy's parameters, and its samples for the held-out
posts as attributes. The loop is the one of `jalign.experiment`, without what a
run writes beside its policy, so that cells share compiled programs.
"""

import functools
import io
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import nlhf_judges, policies
from jalign import data, losses
from jalign.data import tldr_world as world
from jalign.data.tldr_world.dataset import post, prompt_record
from jalign.data.tldr_world.summary import Attributes
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import sample_texts
from jalign.feedback import Judge
from jalign.files import write_whole
from jalign.losses.presets import PRESETS
from jalign.models import heads
from jalign.online import (
  REFERENCE,
  Algorithm,
  beside_carry,
  bind,
  hyperparameters,
  init_carry,
  make_finish,
  make_round,
)
from jalign.training.critic import CriticConfig, optimizer_beside, policy_of
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import Params

FOLDER = policies.RUNS / "nlhf_table"
STEPS, WARMUP, RESPONSE_STEPS = 200, 10, 100
CRITIC = CriticConfig(learning_rate_scale=3.0)
FIRST, POSTS, EACH = 20_000, 512, 8  # held-out posts, samples of each
LEARNED = policies.RUNS / "learned_judges"
# Models trained on the readers' labels; fitted, or not.
LEARNED_MODELS = {True: "bradley_terry", False: "general_preference"}
WIDTH = 24  # tokens of a response, with the end of sequence


class Method(NamedTuple):
  """How a column of cells is trained.

  Attributes:
    title: name in the table.
    row: the algorithm.
    knob: the hyperparameter that is varied, of the loss or of the row.
    strengths: its values, of the order in which they are trained; the first is
      the middle one.
    game: whether the method is for general preferences.
    fitted: whether the method learns from the fitted reward.
    rate: peak of the learning rate.
    prompts: prompts of a step.
    settings: other hyperparameters.
    steps: number of steps.
  """

  title: str
  row: Algorithm
  knob: str
  strengths: tuple[float, ...]
  game: bool = False
  fitted: bool = False
  rate: float = 1e-3
  prompts: int = 32
  settings: Mapping[str, Any] = {}
  steps: int = STEPS


class Cell(NamedTuple):
  """A policy that is trained.

  Attributes:
    judge: a judge of `nlhf_judges.RATERS`, or "learned".
    method: name of a method.
    strength: value of the method's knob.
    seed: seed of the prompts' order and of all draws.
    target: "" or, for a best responder, the name of the cell it answers.
  """

  judge: str
  method: str
  strength: float
  seed: int = 0
  target: str = ""

  @property
  def name(self) -> str:
    """Name of the cell's file, without its suffix."""
    parts = (self.method, f"{self.strength:g}", str(self.seed), self.target)
    return f"{self.judge}/" + "-".join(p.replace("/", "_") for p in parts if p)


class Sampled(NamedTuple):
  """A policy's samples for the held-out posts.

  Attributes:
    attributes: [G, K, 8] attributes.
    ratios: [G, K] log-ratios to the SFT policy, nats.
    tokens: [G, K] lengths, the end of sequence included.
    seconds: time of the training.
    steps: steps of the training.
  """

  attributes: np.ndarray
  ratios: np.ndarray
  tokens: np.ndarray
  seconds: float = 0.0
  steps: int = 0


def path_of(cell: Cell) -> pathlib.Path:
  """The file of a cell."""
  return FOLDER / f"{cell.name}.npz"


def save(path: pathlib.Path, params: Params, sampled: Sampled) -> None:
  """Writes a cell's file, whole or not at all."""
  leaves = jax.tree.leaves(jax.device_get(params))
  stream = io.BytesIO()
  named = {f"p{i}": leaf for i, leaf in enumerate(leaves)}
  np.savez(stream, **named, **sampled._asdict())
  path.parent.mkdir(parents=True, exist_ok=True)
  write_whole(path, stream.getvalue())


def load(path: pathlib.Path) -> Sampled:
  """The samples of a cell."""
  with np.load(path) as held:
    values = {name: held[name] for name in Sampled._fields}
  values["seconds"] = float(values["seconds"])
  values["steps"] = int(values["steps"])
  return Sampled(**values)


def load_params(path: pathlib.Path, like: Params) -> Params:
  """The parameters of a cell, in the tree of `like`."""
  structure: Any = jax.tree.structure(like)
  with np.load(path) as held:
    leaves = [held[f"p{i}"] for i in range(structure.num_leaves)]
  return jax.tree.unflatten(structure, map(jnp.asarray, leaves))


class Bench:
  """What all cells share: the SFT policy, prompts, held-out posts, judges.

  Attributes:
    start: the SFT policy.
    posts: the held-out posts, which no stage has been trained on.
    prompts: these posts as prompts.
  """

  def __init__(self) -> None:
    self.start = policies.world()
    numbers = range(FIRST, FIRST + POSTS)
    self.posts = [post(i) for i in numbers]
    rows = [prompt_record(p, 0, i) for p, i in zip(self.posts, numbers)]
    self.prompts = data.encode_prompts(rows, self.start.tokenizer, 48)
    self.sft = self._sft()

  def _sft(self) -> Sampled:
    path = FOLDER / "sft.npz"
    if not path.exists():
      save(path, self.start.params, self.sampled(self.start.params, 0))
    return load(path)

  @property
  def salient(self) -> np.ndarray:
    """[G] number of salient facts of each held-out post."""
    return np.array([len(p.salient) for p in self.posts])

  def sampled(self, params: Params, seed: int, **numbers: Any) -> Sampled:
    """Samples of a policy for the held-out posts."""
    start = self.start
    drawn = sample_texts(
      start.model,
      params,
      start.tokenizer,
      self.prompts,
      SamplerSettings(per_prompt=EACH, max_new_tokens=WIDTH),
      seed=1000 + seed,
      ref_params=start.params,
      rows=512,
    )
    assert drawn.ref_logps is not None
    of = np.stack(world.attributes(drawn.prompts, drawn.texts), 1)
    rows = lambda x: np.asarray(x, np.float32).reshape(POSTS, EACH, -1)
    flat = lambda x: rows(x)[..., 0]
    ratios = flat(drawn.logps - drawn.ref_logps)
    return Sampled(
      of.reshape(POSTS, EACH, -1), ratios, flat(drawn.tokens), **numbers
    )

  @functools.cached_property
  def fits(self) -> dict[str, nlhf_judges.Fitted]:
    """Rewards fitted to each rater on pairs of the SFT policy's samples.

    The posts are training posts, 6,000 of them.
    """
    path = FOLDER / "pairs.npz"
    if not path.exists():
      start = self.start
      drawn = sample_texts(
        start.model,
        start.params,
        start.tokenizer,
        start.pairs.train_prompts[:6000],
        SamplerSettings(per_prompt=2, max_new_tokens=WIDTH),
        seed=7,
        rows=512,
      )
      of = np.stack(world.attributes(drawn.prompts, drawn.texts), 1)
      stream = io.BytesIO()
      np.savez(stream, of=of)
      write_whole(path, stream.getvalue())
    of = np.load(path)["of"]
    a, b = Attributes(*of[::2].T), Attributes(*of[1::2].T)
    return {
      name: nlhf_judges.fit(rater, a, b)
      for name, rater in nlhf_judges.RATERS.items()
    }

  @functools.cache  # noqa: B019  (one bench lives as long as the process)
  def judge(self, name: str, fitted: bool) -> Judge:
    """The judge that a method learns from."""
    if name == "learned":
      return nlhf_judges.of_model(LEARNED / LEARNED_MODELS[fitted])
    if fitted:
      return nlhf_judges.of_reward(self.fits[name].reward)
    return nlhf_judges.of_preference(nlhf_judges.RATERS[name])


def programs(
  bench: Bench, method: Method, strength: float
) -> tuple[Algorithm, Callable[..., Any], Any]:
  """A method's algorithm, its update, and the optimiser."""
  values, steps = {**method.settings, method.knob: strength}, method.steps
  known = hyperparameters(method.row)
  row = bind(method.row, {k: v for k, v in values.items() if k in known})
  assert isinstance(row.loss, str)  # no row here has a loss of its own
  sum_of: Callable[..., Any] | None = PRESETS.get(row.loss)
  loss: Callable[..., Any] = sum_of or losses.CATALOGUE[row.loss].function
  known = losses.hyperparameters(loss)
  own = {k: v for k, v in values.items() if k in known}
  function = sum_of(**own) if sum_of else functools.partial(loss, **own)
  many = row.updates.total
  config = OptimizerConfig(
    learning_rate=method.rate,
    warmup_steps=WARMUP * many,
    final_fraction=0.05,
    b1=0.0,
  )
  optimizer = make_optimizer(config, steps * many)
  if row.critic:
    optimizer = optimizer_beside(config, steps * many, CRITIC, many)
  objective = make_objective(function, bench.start.model)
  update = make_update(objective, optimizer, counts=False)
  return row, beside_carry(update, row.reference), optimizer


def train(
  bench: Bench,
  cell: Cell,
  method: Method,
  *,
  reference: Params | None = None,
  log: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
) -> Params:
  """Trains the policy of a cell from the SFT policy.

  Args:
    bench: what all cells share.
    cell: the cell.
    method: its method.
    reference: parameters of the reference, the SFT policy's by default.
    log: called with each step's metrics.

  Returns:
    The policy's parameters.
  """
  start = bench.start
  base = start.params if reference is None else reference
  row, update, optimizer = programs(bench, method, cell.strength)
  play = make_round(
    row,
    start.model,
    bench.judge(cell.judge, method.fitted),
    start.tokenizer.decode,
    max_new_tokens=WIDTH,
    stop_ids=start.tokenizer.end_ids,
    pad_id=start.tokenizer.pad_id,
    whole=policy_of,
  )
  finish = make_finish(row.carry, restart=row.restart)
  params = start.params
  if row.critic:
    head = heads.scalar(start.config.hidden_size).init(jax.random.key(0))
    params = {"model": params, "critic": {"model": params, "head": head}}
  carry = init_carry(row.carry, params)
  state = init_state(params, optimizer).replace(carry=carry)
  loader = start.pairs.prompt_loader(method.prompts, seed=cell.seed)
  root = jax.random.key(cell.seed)
  for step in range(method.steps):
    prompts = next(loader).data
    key = jax.random.fold_in(root, step)
    played = play(state.params, base, prompts, key, carry=state.carry)
    sums = []
    for batch in played.batches:
      state, taken = update(state, batch, base)
      sums.append(taken)
    state, _ = finish(state, played.values, sums)
    log(step, played.values)
  loader.close()
  return policy_of(state.params)


def make(bench: Bench, cell: Cell, method: Method, **options) -> Sampled:
  """The cell's samples: read, or else trained, measured and stored."""
  path = path_of(cell)
  if not path.exists():
    began = time.perf_counter()
    params = jax.block_until_ready(train(bench, cell, method, **options))
    seconds = time.perf_counter() - began
    numbers = {"seconds": seconds, "steps": method.steps}
    sampled = bench.sampled(params, cell.seed, **numbers)
    save(path, params, sampled)
  return load(path)


def of_reference(row: Algorithm) -> Algorithm:
  """The row on samples of the reference: offline, each pair seen once."""
  return row._replace(draws=(REFERENCE,) * len(row.draws))

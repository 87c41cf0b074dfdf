"""`jalign plan`: tables and JSON of a run, and bad input."""

import json
import re

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from jalign import cli
from jalign.cli.config_file import read_config
from jalign.errors import UserError
from jalign.experiment.config.parse import parse
from jalign.plan import compilers
from jalign.plan.command import make_plan
from jalign.plan.compiled import compile_program
from jalign.plan.run import programs_of
from jalign.plan.stand_in import model_of
from jalign.plan.topology import platform_of
from jalign.sharding import MESH_AXES, make_mesh

SMALL = (
  ("stages", "('align',)"),
  ("model.num_hidden_layers", "1"),
  ("data.buckets", "(64,)"),
  ("data.max_prompt_tokens", "16"),
  ("batch_size", "8"),
  ("max_new_tokens", "8"),
)
MESH = (("mesh.data", "2"), ("mesh.fsdp", "2"), ("mesh.tensor", "2"))


def _config(name, *keys):
  return read_config(name, [*SMALL, *keys])


def test_a_plan_of_the_devices_here_says_what_a_run_needs(tmp_path, capsys):
  out = tmp_path / "plans"
  config = _config("dpo", *MESH)
  make_plan(config, "local", out=out, patterns=["update"])
  said = capsys.readouterr().out
  assert "align: update: fits" in said and "2 x 2 x 2" in said
  plan = json.loads((out / "plan.json").read_text())
  (program,) = plan["programs"]
  memory = program["memory"]
  # 4 bytes a parameter, split over fsdp and tensor but for norms, and two
  # moments of the same size beside two counters.
  exact = plan["parameters"]
  assert exact <= memory["parameters"] < 1.1 * exact
  assert memory["optimiser"] == 2 * memory["parameters"] + 8
  assert memory["reference"] == memory["parameters"]
  kinds = {c["kind"] for c in program["collectives"]}
  assert {"all-gather", "all-reduce"} <= kinds and program["fits"]
  assert program["flops"] > 0 and program["hbm_bytes"] > 0
  assert plan["versions"]["jax"] == jax.__version__
  assert program["seconds"]["compile"] > 0


def test_peak_is_that_of_the_program_which_a_run_executes():
  """The update of a plan is the very program that `assemble` runs."""
  settings = parse(_config("dpo") | {"mesh": dict(data=8, fsdp=1, tensor=1)})
  mesh = make_mesh(8, 1, 1)
  program = next(programs_of(settings, model_of(settings), mesh))
  compiled = compile_program(program, mesh, quiet=True)
  stats = compiled.executable.memory_analysis()
  sizes = compiled.memory.arguments
  # Labels that the loss doesn't take are no argument.
  unread = sum(sizes.values()) - stats.argument_size_in_bytes
  assert 0 <= unread < sizes["batch"] / 10
  # The state is donated.
  donated = sizes["parameters"] + sizes["optimiser"]
  assert donated <= stats.alias_size_in_bytes < donated + 100


def test_what_a_run_keeps_is_counted_beside_a_program():
  settings = parse(_config("ipo_md"))
  mesh = make_mesh(8, 1, 1)
  programs = {
    p.name.partition(": ")[2]: p
    for p in programs_of(settings, model_of(settings), mesh)
  }
  assert list(programs) == [
    "rollout",
    "prepare of rollout",
    "prefill of rollout",
    "step of rollout",
    "update",
    "samples",
  ]
  step = compile_program(programs["step of rollout"], mesh, quiet=True)
  assert step.memory.arguments["cache"] > 0
  # Decoding has a copy of its own of the weights; moments wait for the update.
  assert {"parameters", "optimiser", "start"} <= set(step.memory.beside)


def test_a_plan_for_a_tpu_made_on_a_cpu_takes_no_choice_of_the_cpu():
  """Its cache is bfloat16 and attention is the TPU's kernel."""
  settings = parse(
    _config(
      "ipo_md",
      ("model.dtype", "bfloat16"),
      ("model.hidden_size", "256"),
      ("model.head_dim", "128"),
      ("model.num_attention_heads", "2"),
    )
  )
  device = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
  mesh = AbstractMesh(
    (1, 4, 1), MESH_AXES, (AxisType.Auto,) * 3, abstract_device=device
  )
  model = model_of(settings)
  with jax.sharding.use_abstract_mesh(mesh):
    texts = {
      program.name: program.lower(platforms=("tpu",)).as_text()
      for program in programs_of(settings, model, mesh)
      if program.name in ("align: rollout", "align: update")
    }
  for text in texts.values():
    assert "tpu_custom_call" in text
  loops = re.findall(r"stablehlo\.while.*", texts["align: rollout"])
  cache = re.findall(r"tensor<16x2x\d+x128x(\w+)>", "".join(loops))
  assert set(cache) == {"bf16"}


@pytest.mark.parametrize(
  "flags, said",
  {
    "--topology=v5x:2x2": "Did you mean 'v5e:2x2'?",
    "--topology=v5e": "is no topology 'v5e'",
    "--topology=v5e:2xtwo": "is no topology",
    "--mesh=2x2": "'2x2' is not DATAxFSDPxTENSOR",
    "--mesh=3x1x1": "does not make 8 devices",
    "--mesh=16x1x1": "does not make 8 devices",
    "--config.batch_size=12": "12 examples in 1 microbatches don't divide",
    "--programs=updates": "no program of the config is called updates",
    "--shardings --out=plan.json": "--out: changes nothing",
    "--search=0 --programs=update": "--programs: changes nothing",
    "--search=0 --mesh=8x1x1": "--mesh: changes nothing",
    "--out=/dev/null/plan.json": "--out=/dev/null/plan.json: can't be written",
    "--workdir=runs/dpo": "--out=PATH writes the plan",
    "--config.tokenizer.kind=words": "the number of words is known only once",
  }.items(),
)
def test_bad_input_is_an_error_for_people(flags, said, capsys):
  small = [f"--config.{key}={value}" for key, value in SMALL]
  with pytest.raises(SystemExit) as ended:
    cli.main(["plan", "--config=dpo", *small, *flags.split()])
  assert ended.value.code == 2
  assert said in " ".join(capsys.readouterr().err.split())


def test_without_a_compiler_the_error_names_the_command(monkeypatch):
  monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
  for name, package in (("v5e:2x2", "libtpu"), ("h200:8", "jax-cuda12-plugin")):
    with pytest.raises(UserError, match=f"pip install .*{package}"):
      compilers.set_environment(platform_of(name))

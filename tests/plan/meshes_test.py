"""`jalign plan --shardings` and `--search`, for the devices of the tests."""

import json

from jalign.cli.config_file import read_config
from jalign.plan import meshes, proposals, search
from jalign.plan.asked import asked

KEYS = [
  ("stages", "('align',)"),
  ("batch_size", "8"),
  ("steps", "10"),
  ("tokenizer.vocab_size", "512"),
  ("model.hidden_size", "32"),
  ("model.intermediate_size", "64"),
  ("model.num_hidden_layers", "2"),
  ("model.num_attention_heads", "4"),
  ("model.num_key_value_heads", "2"),
  ("data.buckets", "(32,)"),
  ("data.max_prompt_tokens", "16"),
]


def _config(*keys):
  return read_config("dpo", [*KEYS, *keys])


def test_shardings_are_listed_with_all_that_is_wrong(capsys):
  meshes.show_shardings(
    _config(("mesh.data", "1"), ("mesh.fsdp", "2"), ("mesh.tensor", "4")),
    "local",
  )
  said = capsys.readouterr().out
  assert "kv_heads -> tensor" in said
  assert "parameters in float32 on local, data 1 x fsdp 2 x tensor 4" in said
  row = "blocks/up 2x32x64 layers, embed, mlp -, fsdp, tensor 2x16x16"
  assert row in " ".join(said.split())
  for name in ("wk", "wv"):
    assert f"params blocks/{name}: axis 'kv_heads' has size 2" in said
  changed = _config(("lora.rank", "2"))
  meshes.show_shardings(changed, "local")
  said = capsys.readouterr().out
  assert "blocks/wq/a" in said and said.count("rule: logical axis") == 1


def test_the_best_mesh_is_compiled_and_printed(capsys, tmp_path):
  meshes.find_mesh(_config(), "local", 1, tmp_path)
  said = capsys.readouterr().out
  assert "search: 10 meshes of 8 x" in said
  assert "4 devices of mesh axis 'tensor' don't divide" in said
  plan = json.loads((tmp_path / "plan.json").read_text())
  assert len(plan["compiled"]) == 1
  assert plan["compiled"][0]["fits"]
  best = plan["compiled"][0]["flags"][0]
  assert f"best: {best}" in said
  assert best == plan["search"][0]["flags"][0]
  assert "1x2x4" in plan["undivided"]


def test_what_does_not_fit_when_compiled_is_no_proposal(monkeypatch):
  settings, target, model, _ = asked(_config(), "local")
  phases = proposals.phases_of(meshes.alone(settings, model, target), settings)
  asked_for = []

  class Refused:
    name, runs, bound, needs = "align: update", 1, None, 9e15

    def __init__(self, fits):
      self.fits = fits

  def measure(settings):
    asked_for.append(settings.mesh)
    return [Refused(len(asked_for) > 2)]

  found, proposed = proposals.propose(
    settings, model, target, phases, measure, 1
  )
  # Two meshes were refused, so that a third was compiled.
  assert len(asked_for) == len(proposed) == 3
  assert [p.fits for p in proposed] == [True, False, False]
  third = found.fitting[2]
  said = proposals.text(found, proposed, target)
  sizes = "x".join(map(str, third.sizes))
  assert f"best: --mesh={sizes}" in said
  assert said.count("but the compiler needs") == 2
  nothing = proposals.text(
    search.Found([], found.large + found.fitting, {}), proposed[1:], target
  )
  assert "best:" not in nothing
  assert "nothing fits: the smallest" in nothing

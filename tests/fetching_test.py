"""Arrays that may span processes come to the host by `sharding.fetch` alone."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1] / "jalign"

# Each brings arrays, or this process's parts of them, to the host.
NAMES = {
  "device_get",
  "process_allgather",
  "addressable_data",
  "addressable_shards",
}
DOORS = {"sharding.py", "hosts.py"}

# In these packages arrays lie on devices, where several processes may have
# parts of them; NumPy fails there on an array of several processes.
PACKAGES = (
  "training",
  "evaluation",
  "experiment",
  "online",
  "feedback",
  "models",
)
CONVERSIONS = {"asarray", "array", "ascontiguousarray"}
# Files in which NumPy converts something else -> what that is.
HOST = {
  "evaluation/best_of_n.py": "numbers of judges, on the host already",
  "evaluation/clustered.py": "statistics, on the host",
  "evaluation/calibration.py": "statistics, on the host",
  "evaluation/judge_check.py": "statistics, on the host",
  "evaluation/likelihood.py": "the loader's batches",
  "evaluation/reward_accuracy.py": "statistics, on the host",
  "evaluation/scored_pairs.py": "statistics, on the host",
  "evaluation/several_scorers.py": "statistics, on the host",
  "evaluation/win_rate.py": "statistics, on the host",
  "experiment/answers.py": "token ids of the tokenizer",
  "experiment/commands/rewards.py": "labels of the data, and their sources",
  "experiment/commands/score_data.py": "token ids of the tokenizer",
  "experiment/commands/score_models.py": "indices of pairs",
  "experiment/gold.py": "numbers of judges, on the host already",
  "experiment/probe.py": "the loader's batches",
  "experiment/judges/model.py": "weights of a config, and what was fetched",
  "experiment/judges/features.py": "what a user's function returns",
  "experiment/scored.py": "what was fetched",
  "experiment/scorer.py": "token ids of the tokenizer",
  "experiment/reward_pairs.py": "the loader's batches, and what was fetched",
  "feedback/features.py": "features of texts, and a config's numbers",
  "feedback/constitution.py": "votes, on the host",
  "feedback/evidence.py": "scores that a user's function returns",
  "feedback/noise.py": "hashes of texts",
  "feedback/references.py": "numbers of a file",
  "feedback/rules.py": "numbers of a user's function, read by vector",
  "feedback/verifiers.py": "what was found in texts",
  "feedback/rewards.py": "numbers of judges: those on the host",
  "feedback/values.py": "what a user's function returns",
  "models/hf/head_file.py": "tensors that were fetched one by one",
  "models/hf/adapter.py": "tensors that were fetched one by one",
  "models/hf/save.py": "tensors that were fetched one by one",
  "models/hf/shards.py": "tensors of files",
  "online/arrange.py": "random numbers that every process draws",
  "online/draws.py": "settings",
  "online/round_metrics.py": "texts",
  "online/updates.py": "random numbers that every process draws",
  "training/kinds/rater_batch.py": "what the loader collates",
  "training/metrics.py": "what was fetched just before",
  "training/readback.py": "arrays of a run that is a single process",
  "training/reference.py": "the loader's batches, and what was fetched",
  "feedback/agreement.py": "numbers of judges, on the host already",
  "feedback/follow_up.py": "what was fetched",
  "feedback/implicit.py": "token ids of the tokenizer",
  "feedback/language_model.py": "numbers read from texts",
  "feedback/local_model.py": "token ids of the tokenizer, and texts' hashes",
  "feedback/trained_judges.py": "what was fetched",
  "online/parts.py": "numbers of judges, on the host already",
}


def _fetches(path):
  """(line, name) of everything in a file that brings arrays to the host."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
      yield node.lineno, node.attr
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        if alias.name in NAMES:
          yield node.lineno, alias.name


def _conversions(path):
  """Lines on which NumPy converts what wasn't fetched in the same call."""
  for node in ast.walk(ast.parse(path.read_text())):
    if not isinstance(node, ast.Call):
      continue
    function = node.func
    if (
      isinstance(function, ast.Attribute)
      and function.attr in CONVERSIONS
      and isinstance(function.value, ast.Name)
      and function.value.id == "np"
    ):
      given = node.args[0]
      called = given.func if isinstance(given, ast.Call) else None
      if not (isinstance(called, ast.Name) and called.id == "fetch"):
        yield node.lineno


def test_fetch_is_the_only_way_to_the_host():
  found = {
    str(path.relative_to(ROOT)): list(_fetches(path))
    for path in sorted(ROOT.rglob("*.py"))
  }
  assert {name for name, lines in found.items() if lines} <= DOORS, found
  assert found["sharding.py"] and found["hosts.py"]


def test_numpy_converts_what_is_on_the_host():
  converting = {
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if list(_conversions(path))
  }
  assert converting - HOST.keys() == set(), (
    "Fetch arrays by jalign.sharding.fetch; or, if what is converted is on the"
    " host of every process, list the file in HOST."
  )
  assert HOST.keys() - converting == set(), "these convert nothing any more"


def test_a_conversion_is_found(tmp_path):
  path = tmp_path / "x.py"
  path.write_text("np.asarray(fetch(x))\nnp.asarray(x)\njax.device_get(x)\n")
  assert list(_conversions(path)) == [2]
  assert [name for _, name in _fetches(path)] == ["device_get"]

"""Importing loads no optional library and touches no device."""

import os
import pathlib
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]

HIDDEN = (
  "datasets",
  "grain",
  "matplotlib",
  "ml_collections",
  "optax",
  "orbax",
  "pyarrow",
  "tensorboard",
  "tensorflow_datasets",
  "tokenizers",
  "tqdm",
  "transformers",
)
LOW = (  # layers 0 and 1, and the models
  "types",
  "sharding",
  "errors",
  "products",
  "losses",
  "logprobs",
  "decode",
  "games",
  "models",
)


def _modules(*parts):
  """Names of the modules in some parts of the package, or in all of it."""
  modules = []
  package = ROOT / "jalign"
  links = (package / "configs").rglob("*.py")  # `rglob` doesn't follow a link
  for path in sorted([*package.rglob("*.py"), *links]):
    names = path.relative_to(ROOT).with_suffix("").parts
    if names[-1] == "__main__" or (parts and names[1] not in parts):
      continue
    modules.append(".".join(names[:-1] if names[-1] == "__init__" else names))
  return modules


def _python(code):
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code)],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


def test_losses_decoding_and_models_need_jax_and_flax_alone():
  modules = _modules(*LOW)
  assert {name.split(".")[1] for name in modules} == set(LOW)
  said = _python(f"""
    import importlib, sys

    HIDDEN = {HIDDEN!r}

    class Hide:
      def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in HIDDEN:
          return None
        raise ImportError(f"{{name}} is hidden")

    sys.meta_path.insert(0, Hide())
    for name in {modules!r}:
      importlib.import_module(name)
    print(sorted({{n.partition(".")[0] for n in sys.modules}} & set(HIDDEN)))
  """)
  assert said == "[]"


def test_importing_touches_no_device():
  """So a program can still choose its platform and start its processes."""
  modules = ["jalign", *_modules()]
  said = _python(f"""
    import importlib, jax
    from jax._src import xla_bridge

    for name in {modules!r}:
      importlib.import_module(name)
      assert not xla_bridge._backends, name
    jax.config.update("jax_num_cpu_devices", 3)  # refused once there is one
    print(jax.local_device_count())
  """)
  assert said == "3"

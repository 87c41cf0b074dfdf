"""The built wheel works from another directory, with the configs it holds."""

import os
import pathlib
import subprocess
import sys

_TRAIN = """
import jalign
from jalign import cli

print(jalign.__file__)
arguments = "train --config=ipo_md --workdir=run --config.select=eval/no"
cli.main(arguments.split())
"""
ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_whole_package(tmp_path):
  run = lambda *command, **kw: subprocess.run(
    command, check=True, capture_output=True, text=True, **kw
  )
  pip = (sys.executable, "-m", "pip", "--quiet")
  wheels, site = tmp_path / "wheels", tmp_path / "site"
  run(*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
  (wheel,) = wheels.glob("jalign-*.whl")
  run(*pip, "install", "--no-deps", "--target", str(site), str(wheel))

  installed = {p.relative_to(site) for p in (site / "jalign").rglob("*.py")}
  sources = {p.relative_to(ROOT) for p in (ROOT / "jalign").rglob("*.py")}
  links = (ROOT / "jalign/configs").rglob("*.py")  # `rglob` passes by a link
  assert installed == sources | {p.relative_to(ROOT) for p in links}
  for name in (
    "py.typed",
    "pages/report.css",
    "feedback/judge_prompts/pair_1.txt",
  ):
    assert (site / "jalign" / name).exists()
  assert list((site / "jalign").rglob("report.html.jinja"))
  assert not (site / "tests").exists() and not (site / "experiments").exists()

  environment = os.environ | {"PYTHONPATH": str(site)}
  empty = tmp_path / "empty"
  empty.mkdir()
  # A shipped config's data and functions are found, and then the mistake.
  done = subprocess.run(
    (sys.executable, "-c", _TRAIN),
    cwd=empty,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2, done.stderr
  place, *lines = done.stdout.splitlines()
  assert place.startswith(str(site))
  assert "[data] training: none of 1084 pairs truncated" in lines
  assert "config.select: 'eval/no' is not measured" in done.stderr
  assert list(empty.iterdir()) == []

"""Installs this package, editable, with uv where that is possible, else pip.

python .ci/install.py ".[test]"

The Makefile runs this script with the Python of a new environment. The script
first installs uv there, which is several times as fast as pip. uv doesn't read
pip's configuration, so the settings that say where packages come from are
handed to uv as flags. pip installs if its configuration has any other setting
that could change what is installed, or if uv fails.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping

# Settings of pip, and the flags of uv that do the same for one value each.
_FLAGS = {
  "index-url": "--default-index",
  "extra-index-url": "--index",
  "find-links": "--find-links",
  "constraint": "--constraint",
  "trusted-host": "--allow-insecure-host",
}
# Settings that don't change what is installed.
_HARMLESS = {
  "cache-dir",
  "cert",
  "default-timeout",
  "disable-pip-version-check",
  "no-cache-dir",
  "no-color",
  "no-input",
  "progress-bar",
  "quiet",
  "require-virtualenv",
  "retries",
  "root-user-action",
  "timeout",
  "verbose",
}


def settings(listing: str) -> dict[str, str]:
  """Reads the settings that hold for `pip install`.

  Args:
    listing: what `pip config list` prints, lines such as
      `global.index-url='https://...'`. A variable of the environment (`:env:`)
      overrides the section `install`, which overrides the section `global`.

  Returns:
    The value of each setting by its name.
  """
  values: dict[str, str] = {}
  for section in ("global", "install", ":env:"):
    for line in listing.splitlines():
      match = re.fullmatch(rf"{section}\.\.?([\w-]+)=(.*)", line)
      if match:
        values[match[1].replace("_", "-")] = str(ast.literal_eval(match[2]))
  return values


def uv_flags(values: Mapping[str, str]) -> list[str] | None:
  """Flags that make uv do as pip's settings say, or None if no flags can."""
  # pip takes a package's best version of all indices; uv, unless told so, the
  # best version of the first index that has the package.
  flags = ["--index-strategy", "unsafe-best-match"]
  for name, value in values.items():
    if name in _FLAGS:
      for part in value.split():
        flags += [_FLAGS[name], part]
    elif name not in _HARMLESS:
      return None
  return flags


def main(package: str) -> None:
  """Installs a package into the environment of the Python that runs this."""
  print(f"Installing {package} into {sys.prefix} ...", flush=True)
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
  install = [*pip, "install", "-qq"]  # prints errors, but no warnings
  values = settings(
    subprocess.run(
      [*pip, "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
  )
  flags = uv_flags(values)
  if flags is not None and not subprocess.call([*install, "uv>=0.9,<1"]):
    command = [sys.executable, "-m", "uv", "--quiet", "pip", "install"]
    command += ["--python", sys.executable, *flags, "--editable", package]
    certificates = {"SSL_CERT_FILE": values["cert"]} if "cert" in values else {}
    if not subprocess.call(command, env={**os.environ, **certificates}):
      return
  print("uv can't be used here; pip takes some minutes ...", flush=True)
  for arguments in (["--upgrade", "pip"], ["--editable", package]):
    failed = subprocess.call([*install, *arguments])
    if failed:
      sys.exit(failed)


if __name__ == "__main__":
  main(*sys.argv[1:])

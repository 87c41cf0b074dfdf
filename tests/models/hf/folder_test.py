"""Names become folders: local ones, then the cache's, then the hub's."""

import json

import huggingface_hub
import pytest

from jalign.errors import UserError
from jalign.models import hf
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN

COMMIT = "0" * 39 + "1"


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A cache of the hub with one repository, and no network."""
  described = json.loads(str(GOLDEN["qwen3/json"]))
  repository = tmp_path / "cache" / "models--lab--tiny"
  at = repository / "snapshots" / COMMIT
  cases.write(at, described["config"], described["shapes"])
  (repository / "refs").mkdir()
  (repository / "refs" / "main").write_text(COMMIT)
  asked = []

  def download(repo_id, *, revision=None, local_files_only=False, **options):
    asked.append((repo_id, revision, local_files_only))
    if not local_files_only:
      raise ConnectionError("no route to the hub")
    return _DOWNLOAD(
      repo_id,
      revision=revision,
      local_files_only=True,
      cache_dir=tmp_path / "cache",
      **options,
    )

  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  return at, asked


_DOWNLOAD = huggingface_hub.snapshot_download


def test_a_folder_is_itself(tmp_path, cache):
  assert hf.resolve(tmp_path) == tmp_path
  assert hf.resolve(str(tmp_path)) == tmp_path
  assert cache[1] == []


def test_the_cache_comes_before_the_hub(cache):
  at, asked = cache
  assert hf.resolve("lab/tiny") == at
  assert hf.resolve(f"lab/tiny@{COMMIT}") == at
  assert asked == [("lab/tiny", None, True), ("lab/tiny", COMMIT, True)]
  config, _ = hf.load(hf.resolve("lab/tiny"))
  assert config.model_type == "qwen3"


def test_what_is_nowhere(tmp_path, cache, monkeypatch):
  at, asked = cache
  with pytest.raises(UserError, match=r"lab/other: .*no such folder.*no route"):
    hf.resolve("lab/other")
  assert [local for *_, local in asked] == [True, False]
  for name in (str(tmp_path / "x"), "./x", "a/b/c", "../x"):
    with pytest.raises(UserError, match="no such folder"):
      hf.resolve(name)
  assert len(asked) == 2  # these can't be names on the hub
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").mkdir()
  with pytest.raises(UserError, match="no such folder in runs. .*runs/x@main"):
    hf.resolve("runs/x")
  assert len(asked) == 2
  (at / "model.safetensors").unlink()
  with pytest.raises(UserError, match="holds no weights"):
    hf.resolve("lab/tiny")

"""RPO: DPO with the chosen response's likelihood.

Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF",
arXiv:2405.16436; the authors' code weighs the likelihood per token by 0.2.

  jalign train --config=rpo \
    --config.data.path=FILE.jsonl --workdir=runs/rpo

Cost: 35 s on 2 CPU cores, on the bundled pairs.
Expect: held-out reward accuracy over SFT 77.6 ± 7.6 % (95 %, one seed); the
chosen log-ratio ends at -2.6 nats, and at -3.8 nats with dpo.py.
"""

from ml_collections import ConfigDict

from jalign.configs import dpo


def get_config() -> ConfigDict:
  """Returns the config."""
  c = dpo.get_config()
  c.title = "RPO on preference pairs"
  c.loss = ConfigDict(
    dict(weights=dict(dpo=1.0, sft_avg=0.2), dpo=dict(beta=0.1))
  )
  return c

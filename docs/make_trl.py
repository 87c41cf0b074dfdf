"""Writes docs/trl.md: which loss here is which of TRL's.

python docs/make_trl.py

What is said of TRL was read in its source at tag v0.28.0, in a snapshot of
July 2026 (1.10.0.dev0) and in the list of modules of the 1.16.0 wheel.
"""

import pathlib
from typing import NamedTuple

PAGE = pathlib.Path(__file__).resolve().parent / "trl.md"


class Row(NamedTuple):
  """A loss of TRL's and the same here.

  Attributes:
    trl: what is set in TRL.
    versions: of TRL; empty where none differs that we know of.
    here: the name of a loss, or a call of it by name in which TRL's
      settings stand for their values; empty where there is none.
    differs: what else to know.
  """

  trl: str
  versions: str
  here: str
  differs: str = ""


OLD, NEW, GONE = "≤ 0.28", "≥ 0.29", "gone by 1.16"

SECTIONS: dict[str, list[Row]] = {
  "DPOTrainer: loss_type": [
    Row("`sigmoid`", "", "dpo(beta=beta)"),
    Row(
      "`sigmoid` with `label_smoothing`",
      OLD,
      "dpo(beta=beta, label_smoothing=label_smoothing)",
      "From 0.29 on TRL ignores `label_smoothing` here without a word; only"
      " `robust`, `exo_pair` and the two of AOT read it. Same meaning: the"
      " assumed rate of flipped labels.",
    ),
    Row(
      "`sigmoid_norm`",
      "",
      "dpo_length_normalized(beta=beta)",
      "Log-ratios per token: `beta` is far larger than DPO's.",
    ),
    Row(
      "`robust`",
      "",
      "robust_dpo(beta=beta, label_smoothing=label_smoothing)",
      "TRL's default `label_smoothing` is 0, which is DPO; here it is 0.1. The"
      " sign of the smoothing is the opposite of `sigmoid`'s.",
    ),
    Row(
      "`hinge`",
      "",
      "slic_ratio(beta=beta)",
      "Not `slic_hf`, which has no reference and adds a likelihood.",
    ),
    Row(
      "`ipo`",
      "",
      "ipo_avg(tau=beta)",
      "TRL takes means over tokens; the paper, and `ipo` here, take sums: the"
      " two want different `tau`. The snapshot of 2026 counts the length on the"
      " unshifted mask (TRL's issue 6879), 0.28 on the shifted one, as here.",
    ),
    Row(
      "`exo_pair`",
      "",
      "exo(beta=beta, label_smoothing=label_smoothing)",
      "`label_smoothing` is the paper's epsilon, and must be above 0: 0.28 puts"
      " 0.001 for 0, later versions refuse it, and so does this library.",
    ),
    Row("`nca_pair`", "", "nca(beta=beta)"),
    Row(
      "`bco_pair`",
      OLD,
      "bco(beta=beta, shift=running.mean)",
      "The shift was a running mean over all rewards so far; here it is an"
      " argument, and `losses.bco_shift_update` is that mean. Runs of"
      " `jalign train` hold the shift constant.",
    ),
    Row("`bco_pair`", NEW, "bco(beta=beta, shift=0.0)", "No shift any more."),
    Row(
      "`sppo_hard`",
      "",
      "sppo(beta=beta)",
      "The sum of two squares; the paper's code halves it. TRL's default"
      " `beta` is that of DPO, 0.1; the paper's, and ours, is 0.001.",
    ),
    Row(
      "`aot`",
      "",
      "aot_paired(beta=beta, label_smoothing=label_smoothing)",
      "Sorted over the batch: TRL sorts on each device, this library over the"
      " whole batch.",
    ),
    Row(
      "`aot_unpaired`",
      "",
      "aot_unpaired(beta=beta, label_smoothing=label_smoothing)",
      "Called `aot_pair` in earlier versions and in code that follows them.",
    ),
    Row("`apo_zero`", "", "apo_zero(beta=beta)"),
    Row("`apo_down`", "", "apo_down(beta=beta)"),
    Row(
      "`discopop`",
      "",
      "discopop(beta=beta, tau=discopop_tau)",
      "TRL's default `beta` is 0.1, the paper's 0.05.",
    ),
    Row(
      "`sft`",
      "",
      "sft",
      "On the chosen response, as a term of a sum; divided by the batch's"
      " tokens.",
    ),
    Row(
      '`["sigmoid", "sft"]` with `loss_weights`',
      "",
      'weighted_sum({"dpo": 1.0, "sft": 0.2}, dpo={"beta": beta})',
      "The weights are those of `loss_weights`, in any sum of losses.",
    ),
    Row(
      '`["sigmoid", "bco_pair", "sft"]` with `loss_weights`',
      "",
      "mpo(beta=beta)",
      "Mixed preference optimisation, with its weights 0.8, 0.2 and 1.",
    ),
  ],
  "DPOTrainer: other settings": [
    Row(
      "`rpo_alpha`",
      OLD,
      "rpo_code(beta=beta, eta=rpo_alpha)",
      "Iterative RPO's likelihood per token. TRL divides by the batch's tokens"
      " and leaves out those with id 0; here each response has its own mean."
      " From 0.29 on it is a sum with `sft`. Another RPO, our `rpo`, weighs the"
      " *summed* likelihood, and by beta, too.",
    ),
    Row("`f_divergence_type`: `reverse_kl`", "", "dpo(beta=beta)"),
    Row(
      "`forward_kl`",
      NEW,
      "f_dpo_forward_kl(beta=beta)",
      "In 0.28 it is the alpha-divergence with coefficient 1.",
    ),
    Row(
      "`js_divergence`",
      "",
      "f_dpo_js(beta=beta)",
      "0.28 wants the enum `FDivergenceType`: a string silently means reverse"
      " KL.",
    ),
    Row(
      "`alpha_divergence`",
      NEW,
      "f_dpo_alpha(beta=beta, alpha=1 - f_alpha_divergence_coef)",
      "The coefficient counts the other way around: 1 is reverse KL in TRL, 0"
      " in the paper and here. They meet at 0.5, the default of both.",
    ),
    Row(
      "`alpha_divergence`",
      OLD,
      "f_dpo_alpha(beta=beta, alpha=f_alpha_divergence_coef)",
      "The paper's alpha, with the default 1, which is forward KL.",
    ),
    Row(
      "`ld_alpha`",
      "",
      "ld_dpo(beta=beta, alpha=ld_alpha)",
      "From 0.29 on as here: policy and reference, positions within the"
      " response. 0.28 changes the policy's log-probs only, and counts"
      " positions from the start of the sequence.",
    ),
    Row(
      "`use_weighting`",
      "",
      "wpo(beta=beta)",
      "TRL's weight is not clipped, and it goes with any `loss_type`; see the"
      " docstring for the side that `wpo` takes.",
    ),
    Row(
      "`reference_free`",
      OLD,
      "cpo(beta=beta, alpha=0.0)",
      "DPO with a uniform reference.",
    ),
  ],
  "CPOTrainer (experimental)": [
    Row(
      "`sigmoid`",
      "",
      "cpo_sft(beta=beta, alpha=cpo_alpha)",
      "The likelihood is a mean over the batch's tokens, as in TRL; `cpo` takes"
      " a mean for each response.",
    ),
    Row(
      "`simpo`, `cpo_alpha=0`",
      "",
      "simpo(beta=beta, gamma=simpo_gamma)",
      "`simpo_gamma` is the margin itself. SimPO's own configs give"
      " `gamma_beta_ratio`: gamma = ratio * beta. TRL's `cpo_alpha` is 1 unless"
      " you set it, which adds a likelihood.",
    ),
    Row(
      "`simpo`, `cpo_alpha` as it is",
      "",
      'weighted_sum({"simpo": 1.0, "sft": cpo_alpha},'
      ' simpo={"beta": beta, "gamma": simpo_gamma})',
      "CPO-SimPO.",
    ),
    Row(
      "`simpo` with `alpha`",
      "",
      "alpha_po(beta=beta, gamma=simpo_gamma, alpha=alpha)",
      "TRL's alpha of 0 is SimPO; here that is `simpo`, and alpha is above 0.",
    ),
    Row(
      "`hinge`",
      "",
      "slic_hf(delta=1 / beta, lam=0.0)",
      "Times beta: TRL's hinge is max(0, 1 - beta (difference of log-probs)).",
    ),
    Row(
      "`ipo`",
      "",
      "",
      "Means of log-probs without a reference: `ipo_avg` with zeros for it.",
    ),
  ],
  "ORPOTrainer, TPOTrainer (experimental)": [
    Row(
      "ORPO",
      "",
      "orpo(lam=beta)",
      "TRL's `beta` multiplies the odds term and is the paper's lambda. TRL's"
      " likelihood is over prompt and response, a mean over the batch; here it"
      " is the response's, per token.",
    ),
    Row(
      "TPO, `sigmoid`",
      "",
      "tpo(beta=beta)",
      "The likelihood is that of a third, gold response. Defaults differ: TRL"
      " has beta 0.01 and alpha 1, the authors' code 0.2 and 0.9.",
    ),
    Row(
      "TPO, `tpo-l`",
      "",
      "tpo_l(beta=beta)",
      "Means of log-probs, and a margin: 0.5 in both.",
    ),
  ],
  "KTOTrainer, BCOTrainer": [
    Row(
      "`kto`",
      "",
      "kto(beta=beta, desirable_weight=desirable_weight,"
      " undesirable_weight=undesirable_weight)",
      "TRL estimates the KL from responses that are shifted by one within the"
      " micro-batch, so the result depends on its size; here you pass their"
      " log-probs, and the mean is over the batch.",
    ),
    Row("`apo_zero_unpaired`", "", "apo_zero_unpaired(beta=beta)"),
    Row(
      "BCO",
      GONE,
      "bco_unpaired(beta=beta)",
      "The shift was a mean over all rewards since step 0, and the classifier"
      " of prompts a part of the trainer; here both come as arguments"
      " (`losses.bco_unpaired_shift_update`, `bco_unpaired_matched`).",
    ),
  ],
  "RewardTrainer, SFTTrainer": [
    Row(
      "reward modelling",
      "",
      "bradley_terry(centring=center_rewards_coefficient)",
      "With a column `margin`: `bradley_terry_margin`.",
    ),
    Row(
      "`nll`",
      "",
      "sft",
      "Divided by the tokens of the whole batch, whatever the accumulation.",
    ),
  ],
  "Online and reinforcement learning": [
    Row(
      "OnlineDPOTrainer `sigmoid`",
      "",
      "dpo(beta=beta)",
      '`ALGORITHMS["online_dpo"]`. Here the chosen response is drawn with the'
      " judge's probability; TRL takes the response with the higher score.",
    ),
    Row(
      "OnlineDPOTrainer `ipo`",
      "",
      "ipo(tau=beta)",
      '`ALGORITHMS["online_ipo"]`, whose loss `ipo_soft` takes the judge\'s'
      " probability for its label. On *sums*, unlike DPOTrainer's `ipo`.",
    ),
    Row(
      "GRPOTrainer `grpo`",
      "",
      "grpo(clip=epsilon, beta=beta)",
      '`ALGORITHMS["grpo"]`. TRL\'s default is `dapo`, which is not here, and a'
      " `beta` of 0.",
    ),
    Row(
      "GRPOTrainer `dr_grpo`",
      "",
      "dr_grpo(clip=epsilon, length=max_completion_length)",
      '`ALGORITHMS["dr_grpo"]`, without a KL term.',
    ),
    Row(
      "RLOOTrainer",
      "",
      "rloo",
      '`ALGORITHMS["rloo"]`, with the KL in the reward.',
    ),
    Row(
      "PPOTrainer",
      GONE,
      "ppo_clip(clip=cliprange)",
      '`ALGORITHMS["ppo"]`: the loss `ppo`, of `ppo_clip` and `value_clip`, and'
      " a critic of its own.",
    ),
    Row(
      "NashMDTrainer",
      GONE,
      "nash_md_token_kl(tau=beta)",
      '`ALGORITHMS["nash_md_token_kl"]` with `mix_ref=mixture_coef`;'
      " `nash_md` charges a token for the later log-ratios, too.",
    ),
    Row(
      "XPOTrainer",
      GONE,
      "xpo(beta=beta, alpha=alpha)",
      '`ALGORITHMS["xpo"]`, with the judge\'s probability for its label.',
    ),
  ],
}

INTRO = """\
# Coming from TRL

<!-- Written by docs/make_trl.py; change that. -->

TRL chooses a loss by trainer and `loss_type`; here a loss is a function with a
name. A call such as `ipo_avg(tau=beta)` in the column *here* reads: our
`ipo_avg` with its `tau` set to TRL's `beta`. On the command line that is

```
jalign train --config=dpo:ipo_avg \\
  --config.loss.tau=0.1 --config.data.path=FILE.jsonl --workdir=runs/ipo
```

and in Python `functools.partial(losses.ipo_avg, tau=0.1)`. Defaults here are
the papers'; in TRL most losses share one `beta` and its default, so set what
you mean.

What differs throughout:

* **Sums or means.** Log-probs here are sums over the response's scored tokens,
  and a loss that divides by lengths takes the lengths and says so. In TRL it
  depends on the `loss_type`.
* **What a batch is divided by.** A loss gives one number an example. The sum is
  divided by the examples, or the tokens, of the whole batch, over all devices
  and accumulation steps. TRL averages within micro-batches.
* **One function, one formula.** No `label_smoothing` that some losses ignore: a
  hyperparameter that a loss doesn't have is an error.
* **Sums of losses** are `weighted_sum`s, in place of `rpo_alpha`, `cpo_alpha`
  or a list of loss types with `loss_weights`.
"""

OUTRO = """
"≤ 0.28" and "≥ 0.29" are the versions of TRL before and after its losses were
rewritten. "gone by 1.16" marks what the package 1.16.0 no longer has; Nash-MD
and XPO are among it, and `nash_md` above takes Nash-MD's place. TRL's side was
read in its source at v0.28.0 and in a snapshot of July 2026. Where the values
at v0.28.0 could be computed, the tests compare them with ours.
"""


def page() -> str:
  """The page's Markdown."""
  parts = [INTRO]
  for title, rows in SECTIONS.items():
    head = ("TRL", "versions", "here", "what differs")
    cells = [head, ("---",) * len(head)]
    cells += [
      (r.trl, r.versions, f"`{r.here}`" if r.here else "–", r.differs)
      for r in rows
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    parts.append(f"## {title}\n\n{table}")
  return "\n".join(parts) + OUTRO


if __name__ == "__main__":
  PAGE.write_text(page())

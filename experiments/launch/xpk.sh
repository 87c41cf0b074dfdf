#!/bin/bash
# A run on TPUs of Google Kubernetes Engine by XPK, which makes the cluster and
# starts one pod a host:
#
#   pip install xpk
#   xpk cluster create --cluster=NAME --tpu-type=v5litepod-64 --num-slices=1 \
#     --zone=ZONE --project=PROJECT
#   CLUSTER=NAME ZONE=ZONE PROJECT=PROJECT IMAGE=IMAGE \
#     experiments/launch/xpk.sh dpo-8b /runs/configs/dpo_8b.py /runs/dpo_8b \
#     --config.init_from=/runs/models/Qwen3-8B --config.data.path=/runs/pairs.jsonl
#
# Arguments: the workload's name, the config, the run's folder, and flags of
# `jalign train`. IMAGE has "jax[tpu]" and jalign; /runs is storage that was
# attached to the cluster (xpk storage attach).

set -euo pipefail
: "${CLUSTER:?}" "${ZONE:?}" "${PROJECT:?}" "${IMAGE:?}"
name=${1:?"usage: xpk.sh NAME CONFIG FOLDER [FLAG ...]"}
config=${2:?"usage: xpk.sh NAME CONFIG FOLDER [FLAG ...]"}
folder=${3:?"usage: xpk.sh NAME CONFIG FOLDER [FLAG ...]"}
shift 3
flags=$(printf ' %q' "$@")

# exec: SIGTERM of an eviction reaches jalign, which saves one checkpoint on all
# hosts. --stopped_exit lets XPK see an error, after which the workload starts
# again and the run goes on; with 0 the workload would count as done.
xpk workload create --workload="$name" --cluster="$CLUSTER" --zone="$ZONE" \
  --project="$PROJECT" --docker-image="$IMAGE" \
  --tpu-type="${TPU_TYPE:-v5litepod-64}" --num-slices="${SLICES:-1}" \
  --max-restarts=10 --termination-grace-period-seconds=300 \
  --command="exec jalign train --config=$config --workdir=$folder \
    --cluster --stopped_exit=75$flags"

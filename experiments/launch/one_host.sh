#!/bin/bash
# A run on all GPUs of one host:
#
#   experiments/launch/one_host.sh dpo runs/dpo --config.mesh.fsdp=8
#
# Arguments: the config, the run's folder, and flags of `jalign train`. One
# process drives all GPUs, so that it needs no coordinator. GPUS chooses some:
# GPUS=0,1,2,3.
#
# PROCESSES=N starts N processes instead, each with its share of the GPUs. They
# find each other on a port of this host, as the processes of several hosts do:
# a way to try such a run on one machine.

set -euo pipefail
config=${1:?"usage: one_host.sh CONFIG FOLDER [FLAG ...]"}
folder=${2:?"usage: one_host.sh CONFIG FOLDER [FLAG ...]"}
shift 2

if [[ -n "${GPUS:-}" ]]; then
  export CUDA_VISIBLE_DEVICES=$GPUS
fi
# JAX takes 3/4 of each GPU's memory at its start; a run has the GPU to itself.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}

count=${PROCESSES:-1}
if ((count == 1)); then
  # exec: SIGTERM to this script reaches jalign, which saves and ends.
  exec jalign train --config="$config" --workdir="$folder" "$@"
fi

IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(
  nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd,
)}"
if ((${#devices[@]} % count)); then
  echo "${#devices[@]} GPUs don't divide into $count processes" >&2
  exit 2
fi
share=$((${#devices[@]} / count))
port=${PORT:-12355}

pids=()
# SIGTERM and Ctrl-C to this script go to every process: they save one
# checkpoint together and end.
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
  own=$(IFS=,; echo "${devices[*]:i * share:share}")
  CUDA_VISIBLE_DEVICES=$own jalign train --config="$config" \
    --workdir="$folder" --coordinator="localhost:$port" \
    --num_processes="$count" --process_id="$i" "$@" &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
  status=0
  wait "$pid" || status=$?
  # A signal to this script ends `wait` early: the process is waited for again.
  while ((status > 128)) && kill -0 "$pid" 2>/dev/null; do
    status=0
    wait "$pid" || status=$?
  done
  if ((status)); then
    code=$status
  fi
done
exit "$code"

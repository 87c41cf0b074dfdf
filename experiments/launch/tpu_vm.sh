#!/bin/bash
# A run on a slice of Cloud TPUs, for example a v5e of 64 chips:
#
#   gcloud compute tpus tpu-vm create NAME --zone=ZONE \
#     --accelerator-type=v5litepod-64 --version=v2-alpha-tpuv5-lite
#   export NAME=NAME ZONE=ZONE
#   experiments/launch/tpu_vm.sh install
#   experiments/launch/tpu_vm.sh mount BUCKET
#   experiments/launch/tpu_vm.sh train experiments/configs/plans/dpo_8b.py \
#     runs/dpo_8b --config.init_from=Qwen/Qwen3-8B --config.data.path=FILE.jsonl
#   experiments/launch/tpu_vm.sh stop
#
# `--worker=all` gives the same command to every host of the slice. With
# --cluster each host learns its number and the first host's address
# from the slice's metadata; the first host alone writes metrics and reports.
#
# The run's folder has to be one folder for all hosts: `mount` mounts a bucket on
# every host, at $MOUNT, under which `train` puts the folder. A network file
# system that is mounted there does as well.

set -euo pipefail
: "${NAME:?the name of the slice}" "${ZONE:?the zone of the slice}"
MOUNT=${MOUNT:-/mnt/runs}

everywhere() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
    --command="$1"
}

what=${1:?"install, mount, train or stop"}
shift
case "$what" in
  install)
    # JAX with the TPU's library, and a clone, which has the planned configs.
    everywhere "git clone https://github.com/jalign/jalign ~/jalign && \
      python3 -m venv ~/env && \
      ~/env/bin/pip install -U 'jax[tpu]' -e ~/jalign"
    ;;
  mount)
    # BUCKET is mounted on every host, with the names of folders as they are.
    everywhere "sudo mkdir -p $MOUNT && sudo chown \$USER $MOUNT && \
      gcsfuse --implicit-dirs ${1:?BUCKET} $MOUNT"
    ;;
  train)
    config=${1:?"train CONFIG FOLDER [FLAG ...]"}
    folder=${2:?"train CONFIG FOLDER [FLAG ...]"}
    shift 2
    # The flags are quoted twice: once here, once by the shell of each host.
    flags=$(printf ' %q' "$@")
    # nohup: the run goes on when this connection ends.
    everywhere "cd ~/jalign && nohup ~/env/bin/jalign train \
      --config=$config --workdir=$MOUNT/$folder --cluster$flags \
      >~/train.log 2>&1 </dev/null & sleep 5; tail -n 3 ~/train.log"
    ;;
  stop)
    # SIGTERM to every host's process: all save one checkpoint and end. The same
    # `train` goes on from there.
    # (The brackets keep the pattern from matching its own shell.)
    everywhere "pkill -TERM -f '[j]align train' || true"
    ;;
  *)
    echo "unknown: $what" >&2
    exit 2
    ;;
esac

#!/bin/bash
# A run on GPUs of several hosts under SLURM:
#
#   sbatch --nodes=2 experiments/launch/slurm.sh dpo runs/dpo \
#     --config.mesh.fsdp=16
#
# Arguments: the config, the run's folder, and flags of `jalign train`. Folder,
# data, and checkpoint have to lie on a file system that all hosts mount.
#
# A process drives one GPU, as JAX expects under SLURM. With --cluster
# the processes learn their number and the first host's address from SLURM.
#
#SBATCH --job-name=jalign
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM goes to every process five minutes before the time is up. One
# checkpoint is saved, and the job is queued again (--requeue) and goes on.
#SBATCH --signal=TERM@300
#SBATCH --requeue
# Lines of a job that is queued again are added, not written over the old ones.
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out

set -euo pipefail
config=${1:?"usage: sbatch slurm.sh CONFIG FOLDER [FLAG ...]"}
folder=${2:?"usage: sbatch slurm.sh CONFIG FOLDER [FLAG ...]"}
shift 2

# The environment that jalign is installed in, on the shared file system.
source "${JALIGN_ENV:-.venv}/bin/activate"

# --kill-on-bad-exit ends all processes when one of them ends with an error:
# otherwise the job would hold its GPUs until the others notice.
# --label puts the process's number before each line.
srun --kill-on-bad-exit=1 --label \
  jalign train --config="$config" --workdir="$folder" --cluster "$@"

# A run that was told to stop ends without error, before its last step: SLURM
# then starts the same command again, which goes on.
if [[ ! -f "$folder/report.html" ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi

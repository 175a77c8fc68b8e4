#!/usr/bin/env bash
# Prints what this machine computes with: `cuda` where an NVIDIA GPU answers, else `cpu`.
# ACCEL=cpu or ACCEL=cuda in the environment decides instead.
set -euo pipefail

case "${ACCEL:-}" in
    cpu | cuda)
        echo "$ACCEL"
        exit 0
        ;;
    '') ;;
    *)
        echo "ACCEL must be cpu or cuda, not '$ACCEL'." >&2
        exit 2
        ;;
esac

gpus=${GPU_FOLDER:-/proc/driver/nvidia/gpus}
if nvidia-smi -L 2>/dev/null | grep '^GPU ' >/dev/null; then
    echo cuda
elif [ -n "$(ls -A "$gpus" 2>/dev/null)" ]; then
    echo cuda
else
    echo cpu
fi

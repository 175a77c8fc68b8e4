#!/usr/bin/env bash
# Remake the demo's data and both adapters. About ten minutes an adapter on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}

"$python" examples/demo/make_data.py
for tenant in acme globex; do
    new=$(mktemp -d)
    "$python" -m training.sft --base embedded --data "examples/demo/$tenant.jsonl" --out "$new" \
        --base-name HuggingFaceTB/SmolLM2-135M-Instruct \
        --rank 2 --alpha 8 --learning-rate 1e-3 --epochs 3 --batch-size 8 --dropout 0
    mkdir -p "examples/demo/adapters/$tenant"
    mv "$new"/* "examples/demo/adapters/$tenant/"
    rmdir "$new"
done

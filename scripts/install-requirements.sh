#!/usr/bin/env bash
# install-requirements.sh VENV ACCEL [dev] [--dry-run]: makes VENV and installs the pinned packages.
# Used by `make setup` and by the image. uv, because overrides are needed: vLLM's CPU build names
# index builds of torchvision and others that belong to another torch.
set -euo pipefail
venv=$1 accel=$2
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)

# What pip finds on this machine, uv shall find too. pip separates by blanks, uv by commas. Not for
# CUDA: such a folder may hold the CPU build of torch, which would win over the plain one.
if [ "$accel" = cpu ] && [ -z "${UV_FIND_LINKS:-}" ] && [ -n "${PIP_FIND_LINKS:-}" ]; then
    export UV_FIND_LINKS="${PIP_FIND_LINKS// /,}"
fi

arguments=(--python "$venv" --overrides "$here/requirements/overrides-$accel.txt"
    --requirements "$here/requirements/$accel.txt")
for word in "$@"; do
    case "$word" in
        dev) arguments+=(--requirements "$here/requirements/dev.txt") ;;
        --dry-run) arguments+=(--dry-run) ;;
        *)
            echo "install-requirements.sh: what is '$word'?" >&2
            exit 2
            ;;
    esac
done

# Python then never keeps what it compiled: each process would compile torch and vLLM anew, for ten
# seconds and more.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
    arguments+=(--compile-bytecode)
fi

# An interrupted installation may leave half a package that passes for a whole one.
unfinished=$venv/.unfinished
if [ -e "$unfinished" ]; then
    rm -rf "$venv"
fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$("$here/scripts/find-python.sh")
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "$python cannot make virtual environments." >&2
        echo "Debian, Ubuntu: apt-get install python$version-venv" >&2
        exit 1
    fi
    "$python" -m venv --clear "$venv"
fi
touch "$unfinished"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$here/requirements/uv.txt"
"$venv/bin/uv" pip install "${arguments[@]}"
rm "$unfinished"

#!/usr/bin/env bash
# Prints the Python that Loraplex is installed with: PYTHON if set, else the first one that suits.
# Refuses with the reason where none does. vLLM 0.32 runs on Python 3.11 to 3.14.
set -euo pipefail

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
        >/dev/null 2>&1 </dev/null
}

if [ -n "${PYTHON:-}" ]; then
    candidates=("$PYTHON")
else
    candidates=(python3.13 python3.12 python3.11 python3.14 python3 python)
fi

for candidate in "${candidates[@]}"; do
    # A version manager's shim may be on the PATH without a Python behind it, so each one is run.
    if suits "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

{
    echo "Loraplex needs Python 3.11, 3.12, 3.13 or 3.14; tried: ${candidates[*]}."
    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11"
} >&2
exit 1

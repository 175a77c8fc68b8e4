#!/usr/bin/env bash
# image-install.sh requirements VENV ACCEL [--dry-run]: the pinned packages, a layer of their own.
# image-install.sh app VENV: Loraplex itself as a wheel built from this folder, without its sources.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
step=$1 venv=$2

install_requirements() {
    "$here/scripts/install-requirements.sh" "$venv" "$@"
}

install_app() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # From a copy, since a build leaves its intermediate files beside the sources and reuses them.
    mkdir "$work/sources"
    cp "$here"/{pyproject.toml,README.md,LICENSE} "$work/sources"
    for marker in "$here"/*/py.typed; do
        cp -r "$(dirname "$marker")" "$work/sources"
    done
    "$venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --no-cache-dir --wheel-dir "$work" "$work/sources"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
        --ignore-installed --compile "$work"/loraplex-*.whl
}

case "$step" in
    requirements) install_requirements "${@:3}" ;;
    app) install_app ;;
    *)
        echo "image-install.sh: the step must be requirements or app, not '$step'." >&2
        exit 2
        ;;
esac

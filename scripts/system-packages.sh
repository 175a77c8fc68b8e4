#!/usr/bin/env bash
# Brings the system parts that tests use and pip does not bring: installed where this is CI as root
# with apt, else named with the command. Prometheus is only unpacked for its `promtool`, since its
# package would start a server. PostgreSQL's package is told not to: the tests start their own.
set -euo pipefail

has_library() { ldconfig -p | grep -F "$1" >/dev/null; }
has_command() { command -v "$1" >/dev/null; }
has_postgresql() { has_command initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }

packages=()
has_library libnuma.so.1 || packages+=(libnuma1)
has_command node || packages+=(nodejs)
has_command npm || packages+=(npm)
has_command shellcheck || packages+=(shellcheck)
has_command strace || packages+=(strace)
has_postgresql || packages+=(postgresql)
wants_promtool=false
has_command promtool || wants_promtool=true

if [ ${#packages[@]} -eq 0 ] && ! $wants_promtool; then
    exit 0
fi

if [ "${CI:-}" != true ] || [ "$(id -u)" -ne 0 ] || ! has_command apt-get; then
    echo "Missing for the whole test-suite (tests that need them are skipped outside CI):"
    [ ${#packages[@]} -eq 0 ] || echo "  apt-get install --no-install-recommends ${packages[*]}"
    ! $wants_promtool || echo "  promtool, from Debian's package prometheus"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if ! has_postgresql; then
    mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/no-server.conf
fi
if [ ${#packages[@]} -gt 0 ]; then
    apt-get install -qq -y --no-install-recommends "${packages[@]}"
fi
if $wants_promtool; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    chmod 755 "$folder"
    (cd "$folder" && apt-get -o APT::Sandbox::User=root download -qq prometheus)
    dpkg -x "$folder"/prometheus_*.deb "$folder/unpacked"
    install -m 755 "$folder/unpacked/usr/bin/promtool" /usr/local/bin/promtool
fi

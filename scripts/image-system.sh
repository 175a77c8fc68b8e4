#!/usr/bin/env bash
# image-system.sh ACCEL [ROOT]: the image's system part: what vLLM needs from Debian, and the two
# folders that the numeric user may write. With ROOT only the folders, below it.
set -euo pipefail
accel=$1 root=${2:-}
user=10001

packages=(libnuma1)
# Triton builds vLLM's LoRA kernels with a C compiler when they are first used.
[ "$accel" = cuda ] && packages+=(gcc libc6-dev)

if [ -z "$root" ]; then
    apt-get update
    apt-get install -y --no-install-recommends "${packages[@]}"
    rm -rf /var/lib/apt/lists/*
fi

install -d -m 0700 "$root/data" "$root/cache"
if [ "$(id -u)" -eq 0 ]; then
    chown "$user:$user" "$root/data" "$root/cache"
fi

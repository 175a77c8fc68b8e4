#!/usr/bin/env bash
# check-libraries.sh ACCEL: refuses, with the command that helps, where a system part that vLLM
# needs and pip does not bring is missing. Run before anything is installed or started.
set -euo pipefail
accel=$1
folder=$(dirname "$0")

has_library() { # in the system's list, or where a loader finds it otherwise
    PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -F "$1" >/dev/null ||
        "$("$folder/find-python.sh")" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" \
            >/dev/null 2>&1
}

missing() { # missing WHAT WHY PACKAGES
    echo "$1 is missing: $2." >&2
    echo "Debian, Ubuntu: apt-get install $3" >&2
    exit 1
}

if [ "$accel" = cpu ] && ! has_library libnuma.so.1; then
    missing libnuma.so.1 "vLLM's CPU build is linked with it" libnuma1
fi
if [ "$accel" = cuda ] && ! command -v "${CC:-cc}" gcc clang >/dev/null; then
    missing "A C compiler" "Triton builds vLLM's LoRA kernels with it" "gcc libc6-dev"
fi

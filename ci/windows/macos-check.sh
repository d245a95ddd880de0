#!/usr/bin/env bash
# Type-checks for aarch64-apple-darwin, on Linux; run from the project's root.
#   ci/windows/macos-check.sh [cargo check's arguments]
# Check links nothing, so build scripts get a compiler and an archiver that create empty files.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
tools=$target/macos/no-cc
mkdir -p "$tools"
cat >"$tools/cc" <<'C'
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && { : > "$2"; exit 0; }; shift; done
C
cat >"$tools/ar" <<'C'
#!/bin/sh
case $1 in c*|r*) : > "$2";; esac
C
chmod +x "$tools"/*
export CC_aarch64_apple_darwin=$tools/cc AR_aarch64_apple_darwin=$tools/ar
exec cargo check "${std[@]}" --target aarch64-apple-darwin --target-dir "$target/macos" "$@"

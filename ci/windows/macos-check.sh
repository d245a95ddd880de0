#!/usr/bin/env bash
# Type-checks for aarch64-apple-darwin, on Linux; run from the project's root.
#   ci/windows/macos-check.sh [cargo check's arguments]
# Check links nothing, so build scripts get a compiler and an archiver that create empty files.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
tools=$target/no-cc
mkdir -p "$tools"
cat >"$tools/cc" <<'C'
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && { : > "$2"; exit 0; }; shift; done
C
cat >"$tools/ar" <<'C'
#!/bin/sh
case $1 in c*|r*) : > "$2";; esac
C
# macFUSE, as far as fuser's build script looks.
cat >"$tools/pkg-config" <<'C'
#!/bin/sh
[ "$1" = --modversion ] && echo 2.9.9
exit 0
C
chmod +x "$tools"/*
export PKG_CONFIG=$tools/pkg-config PKG_CONFIG_ALLOW_CROSS=1
export CC_aarch64_apple_darwin=$tools/cc AR_aarch64_apple_darwin=$tools/ar
exec cargo check "${std[@]}" "${strict[@]}" --target aarch64-apple-darwin --target-dir "$checked" "$@"

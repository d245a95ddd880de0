#!/usr/bin/env bash
# Type-checks for x86_64-pc-windows-msvc, on Linux; run from the project's root.
#   ci/windows/check.sh [cargo check's arguments]      e.g. -p covefs-remote -p covefs-cache
# C code in build scripts is compiled with clang against mingw-w64's headers; nothing is linked.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export CC_x86_64_pc_windows_msvc=clang AR_x86_64_pc_windows_msvc=llvm-ar
export CFLAGS_x86_64_pc_windows_msvc="--target=x86_64-w64-windows-gnu -I$mingw"
exec cargo check "${std[@]}" "${strict[@]}" --target x86_64-pc-windows-msvc --target-dir "$checked" "$@"

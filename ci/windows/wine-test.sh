#!/usr/bin/env bash
# Builds for x86_64-pc-windows-gnu and runs tests under Wine, on Linux; run from the project's root.
#   ci/windows/wine-test.sh [cargo test's arguments]   e.g. -p covefs-cache --lib
#   ci/windows/wine-test.sh --run PROGRAM.exe [ARGS]   runs one built program the same way
# Wine has no WinFsp driver, so nothing can be mounted there: tests call the file system directly. The
# DLL of the winfsp-sys package is used, unchanged.
set -euo pipefail
if [ "${1:-}" = --run ]; then
  # By cargo, in the folder of a package, with all that is set below.
  shift
  target=${CARGO_TARGET_DIR:-$PWD/target}
  export WINEPREFIX=${WINEPREFIX:-$target/wine-home} WINEDEBUG=${WINEDEBUG:--all}
  cp -n "${WINE_DLLS:-$target/wine-dlls}"/*.dll "$(dirname "$1")/"
  # The command is above its tests, and is run as on a machine without WinFsp.
  cp -n "${WINE_DLLS:-$target/wine-dlls}/bcryptprimitives.dll" "$(dirname "$1")/../"
  exec wine "$@"
fi
packages="wine wine64"
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
dlls=$target/wine-dlls
mkdir -p "$dlls"
[ -e "$dlls/bcryptprimitives.dll" ] ||
  x86_64-w64-mingw32-gcc -shared -o "$dlls/bcryptprimitives.dll" "$here/prng.c" -ladvapi32
cargo fetch -q
winfsp=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/winfsp-sys-*/winfsp | tail -n 1)
cp "$winfsp/bin/winfsp-x64.dll" "$dlls/"
# As on Windows, it is loaded when it is first called.
x86_64-w64-mingw32-objdump -p "$dlls/winfsp-x64.dll" |
  awk 'BEGIN { print "LIBRARY winfsp-x64.dll\nEXPORTS" } /Name Pointer\] Table/ { on = 1; next } NF == 0 { on = 0 } on { print $NF }' \
  >"$dlls/winfsp.def"
x86_64-w64-mingw32-dlltool -d "$dlls/winfsp.def" -y "$dlls/libwinfsp-late.a"
export WINFSP_ROOT=$winfsp WINE_DLLS=$dlls WINEPREFIX=${WINEPREFIX:-$target/wine-home}
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="$here/wine-test.sh --run"
# Its own lock file: the patch below would otherwise change the project's.
mkdir -p "$target/wine"
cp Cargo.lock "$target/wine/Cargo.lock"
exec cargo test "${std[@]}" -Zlockfile-path --config "resolver.lockfile-path=\"$target/wine/Cargo.lock\"" \
  --config "patch.crates-io.winfsp-sys.path=\"$here/winfsp-sys\"" \
  --target x86_64-pc-windows-gnu --target-dir "$target/wine" "$@"

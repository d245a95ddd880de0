# Sourced by the scripts beside it: the compiler and flags for other systems, on Debian 12.
# std is built from Debian's own package of its sources: no toolchain is downloaded.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
need=()
for package in rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 libclang-dev clang llvm ${packages:-}; do
  dpkg -s "$package" >/dev/null 2>&1 || need+=("$package")
done
if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "missing: apt-get install ${need[*]}" >&2
    exit 1
  fi
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${need[@]}"
fi
export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER
# Built once and thrown away: what nobody debugs is built as fast as it can be.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_INCREMENTAL=0
mingw=/usr/x86_64-w64-mingw32/include
# WinFsp's headers, for winfsp-sys: mingw-w64's stand in for those of Windows' own SDK.
export BINDGEN_EXTRA_CLANG_ARGS="--target=x86_64-w64-windows-gnu -fms-extensions -Dstatic_assert=_Static_assert -I$mingw -include $here/winfsp-prelude.h"
std=(-Zbuild-std=std,panic_unwind -Zunstable-options)
# Of the project's own crates; others' are what they are.
strict=(-Zwarnings --config 'build.warnings="deny"')
target=${CARGO_TARGET_DIR:-$PWD/target}
# One directory for what is only checked: build scripts and macros, which run here, are built once.
checked=$target/checked
mkdir -p "$target"

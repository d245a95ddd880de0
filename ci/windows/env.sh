# Sourced by check.sh and macos-check.sh: the compiler and flags for other systems, on Debian 12.
# std is built from Debian's own package of its sources: no toolchain is downloaded.
need=()
for package in rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 clang llvm; do
  dpkg -s "$package" >/dev/null 2>&1 || need+=("$package")
done
if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "missing: apt-get install ${need[*]}" >&2
    exit 1
  fi
  apt-get update -q && apt-get install -y -q --no-install-recommends "${need[@]}"
fi
export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER
mingw=/usr/x86_64-w64-mingw32/include
std=(-Zbuild-std=std,panic_unwind -Zunstable-options)
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"

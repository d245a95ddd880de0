# Sourced by pjdfstest.sh and fsx.sh: a share, a cache and a drive below $place, on a real disk
# that other users can reach; all of it gone at the end, whatever happens.
#   COVEFS           the program; target/debug/covefs by default
#   COVEFS_TEST_DIR  where the files go; /var/tmp by default
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
covefs=${COVEFS:-$target/debug/covefs}
place=$(mktemp -d "${COVEFS_TEST_DIR:-/var/tmp}/covefs-$(basename "$0" .sh).XXXXXX")
mkdir "$place/share" "$place/cache" "$place/mnt"
chmod 755 "$place"
daemon=
trap "end_drive" EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mounted() { grep -qF " $place/mnt " /proc/self/mountinfo; }

# start_drive [ARGS of covefs mount]: returns when the drive is usable.
start_drive() {
  # If this script is killed, nobody else would end the daemon.
  setpriv --pdeathsig KILL "$covefs" mount "dir:$place/share" "$place/mnt" --cache-dir "$place/cache" \
    --log "$place/log" --foreground "$@" >"$place/output" 2>&1 &
  daemon=$!
  for _ in $(seq 300); do
    if mounted; then return; fi
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
  done
  echo "the drive did not start:" >&2
  tail -n 20 "$place/output" "$place/log" >&2 || true
  exit 1
}

# Uploads everything and unmounts.
stop_drive() {
  "$covefs" sync "$place/mnt" --wait
  "$covefs" unmount "$place/mnt"
  wait "$daemon"
  daemon=
}

end_drive() {
  if [ -n "$daemon" ]; then
    kill -9 "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  if mounted; then
    if [ "$(id -u)" = 0 ]; then umount -l "$place/mnt"; else fusermount3 -u -z "$place/mnt"; fi
  fi
  mounted || rm -rf "$place"
  at_end
}

# What a script has to undo besides.
at_end() { :; }

# tool NAME VERSION: the path of a program from crates.io, built once and kept below target.
tool() {
  local kept=$target/tools/$1-$2
  if [ ! -x "$kept/bin/$1" ]; then
    cargo install --quiet --locked --root "$kept" --target-dir "$target/tools/build" "$1@$2" >&2
  fi
  echo "$kept/bin/$1"
}

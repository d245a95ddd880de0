#!/usr/bin/env bash
# Installs what the tests need and runs them all, quick ones first. The last line says
# "N passed, N failed"; the exit code is 0 only if none failed.
#   COVEFS_CRASH_ROUNDS=200 COVEFS_FSX_OPS=100000 ./test.sh    longer runs; COVEFS_SEED=N repeats one
#   COVEFS_SEEDS=100000 ./test.sh                              more of the simulation
#   COVEFS_WINDOWS=0 COVEFS_BREAK=0 ./test.sh                  without the checks for other systems, and without
#                                                              breaking invariants on purpose
set -uo pipefail
cd "$(dirname "$0")"
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1
target=${CARGO_TARGET_DIR:-$PWD/target}
logs=$target/test-logs
passed=0
failed=0
running=
trap 'stop 130' INT
trap 'stop 143' TERM
stop() {
  # The step's own traps take down what it mounted.
  if [ -n "$running" ]; then kill -TERM "$running" && wait "$running"; fi
  exit "$1"
}

# Programs that a package brings, one a line: package, how to see that it is there.
needs() {
  cat <<'NEEDS'
fuse3 command -v fusermount3
git command -v git
rsync command -v rsync
tar command -v tar
util-linux command -v setpriv
dbus-daemon command -v dbus-daemon
dbus-bin command -v dbus-send
gnome-keyring command -v gnome-keyring-daemon
gcc command -v cc
python3 python3 -c "import sqlite3, mmap"
python3-venv python3 -c "import venv, ensurepip"
NEEDS
  # pjdfstest, Samba and the tests of trouble, as root only.
  if [ "$(id -u)" = 0 ]; then
    echo 'libacl1-dev test -e /usr/include/sys/acl.h'
    echo 'passwd command -v useradd'
    echo 'libfaketime ls /usr/lib/*/faketime/libfaketimeMT.so.1'
    echo 'e2fsprogs command -v mkfs.ext4'
    echo 'samba command -v smbd'
    echo 'samba-vfs-modules ls /usr/lib/*/samba/vfs/shadow_copy2.so'
    echo 'smbclient command -v smbclient'
    echo 'krb5-kdc command -v krb5kdc'
    echo 'krb5-admin-server command -v kadmin.local'
    echo 'krb5-user command -v kinit'
  fi
}

install() {
  local missing=() package present
  while read -r package present; do
    eval "$present" >/dev/null 2>&1 || missing+=("$package")
  done < <(needs)
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
      echo "missing, ask root for: apt-get install ${missing[*]}"
      return 1
    fi
    # Samba and the KDC bring services; the tests start servers of their own, and nobody asked for others.
    local guard=/usr/sbin/policy-rc.d quiet= result=0
    if [[ " ${missing[*]} " =~ " samba "|" krb5-" ]] && [ ! -e "$guard" ]; then
      quiet=1
      printf '#!/bin/sh\nexit 101\n' >"$guard"
      chmod 755 "$guard"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" || result=1
    if [ -n "$quiet" ]; then
      rm -f "$guard"
      if command -v systemctl >/dev/null; then systemctl disable -q smbd nmbd samba-ad-dc krb5-kdc krb5-admin-server 2>/dev/null; fi
    fi
    [ "$result" = 0 ] || return 1
  fi
  if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
    echo "/dev/fuse cannot be opened by $(id -un): modprobe fuse; chmod 666 /dev/fuse, as package fuse3 has it"
    return 1
  fi
}

# step NAME SECONDS COMMAND...: runs it, shows its end, counts what it says. A step that counts
# nothing is one test.
step() {
  local name=$1 limit=$2 log result begin counts ok bad
  shift 2
  log=$logs/${name// /-}.log
  begin=$SECONDS
  result=0
  timeout -k 30 "$limit" "$@" >"$log" 2>&1 </dev/null &
  running=$!
  wait "$running" || result=$?
  running=
  counts=$(sed -nE 's/^(test result: [a-zA-Z]+\. )?([0-9]+) passed[;,] ([0-9]+) failed.*/\2 \3/p' "$log" |
    awk '{ ok += $1; bad += $2; n++ } END { print ok + 0, bad + 0, n + 0 }')
  read -r ok bad counts <<<"$counts"
  if [ "$counts" = 0 ] && [ "$result" = 0 ]; then ok=1; fi
  if [ "$bad" = 0 ] && [ "$result" != 0 ]; then bad=1; fi
  passed=$((passed + ok))
  failed=$((failed + bad))
  printf '%-32s %5d passed %3d failed %5d s\n' "$name" "$ok" "$bad" $((SECONDS - begin))
  # What passed only because it could not run here.
  grep -ao 'NOT RUN: .*' "$log" | sed -E 's/^NOT RUN: [^ ]+: //' | sort | uniq -c |
    sed -E 's/^ *([0-9]+) (.*)/  NOT RUN: \1 tests: \2/'
  if [ "$result" = 124 ] || [ "$result" = 137 ]; then echo "  ended after its $limit s"; fi
  if [ "$bad" != 0 ]; then
    echo "  exit code $result; all of it: $log"
    grep -E -A 12 '^test .* FAILED$|panicked at' "$log" | head -n 120 | sed 's/^/  ! /'
    tail -n 120 "$log" | sed 's/^/  | /'
  fi
  return "$result"
}

skip() { printf '%-32s skipped: %s\n' "$1" "$2"; }

mkdir -p "$logs"
if ! install >"$logs/install.log" 2>&1; then
  tail -n 20 "$logs/install.log"
  echo "0 passed, 1 failed"
  exit 1
fi

# One selection for all steps, so that nothing is built twice: cargo takes features by what is selected.
tests=(cargo test --workspace --no-fail-fast)

step "formatting" 60 cargo fmt --all --check
step "lints" 1200 cargo clippy --workspace --all-targets -- -D warnings
if ! step "build" 1800 "${tests[@]}" --no-run; then
  # Nothing further says anything.
  echo "$passed passed, $failed failed"
  exit 1
fi
of_crates=()
for name in $(sed -nE 's|^ +Executable tests/.*/([a-z_]+)-[0-9a-f]+\)$|\1|p' "$logs/build.log"); do
  if [ ! -e "tests/$name.rs" ]; then of_crates+=(--test "$name"); fi
done
step "house rules" 300 "${tests[@]}" --test tidy
step "crates" 1200 "${tests[@]}" --lib --bins "${of_crates[@]}"
for test in tests/*.rs; do
  name=$(basename "$test" .rs)
  case $name in tidy | programs | limit | crash) continue ;; esac
  step "$name" 900 "${tests[@]}" --test "$name"
done
for name in programs limit crash; do
  step "$name" "${COVEFS_STEP_SECONDS:-1500}" "${tests[@]}" --test "$name"
done
# The same with every file that the kernel can read by itself left to it.
if [ "$(id -u)" = 0 ]; then
  step "limit and crash, lent" 600 env COVEFS_LEND_AGE=0s "${tests[@]}" --test limit --test crash
else
  skip "limit and crash, lent" "needs root, the kernel lends to nobody else"
fi
step "simulation" 900 env COVEFS_SEEDS="${COVEFS_SEEDS:-6000}" \
  "${tests[@]}" --lib two_sites_lose_nothing -- --nocapture
if [ "${COVEFS_BREAK:-1}" = 0 ]; then
  skip "broken on purpose" "COVEFS_BREAK=0"
else
  step "broken on purpose" "${COVEFS_STEP_SECONDS:-1800}" ci/broken.sh
fi
step "fsx" "${COVEFS_STEP_SECONDS:-1500}" ci/fsx.sh
step "fsx over azure" "${COVEFS_STEP_SECONDS:-1500}" env COVEFS_TEST_SHARE=azure COVEFS_FSX_SEEDS="${COVEFS_FSX_SEEDS:-1}" ci/fsx.sh
if [ "$(id -u)" = 0 ]; then
  step "fsx over smb" "${COVEFS_STEP_SECONDS:-1500}" env COVEFS_TEST_SHARE=smb COVEFS_FSX_SEEDS="${COVEFS_FSX_SEEDS:-1}" ci/fsx.sh
  step "pjdfstest" 900 ci/pjdfstest.sh
  step "pjdfstest over smb" 180 env COVEFS_TEST_SHARE=smb ci/pjdfstest.sh
else
  skip "fsx over smb" "smbd has to be started as root"
  skip "pjdfstest" "needs root, it switches between users"
  skip "pjdfstest over smb" "needs root, as above"
fi
step "demo" 300 "$target/debug/covefs" demo --check
step "demo over azure" 300 "$target/debug/covefs" demo --azure --check

# All must compile for Windows and macOS, and what can run under Wine runs.
if [ "${COVEFS_WINDOWS:-1}" = 0 ]; then
  skip "windows" "COVEFS_WINDOWS=0"
elif [ "$(id -u)" != 0 ] && ! dpkg -s rust-web-src >/dev/null 2>&1; then
  skip "windows" "needs packages that only root can install"
else
  step "windows" 900 ci/windows/check.sh --workspace --lib --bins --tests
  step "macos" 900 ci/windows/macos-check.sh -p covefs-remote -p covefs-cache -p covefs-mount -p covefs
  step "wine" 2400 ci/windows/wine.sh
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

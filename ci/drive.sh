# Sourced by pjdfstest.sh and fsx.sh: a share, a cache and a drive below $place, on a real disk
# that other users can reach; all of it gone at the end, whatever happens.
#   COVEFS           the program; target/debug/covefs by default
#   COVEFS_TEST_DIR  where the files go; /var/tmp by default
#   COVEFS_TEST_SHARE  "smb": the share is reached over a Samba server of the test's own, as root;
#                      "azure": it is one of the Azure Files emulator, in its memory
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
covefs=${COVEFS:-$target/debug/covefs}
place=$(mktemp -d "${COVEFS_TEST_DIR:-/var/tmp}/covefs-$(basename "$0" .sh).XXXXXX")
mkdir "$place/share" "$place/cache" "$place/mnt"
chmod 755 "$place"
daemon=
server=
share=dir:$place/share
login=()
trap "end_drive" EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mounted() { grep -qF " $place/mnt " /proc/self/mountinfo; }

# A Samba server of the loopback over the directory of the share.
start_server() {
  local port dir
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  for dir in private state lock cache pid rpc; do mkdir -p "$place/server/$dir"; done
  cat >"$place/server/smb.conf" <<CONFIG
[global]
server role = standalone server
smb ports = $port
interfaces = 127.0.0.1/8
bind interfaces only = yes
disable netbios = yes
load printers = no
disable spoolss = yes
map to guest = never
passdb backend = tdbsam:$place/server/private/passdb.tdb
private dir = $place/server/private
lock directory = $place/server/lock
state directory = $place/server/state
cache directory = $place/server/cache
pid directory = $place/server/pid
ncalrpc dir = $place/server/rpc
log file = $place/server/log
[share]
path = $place/share
read only = no
CONFIG
  printf 'secret\nsecret\n' |
    pdbedit --create --password-from-stdin --user root --configfile "$place/server/smb.conf" >/dev/null
  printf 'username=root\npassword=secret\n' >"$place/server/login"
  chmod 600 "$place/server/login"
  setsid setpriv --pdeathsig TERM smbd --foreground --no-process-group --configfile "$place/server/smb.conf" \
    >/dev/null 2>&1 </dev/null &
  server=$!
  for _ in $(seq 300); do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    sleep 0.1
  done
  share=smb://127.0.0.1:$port/share
  login=(--credentials "$place/server/login")
}

# The Azure Files emulator; its first lines say how to reach it.
start_emulator() {
  setsid setpriv --pdeathsig TERM "${COVEFS_EMULATOR:-$target/debug/azure-files-emulator}" \
    --listen 127.0.0.1:0 --share share >"$place/said" 2>&1 </dev/null &
  server=$!
  for _ in $(seq 300); do
    if grep -q Listening "$place/said"; then break; fi
    sleep 0.1
  done
  AZURE_STORAGE_CONNECTION_STRING=$(head -n 1 "$place/said")
  export AZURE_STORAGE_CONNECTION_STRING
  share=azfiles://devstoreaccount1/share
}

if [ "${COVEFS_TEST_SHARE:-dir}" = azure ]; then start_emulator; fi
if [ "${COVEFS_TEST_SHARE:-dir}" = smb ]; then
  if ! command -v smbd >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "smbd has to be there, and started as root (apt-get install samba)" >&2
    exit 1
  fi
  start_server
fi

# start_drive [ARGS of covefs mount]: returns when the drive is usable.
start_drive() {
  # If this script is killed, nobody else would end the daemon.
  setpriv --pdeathsig KILL "$covefs" mount "$share" "$place/mnt" --cache-dir "$place/cache" \
    --log "$place/log" --foreground "${login[@]}" "$@" >"$place/output" 2>&1 &
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

# fetch_there NAME: writes what the share has under a name to $place/there. From a server in memory it is
# read by a drive with an empty cache.
fetch_there() {
  if [ "${COVEFS_TEST_SHARE:-dir}" != azure ]; then
    cp "$place/share/$1" "$place/there"
    return
  fi
  rm -rf "$place/cache"
  mkdir "$place/cache"
  start_drive --cache-size 64MiB
  cp "$place/mnt/$1" "$place/there"
  stop_drive
}

end_drive() {
  if [ -n "$daemon" ]; then
    kill -9 "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  if mounted; then
    if [ "$(id -u)" = 0 ]; then umount -l "$place/mnt"; else fusermount3 -u -z "$place/mnt"; fi
  fi
  if [ -n "$server" ]; then
    kill -- "-$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
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

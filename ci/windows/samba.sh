#!/usr/bin/env bash
# Runs a command with a Samba server of its own on the loopback; COVEFS_TEST_SMB_PORT says where.
#   ci/windows/samba.sh COMMAND [ARGUMENTS]
# Programs under Wine reach the loopback of this machine, and cannot start a server here. Without root or
# without Samba the command runs alone, and says what it does not test.
set -uo pipefail
if [ "$(id -u)" != 0 ] || ! command -v smbd pdbedit setpriv >/dev/null; then
  exec "$@"
fi
dir=$(mktemp -d)
server=
finish() {
  # A group of its own: one process for each connection.
  [ -n "$server" ] && kill -TERM -- "-$server" && wait "$server"
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$dir"/{plain,secret,state,private,lock,cache,pid,rpc}
# Below those that clients get by chance.
for port in $(shuf -i 10000-29999 -n 20); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
cat >"$dir/smb.conf" <<CONF
[global]
server role = standalone server
smb ports = $port
interfaces = 127.0.0.1/8
bind interfaces only = yes
disable netbios = yes
load printers = no
disable spoolss = yes
map to guest = never
server min protocol = SMB3
passdb backend = tdbsam:$dir/private/passdb.tdb
private dir = $dir/private
lock directory = $dir/lock
state directory = $dir/state
cache directory = $dir/cache
pid directory = $dir/pid
ncalrpc dir = $dir/rpc
log file = $dir/log
[plain]
path = $dir/plain
read only = no
[secret]
path = $dir/secret
read only = no
smb encrypt = required
CONF
printf 'hunter2\nhunter2\n' |
  pdbedit --create --password-from-stdin --user root --configfile "$dir/smb.conf" >/dev/null || exit 1
setsid setpriv --pdeathsig TERM smbd --foreground --no-process-group --configfile "$dir/smb.conf" \
  </dev/null >/dev/null 2>&1 &
server=$!
for _ in $(seq 100); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$server" || { cat "$dir/log" >&2; exit 1; }
  sleep 0.1
done
export COVEFS_TEST_SMB_PORT=$port
"$@"

#!/usr/bin/env bash
# fsx on a drive whose cache is smaller than the file, with uploads running: random reads, writes,
# mappings, truncates and holes, each read compared with what was written.
#   COVEFS_FSX_OPS    operations for each seed; 100000 is the full run, 10000 the default
#   COVEFS_FSX_SEEDS  "1 2 3" by default
#   COVEFS_TEST_SHARE "smb" or "azure": over a server, see drive.sh
# The last line says: N passed, N failed
source "$(dirname "${BASH_SOURCE[0]}")/drive.sh"
fsx=$(tool fsx 0.3.2)
ops=${COVEFS_FSX_OPS:-10000}
passed=0
failed=0

cat >"$place/settings.toml" <<'SETTINGS'
flen = 100663296
[opsize]
max = 262144
[weights]
close_open = 1
invalidate = 1
mapread = 5
mapwrite = 5
read = 10
write = 10
truncate = 1
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 1
punch_hole = 1
sendfile = 1
posix_fadvise = 1
copy_file_range = 1
SETTINGS

# Uploads must meet writes: started again and again while fsx runs.
upload() {
  while kill -0 "$1" 2>/dev/null; do
    "$covefs" sync "$place/mnt" || true
    sleep 0.5
  done
}

for seed in ${COVEFS_FSX_SEEDS:-1 2 3}; do
  start_drive --cache-size 64MiB --freshness 1s
  file=$place/mnt/fsx-$seed
  "$fsx" -q -f "$place/settings.toml" -N "$ops" -S "$seed" -P "$place" "$file" >"$place/results" 2>&1 &
  run=$!
  upload "$run" >/dev/null
  if wait "$run"; then
    before=$(sha256sum <"$file")
    stop_drive
    fetch_there "fsx-$seed"
    after=$(sha256sum <"$place/there")
    if [ "$before" = "$after" ]; then
      passed=$((passed + 1))
      echo "seed $seed: $ops operations, the same $(stat -c %s "$place/there") bytes on the share"
    else
      failed=$((failed + 1))
      echo "seed $seed: the share has other bytes than the drive"
    fi
  else
    failed=$((failed + 1))
    echo "seed $seed: fsx found a difference, or ended before its time:"
    tail -n 40 "$place/results"
    break
  fi
  # The share itself stays: by its root it is known which one it is.
  rm -rf "$place/cache" "$place/share"/*
  mkdir "$place/cache"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# The tests that run under Wine, and those that cannot, with the reasons; run from the project's root.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Where the simulation and what is slow is run at length already, on Linux, it is short here.
export COVEFS_SEEDS=${COVEFS_SEEDS:-20}

# Wine forgets the name of a removed file only when its last handle is closed.
skip=(--skip disk::tests::names_are_made_listed_renamed_and_removed)
# Wine cannot allocate ahead of a file's end (FileAllocationInfo).
skip+=(--skip disk::tests::reserved_blocks_are_allocated_holes)
# Wine refuses sled's lock once more after another handle gave it up; why was not found out.
skip+=(--skip index::tests::a_lock_that_soon_goes_is_waited_for)

# One call for all, so that nothing is built twice. Of the remote's, `local`, `differential` and `swap` are about
# directories of unix (`folder` is about those of Windows); `smb_calls` kills and freezes servers of its own, and
# looks at what they have on the disk.
tests=(-p covefs-remote -p covefs-cache -p covefs-mount -p covefs --lib --bin covefs)
for test in attempt azure_calls contract fault folder watch windows; do tests+=(--test "$test"); done
exec "$here/samba.sh" "$here/wine-test.sh" "${tests[@]}" --no-fail-fast "$@" -- "${skip[@]}"

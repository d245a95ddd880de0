#!/usr/bin/env bash
# Breaks on purpose what cache/src/broken.rs lists, one after the other, and sees that the tests find it:
# what breaks unseen fails here. Each is one test: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=0 COVEFS_SEEDS=${COVEFS_BROKEN_SEEDS:-300}
passed=0
failed=0

breakable() { sed -nE 's/^    ([A-Z][A-Za-z]+),$/\1/p' cache/src/broken.rs; }

# Of the tests that find it, those that say why are enough.
tests=(tests::cuts tests::order tests::power tests::simulation::two_sites journal::tests)

cargo test -q --workspace --lib --no-run || exit 1
for broken in $(breakable); do
  found=
  for test in "${tests[@]}"; do
    out=$(COVEFS_BROKEN=$broken timeout 300 cargo test -q --workspace --lib "$test" 2>&1)
    # One that does not end finds nothing.
    if grep -q '^test result: FAILED' <<<"$out"; then
      found="$(sed -nE 's/^    (tests::.*|journal::.*)$/\1/p' <<<"$out" | sort -u | head -3 | tr '\n' ' ')"
      break
    fi
  done
  if [ -n "$found" ]; then
    echo "$broken: found by $found"
    passed=$((passed + 1))
  else
    echo "$broken: NOT FOUND by any test"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

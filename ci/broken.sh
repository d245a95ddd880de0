#!/usr/bin/env bash
# Builds covefs broken on purpose, once for each feature of cache/src/broken.rs, and sees that the tests
# find it: a build that passes them fails here. Each is one test: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=0 COVEFS_SEEDS=${COVEFS_BROKEN_SEEDS:-300}
passed=0
failed=0

features() { sed -nE 's/^(broken-[a-z-]+) = \[\]$/\1/p' cache/Cargo.toml; }

# Of the tests that a broken build fails, those that say why are enough.
tests=(tests::cuts tests::order tests::power tests::simulation journal::tests)

for feature in $(features); do
  if ! cargo test -q -p covefs-cache --lib --features "$feature" --no-run; then
    echo "$feature: does not build"
    failed=$((failed + 1))
    continue
  fi
  found=
  for test in "${tests[@]}"; do
    if ! out=$(timeout 300 cargo test -q -p covefs-cache --lib --features "$feature" "$test" 2>&1); then
      found="$test: $(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p; s/^    (tests::.*|journal::.*)$/\1/p' <<<"$out" | sort -u | head -3 | tr '\n' ' ')"
      break
    fi
  done
  if [ -n "$found" ]; then
    echo "$feature: found by $found"
    passed=$((passed + 1))
  else
    echo "$feature: NOT FOUND by any test"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

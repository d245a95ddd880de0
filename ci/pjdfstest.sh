#!/usr/bin/env bash
# pjdfstest on a drive over a `dir:` share, as root, or over an SMB one (COVEFS_TEST_SHARE=smb). Each test must
# pass, but those listed in pjdfstest.expected (pjdfstest-smb.expected), which must fail: a listed test that
# passes is a failure of the list.
#   ci/pjdfstest.sh [TEST PATTERNS]      the last line says: N passed, N failed
source "$(dirname "${BASH_SOURCE[0]}")/drive.sh"
if [ "$(id -u)" != 0 ]; then
  echo "pjdfstest needs root: it switches between users" >&2
  exit 1
fi

# It works as two users who own nothing. Ours go away again.
made=
at_end() { if [ -n "$made" ]; then userdel tests; fi; }
if ! getent passwd tests >/dev/null; then
  useradd --system --no-create-home --shell /usr/sbin/nologin --user-group tests
  made=yes
fi
nobody_group=$(id -gn nobody)

pjdfstest=$(tool pjdfstest 0.2.2)
cat >"$place/settings.toml" <<SETTINGS
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["nobody", "$nobody_group"], ["tests", "tests"]]
SETTINGS

expected=$root/ci/pjdfstest.expected
if [ "${COVEFS_TEST_SHARE:-dir}" = smb ]; then expected=$root/ci/pjdfstest-smb.expected; fi

start_drive --freshness 1s
mkdir "$place/mnt/work"
result=0
"$pjdfstest" -c "$place/settings.toml" -p "$place/mnt/work" "$@" >"$place/results" 2>&1 || result=$?
if ! grep -q '^Summary:' "$place/results"; then
  tail -n 30 "$place/results" >&2
  echo "pjdfstest did not come to its end (exit code $result)" >&2
  exit 1
fi
rm -rf "$place/mnt/work"
stop_drive
left=$(ls -A "$place/share")

python3 - "$place/results" "$expected" "$#" "$left" <<'CHECK'
import re, sys
results, expected, patterns, left = sys.argv[1:]
states, reasons, wrong = {}, {}, []
for line in open(results, errors="replace"):
    line = re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip("\n"))
    found = re.match(r"([a-z0-9_]+(?:::[a-z0-9_]+)+) +(ok|skipped|FAILED)$", line)
    if found:
        last = found[1]
        states[last], reasons[last] = found[2], []
    elif line.startswith("\t") and states:
        reasons[last].append(line.strip())
listed = {line.split()[0] for line in open(expected) if line.strip() and not line.startswith("#")}
for name, state in sorted(states.items()):
    if state == "FAILED" and name not in listed:
        wrong.append(f"{name} failed: " + " ".join(reasons[name]))
    if state == "ok" and name in listed:
        wrong.append(f"{name} passed but is listed as failing")
if patterns == "0":
    # Those on read-only and second filesystems cannot run here; no unlisted ones may drop out.
    wrong += [f"{name} is listed but does not exist" for name in sorted(listed - set(states))]
    skipped = [name for name, state in states.items() if state == "skipped" and name not in listed]
    wrong += [f"{name} was skipped" for name in skipped if not re.search("erofs|exdev", name)]
if left:
    wrong.append(f"left on the share after all was removed: {left}")
print("\n".join(wrong))
passed = sum(state == "ok" for state in states.values())
print(f"{sum(s == 'skipped' for s in states.values())} skipped, {len(listed)} fail as listed")
print(f"{passed} passed, {len(wrong)} failed")
sys.exit(1 if wrong else 0)
CHECK

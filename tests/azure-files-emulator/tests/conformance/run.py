"""Drives the server with Microsoft's own client library; one line per case, then the sum.

Arguments are names of cases to run; none means all.
"""

import sys
import traceback

import access  # noqa: F401
import changes  # noqa: F401
import directories  # noqa: F401
import entra  # noqa: F401
import files  # noqa: F401
import shares  # noqa: F401
from support import CASES


def main():
    wanted = set(sys.argv[1:])
    passed = failed = 0
    for function in CASES:
        if wanted and function.__name__ not in wanted:
            continue
        try:
            function()
        except Exception:  # Whatever a case ends with is its failure, and the others go on.
            failed += 1
            print("FAILED %s\n%s" % (function.__name__, traceback.format_exc()), flush=True)
        else:
            passed += 1
            print("ok %s" % function.__name__, flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


sys.exit(main())

"""The `viewstamp` command.

Its exit codes: 0 all went well, 1 the thing asked for failed, 2 it was typed wrongly, 130 it was interrupted.
"""

from __future__ import annotations

import sys

try:
    from viewstamp.clash import PackageClashError, verify_packages

    verify_packages()  # Before anything imports from them: a stranger's would lack some name, far from the cause.
    from viewstamp.cli.command_line import main
except KeyboardInterrupt:
    sys.stderr.write("viewstamp: interrupted\n")  # Before there is anything that could say it: imports take a while.
    sys.exit(130)
except PackageClashError as clash:
    sys.exit(f"viewstamp: error: {clash}")
except ModuleNotFoundError as missing:
    if missing.name != "click":
        raise
    sys.exit("viewstamp: error: the command line needs its extra: pip install 'viewstamp[cli]'")

__all__ = ["main"]

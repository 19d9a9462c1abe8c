"""What the tests use of npm's: `package.json` here names it, and it is installed beside it."""

import fcntl
import functools
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_SECONDS = 120
HOW_TO_GET_IT = "Node.js and npm, on Debian: apt-get install nodejs npm"


@functools.cache
def packages() -> Path | None:
    """Return the folder of the packages, installed as package-lock.json says, or None."""
    npm = shutil.which("npm")
    return HERE / "node_modules" if npm and shutil.which("node") and _installed(npm) else None


def _installed(npm: str) -> bool:
    lock, made = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another run may be at it
        if made.exists() and made.stat().st_mtime >= lock.stat().st_mtime:
            return True
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=HERE, stdout=subprocess.DEVNULL, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

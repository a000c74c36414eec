"""Makes a virtual environment that sees the system's packages: python make_venv.py .venv

Without the system's ensurepip (Debian without python3-venv) the environment uses the system's pip.
"""

import subprocess
import sys
import venv


def main(path: str) -> int:
    try:
        venv.create(path, system_site_packages=True, with_pip=True, clear=True)
        return 0
    except (subprocess.CalledProcessError, ImportError):
        venv.create(path, system_site_packages=True, with_pip=False, clear=True)
    if subprocess.run([f"{path}/bin/python", "-m", "pip", "--version"]).returncode != 0:
        sys.exit(f"{sys.executable} has neither ensurepip nor pip; install python3-venv, or pass make PYTHON=...")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

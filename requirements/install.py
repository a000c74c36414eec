"""Installs the requirements of some files that are not there yet: python install.py requirements/test.txt

What is already installed is kept, whatever its build: any importable torch, and cmake or ninja from the system. With
everything in place nothing is asked of the network.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def tool_version(name: str) -> str | None:
    """Version of an executable in PATH."""
    if shutil.which(name) is None:
        return None
    printed = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+(\.\d+)+", printed)
    return found.group() if found else None


def is_satisfied(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    if requirement.name == "torch":
        return importlib.util.find_spec("torch") is not None
    if requirement.name in ("cmake", "ninja"):
        version = tool_version(requirement.name)
    else:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def main(paths: list[str]) -> int:
    lines = [line for path in paths for line in Path(path).read_text().splitlines()]
    missing = [line for line in lines if not is_satisfied(Requirement(line))]
    if not missing:
        return 0
    print("installing", *missing, flush=True)
    return subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

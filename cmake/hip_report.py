"""Compiler launcher for HIP: keeps the resources of the kernels beside the object file.

    python hip_report.py clang++ -x hip ... -c kernel.cu -o kernel.o

Registers, spills and memory of every kernel go to <object>.resources.json, for the no-spill gate (tests/codegen); the
terminal gets what the compiler says, and kernels that spill.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import code_object


def main(command: list[str]) -> int:
    done = subprocess.run(command)
    if done.returncode != 0 or "-o" not in command:
        return done.returncode
    target = command[command.index("-o") + 1]
    readelf = Path(shutil.which(command[0]) or command[0]).resolve().parent / "llvm-readelf"
    codes = code_object.code_objects(Path(target))
    kernels = [kernel for code in codes for kernel in code_object.resources(code, readelf)]
    Path(target + ".resources.json").write_text(json.dumps([dataclasses.asdict(kernel) for kernel in kernels]))
    for kernel in kernels:
        if kernel.spills:
            print(f"portattn: registers spill: {kernel}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""portattn: one attention kernel source for NVIDIA GPUs, AMD GPUs and the CPU.

`portattn.pytorch` is the PyTorch frontend; `python -m portattn` describes this installation. Importing `portattn`
alone loads neither torch nor a kernel library.
"""

__version__ = "0.1.0"

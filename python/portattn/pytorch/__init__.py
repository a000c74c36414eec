"""The PyTorch frontend: `dot_product_attention`, the module `DotProductAttention`, and `explain`."""

from portattn.pytorch.functional import dot_product_attention, explain
from portattn.pytorch.module import DotProductAttention

__all__ = ["DotProductAttention", "dot_product_attention", "explain"]

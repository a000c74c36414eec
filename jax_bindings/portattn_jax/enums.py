"""The enums of transformer_engine.jax.attention, with their numbers, and what only portattn has."""

from __future__ import annotations

from enum import Enum


class AttnBiasType(Enum):
    NO_BIAS = 0
    PRE_SCALE_BIAS = 1
    POST_SCALE_BIAS = 2
    ALIBI = 3

    @property
    def has_tensor(self) -> bool:
        return self in (AttnBiasType.PRE_SCALE_BIAS, AttnBiasType.POST_SCALE_BIAS)


class AttnMaskType(Enum):
    NO_MASK = 0
    PADDING_MASK = 1
    CAUSAL_MASK = 2
    PADDING_CAUSAL_MASK = 3
    CAUSAL_BOTTOM_RIGHT_MASK = 4
    PADDING_CAUSAL_BOTTOM_RIGHT_MASK = 5
    ARBITRARY_MASK = 64

    def is_causal(self) -> bool:
        return "CAUSAL" in self.name

    def is_padding(self) -> bool:
        return "PADDING" in self.name

    def is_bottom_right(self) -> bool:
        return "BOTTOM_RIGHT" in self.name


class AttnSoftmaxType(Enum):
    VANILLA_SOFTMAX = 0
    OFF_BY_ONE_SOFTMAX = 1
    LEARNABLE_SOFTMAX = 2

    @classmethod
    def from_str(cls, name: str) -> AttnSoftmaxType:
        """'vanilla', 'off_by_one' (or 'off-by-one') or 'learnable'."""
        try:
            return cls[f"{name.replace('-', '_').upper()}_SOFTMAX"]
        except (KeyError, AttributeError):
            raise ValueError(f"softmax_type={name!r}; it may be 'vanilla', 'off_by_one' or 'learnable'") from None


class QKVFormat(Enum):
    SBHD = 0
    BSHD = 1
    THD = 2
    BHSD = 7


class QKVLayout(Enum):
    """The name is the shape: the parts of "BSHD_BS2HD" are q [b, s, h, d] and one buffer of k and v [b, s, 2, h, d].
    T stands for the two dimensions b, s: rows of tokens that hold several sequences."""

    SB3HD = 0
    SBH3D = 1
    SBHD_SB2HD = 2
    SBHD_SBH2D = 3
    SBHD_SBHD_SBHD = 4
    BS3HD = 5
    BSH3D = 6
    BSHD_BS2HD = 7
    BSHD_BSH2D = 8
    BSHD_BSHD_BSHD = 9
    T3HD = 10
    TH3D = 11
    THD_T2HD = 12
    THD_TH2D = 13
    THD_THD_THD = 14
    BHSD_BHSD_BHSD = 25

    def get_qkv_format(self) -> QKVFormat:
        return QKVFormat["".join(letter for letter in self.name.split("_")[0] if letter.isalpha())]

    def is_qkvpacked(self) -> bool:
        return "3" in self.name

    def is_kvpacked(self) -> bool:
        return "2" in self.name

    def is_separate(self) -> bool:
        return not (self.is_qkvpacked() or self.is_kvpacked())

    def is_thd(self) -> bool:
        return self.get_qkv_format() is QKVFormat.THD

    def to_qkvpacked(self) -> QKVLayout:
        return self._sibling(3)

    def to_kvpacked(self) -> QKVLayout:
        return self._sibling(2)

    def to_separate(self) -> QKVLayout:
        name = self.get_qkv_format().name
        return QKVLayout[f"{name}_{name}_{name}"]

    def _sibling(self, count: int) -> QKVLayout:
        """The layout of the same format that packs `count` tensors before the head dimension."""
        name = self.get_qkv_format().name
        packed = name.replace("HD", f"{count}HD")
        packed = packed if count == 3 else f"{name}_{packed}"
        try:
            return QKVLayout[packed]
        except KeyError:
            raise ValueError(f"there is no layout {packed}") from None

    @property
    def dims(self) -> str:
        """Dimensions of an array of tokens in memory order, from b, s, h and d."""
        return "bshd" if self.is_thd() else self.get_qkv_format().name.lower()

    @property
    def packed_dim(self) -> int:
        """Where the 2 or 3 stands among the dimensions of a packed buffer; -1 without one."""
        packed = self.name.split("_")[-1].replace("T", "BS")
        return next((i for i, letter in enumerate(packed) if letter.isdigit()), -1)


class CPStrategy(Enum):
    """Context parallelism. portattn has none yet: only DEFAULT without an axis is taken."""

    DEFAULT = 0
    ALL_GATHER = 1
    RING = 2


def canonicalize_attn_mask_type(name: str) -> AttnMaskType:
    """The mask type that a name stands for: its words in any order, "_mask" optional."""
    words = set(str(name).lower().replace("bottom_right", "bottomright").split("_")) - {"mask"}
    for mask in AttnMaskType:
        if set(mask.name.lower().replace("bottom_right", "bottomright").split("_")) - {"mask"} == words:
            return mask
    allowed = ", ".join(repr(mask.name.lower().removesuffix("_mask")) for mask in AttnMaskType)
    raise ValueError(f"attn_mask_type={name!r} is not known; it may be one of {allowed}")

"""Data-parallel primitives, permutations, ballots, lane reads."""

from __future__ import annotations

import numpy as np

from checks import LANES, same

ROW, IN_ROW = LANES // 16, LANES % 16
VALUE = LANES * 3 + 1


def gathered(lanes: np.ndarray, valid: np.ndarray, otherwise: int = -7) -> np.ndarray:
    return np.where(valid, VALUE[np.clip(lanes, 0, 63)], otherwise)


def test_dpp(compiled, level):
    out = np.zeros((12, 64), np.int32)
    compiled("cross_lane", level)["move_dpp"]((1,), (64,), out)
    enabled = np.isin(ROW, (1, 3)) & np.isin(LANES // 4 % 4, (0, 1))
    expected = {
        "row_shr:1": gathered(LANES - 1, IN_ROW >= 1),
        "row_bcast:15": gathered(ROW * 16 - 1, ROW >= 1),
        "row_bcast:31": gathered(LANES * 0 + 31, LANES >= 32),
        "quad_perm:[3,2,1,0]": VALUE[(LANES & ~3) + 3 - (LANES & 3)],
        "row_mirror": VALUE[ROW * 16 + 15 - IN_ROW],
        "row_shl:4": gathered(LANES + 4, IN_ROW < 12),
        "row_ror:8": VALUE[ROW * 16 + (IN_ROW - 8) % 16],
        "row_half_mirror": VALUE[(LANES & ~7) + 7 - (LANES & 7)],
        "wave_shr:1": gathered(LANES - 1, LANES >= 1),
        "wave_shl:1": gathered(LANES + 1, LANES < 63),
        "row_newbcast:3": VALUE[ROW * 16 + 3],
        "row_shr:1 row_mask:0xa bank_mask:0x3 bound_ctrl:1": np.where(enabled, gathered(LANES - 1, IN_ROW >= 1, 0), -7),
    }
    for got, (name, want) in zip(out, expected.items(), strict=True):
        same(got, want, name)


def test_permutations(compiled, level):
    out = np.zeros((7, 64), np.int32)
    compiled("cross_lane", level)["permute"]((1,), (64,), out)
    expected = {
        "swizzle, xor 16": VALUE[LANES ^ 16],
        "swizzle of quads": VALUE[LANES ^ 1],
        "permute": VALUE[63 - LANES],
        "shuffle": VALUE[LANES ^ 5],
        "shuffle down, 32 lanes": np.where(LANES % 32 + 3 < 32, VALUE[np.clip(LANES + 3, 0, 63)], VALUE),
        "shuffle up": np.where(LANES >= 5, VALUE[np.clip(LANES - 5, 0, 63)], VALUE),
        "swizzle, and 5 or 30 xor 0": VALUE[(LANES & 32) | (LANES & 5) | 30],
    }
    for got, (name, want) in zip(out, expected.items(), strict=True):
        same(got, want, name)


def test_lanes_outside_exec_give_zero(compiled):
    out = np.full(64, -1, np.int32)
    compiled("cross_lane")["permute_under_mask"]((1,), (64,), out)
    active = LANES % 3 == 0
    source = LANES ^ 1
    same(out, np.where(active, np.where(source % 3 == 0, source + 100, 0), -1))


def test_lane_reads_and_votes(compiled, level):
    out = np.full((9, 64), -1, np.int32)
    compiled("cross_lane", level)["read_lanes"]((1,), (64,), out)
    votes = LANES * 5 % 3 == 1
    word = sum(1 << int(lane) for lane in LANES[votes])
    same(out[0], np.full(64, 3), "readfirstlane")
    same(out[1], np.full(64, 37 * 7), "readlane")
    same(out[2].view(np.uint32), np.full(64, word >> 32), "ballot, high")
    same(out[3].view(np.uint32), np.full(64, word & 0xFFFFFFFF), "ballot, low")
    same(out[4], np.cumsum(votes) - votes, "votes of lower lanes")
    same(out[5], np.ones(64), "any")
    same(out[6], np.zeros(64), "all")
    same(out[7], LANES, "lane number")
    same(out[8], np.where(LANES >= 20, 140, -1), "first active lane")

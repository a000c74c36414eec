"""The cycle model on programs whose time can be told by hand."""

from __future__ import annotations

import pytest

from gfx942_sim.cycle_model import Machine, predict

MFMA = "v_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], v[0:15]"
ADD = "v_add_f32_e32 v0, v1, v2"
EXP = "v_exp_f32_e32 v0, v1"
READ = "ds_read_b128 v[0:3], v4 offset:32"
LOAD = "buffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen"
END = "s_endpgm"


def test_products_follow_each_other_at_the_rate_of_the_matrix_cores() -> None:
    prediction = predict([[MFMA] * 100])
    assert prediction.busy["matrix"] == 3200
    assert prediction.cycles == pytest.approx(3200, abs=32)


def test_seven_vector_instructions_fit_behind_a_product_and_an_eighth_does_not() -> None:
    seven, eight = (predict([[MFMA, *[ADD] * count] * 100]).cycles for count in (7, 8))
    assert seven == pytest.approx(3200, abs=32)
    assert eight == pytest.approx(3600, abs=32)


def test_transcendentals_take_a_quarter_of_the_rate() -> None:
    assert predict([[EXP] * 100]).cycles - predict([[ADD] * 100]).cycles == pytest.approx(1200, abs=32)


def test_waves_of_one_simd_share_it_and_those_of_others_do_not() -> None:
    alone, together = predict([[MFMA] * 100]), predict([[MFMA] * 100] * 8)
    assert predict([[MFMA] * 100] * 4).cycles == alone.cycles
    assert together.cycles == pytest.approx(2 * alone.cycles, abs=32)
    assert together.matrix_utilisation > 0.99


def test_one_wave_multiplies_while_the_other_computes() -> None:
    idle = [END]
    both = predict([[MFMA] * 100, idle, idle, idle, [ADD] * 600])
    assert both.cycles == pytest.approx(3200, rel=0.02)


def test_barrier_waits_for_the_last_wave() -> None:
    machine = Machine()
    prediction = predict([[ADD, "s_barrier", END], [*[ADD] * 100, "s_barrier", END]], machine)
    assert prediction.cycles == pytest.approx(400 + machine.barrier, abs=16)
    assert prediction.stalls["barrier"] == pytest.approx(396 + 2 * machine.barrier, abs=16)


def test_wait_counts_operations_in_order() -> None:
    machine = Machine()
    times = [predict([[READ, READ, f"s_waitcnt lgkmcnt({left})", *[ADD] * 100]], machine).cycles for left in (2, 1, 0)]
    assert times[0] < times[1] < times[2]
    assert times[2] - times[1] == 1024 // machine.lds_bytes
    load = predict([[LOAD, "s_waitcnt vmcnt(0)"]], machine).cycles
    assert load == pytest.approx(machine.memory_latency + 1024 // machine.memory_bytes, abs=16)


def test_lds_is_shared_by_the_compute_unit() -> None:
    machine = Machine()
    reads = predict([[READ] * 64] * 8, machine)
    assert reads.busy["lds"] == 8 * 64 * 1024 // machine.lds_bytes
    assert reads.cycles >= reads.busy["lds"]


def test_steady_state_is_what_a_longer_run_adds() -> None:
    start = [EXP] * 50
    steady = predict([start + [MFMA] * 300]) - predict([start + [MFMA] * 200])
    assert steady.cycles == 3200 and steady.busy["matrix"] == 3200


def test_unknown_product_is_refused() -> None:
    with pytest.raises(ValueError, match="no cost known for v_mfma_f32_99x99x9_f16"):
        predict([["v_mfma_f32_99x99x9_f16 v[0:3], v[4:5], v[6:7], 0"]])


def published_forward(rounds: int) -> list[list[str]]:
    """The loop of a published forward for head dim 128, from its description (https://moonmath.ai/cdna3attention/):
    eight waves in two groups, 48 queries by 64 keys a wave and round, products of 16x16x16, k in LDS, v from L1, two
    barriers a round, rounding to nearest even."""
    product = "v_mfma_f32_16x16x16_bf16 v[0:3], v[4:5], v[6:7], v[0:3]"
    multiply = [word for _ in range(16) for word in (READ, LOAD, *[product] * 12)]
    element = [ADD, ADD, EXP, ADD, ADD, ADD]  # maximum, multiply-add, exp2, sum, two of rounding
    softmax = [word for _ in range(24) for word in (*element, *element, ADD)]  # and one to pack a pair
    copy_k = ["global_load_lds_dword v0, s[0:1]"] * 16
    first = [*multiply, "s_waitcnt lgkmcnt(0)", "s_barrier", *softmax, "s_waitcnt vmcnt(16)", "s_barrier"]
    second = [*copy_k, *softmax, "s_waitcnt vmcnt(16)", "s_barrier", *multiply, "s_waitcnt lgkmcnt(0)", "s_barrier"]
    return [first * rounds] * 4 + [second * rounds] * 4


def test_calibration_on_a_published_kernel() -> None:
    """That kernel reaches 535 to 605 TFLOP/s, 41 to 46 % of the 1307 that the boost clock would allow. The model counts
    cycles and knows neither the clock under load nor caches: it says 1.6 to 1.8 times as much."""
    steady = predict(published_forward(30)) - predict(published_forward(20))
    assert 1.5 < steady.matrix_utilisation / (605 / 1307) < 1.7
    assert 1.7 < steady.matrix_utilisation / (535 / 1307) < 1.9

"""Automatic sharding over batch and heads, by Shardy and by GSPMD: same numbers, no collective that is not needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_check import Case, arguments_of

from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn

COLLECTIVES = re.compile(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
CAUSAL = Case(mask=AttnMaskType.CAUSAL_MASK)


@pytest.fixture(params=["shardy", "gspmd"], autouse=True)
def partitioner(request: pytest.FixtureRequest) -> Iterator[None]:
    before = jax.config.jax_use_shardy_partitioner
    jax.config.update("jax_use_shardy_partitioner", request.param == "shardy")
    yield
    jax.config.update("jax_use_shardy_partitioner", before)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    if len(jax.devices("cpu")) < 4:
        pytest.skip("needs four CPU devices")
    with jax.default_device(jax.devices("cpu")[0]):
        yield Mesh(np.array(jax.devices("cpu")[:4]).reshape(2, 2), ("data", "model"))


@pytest.fixture(params=[(2, 1), (1, 2)], ids=["batch", "heads"])
def gpu_mesh(request: pytest.FixtureRequest) -> Mesh:
    """For level L2: what two GPUs share."""
    try:
        gpus = jax.devices("gpu")
    except RuntimeError:
        gpus = []
    if len(gpus) < 2:
        pytest.skip("needs two GPUs that jax can use")
    return Mesh(np.array(gpus[:2]).reshape(request.param), ("data", "model"))


def random(seed: int, *shape: int) -> np.ndarray:
    return np.asarray(jax.random.normal(jax.random.key(seed), shape))


def check(
    mesh: Mesh,
    arrays: dict[str, Any],
    specs: dict[str, P],
    collectives: dict[str, int],
    case: Case = CAUSAL,
    **extra: Any,
) -> None:
    """Outputs and gradients of sharded arrays against those of whole ones; how the output is split; and how many
    collectives of each kind forward and backward together hold."""
    d_o = random(9, *arrays["q"].shape) if "q" in arrays else random(9, 4, 9, 4, 16)

    def forward(arrays: dict[str, Any]) -> jax.Array:
        qkv = tuple(arrays[name] for name in ("qkv", "q", "kv", "k", "v") if name in arrays)
        others = {name: arrays.get(name) for name in ("bias", "softmax_offset")}
        return fused_attn(qkv, **(arguments_of(case, arrays.get("descriptor"), 2) | others))

    def function(arrays: dict[str, Any], d_o: jax.Array) -> Any:
        differentiated = {name: array for name, array in arrays.items() if name != "descriptor"}
        fixed = {name: array for name, array in arrays.items() if name == "descriptor"}
        out, backward = jax.vjp(lambda leaves: forward(leaves | fixed), differentiated)
        return out, backward(d_o)[0]

    expected = jax.jit(function)(arrays, d_o)
    token_spec = specs.get("q", specs.get("qkv"))
    heads = token_spec[-2] if len(token_spec) > 1 else None
    d_o_spec = P(token_spec[0], None, heads, None)

    def place(array: Any, spec: P) -> jax.Array:
        return jax.device_put(array, NamedSharding(mesh, spec))

    placed = {
        name: jax.tree.map(lambda leaf, name=name: place(leaf, specs.get(name, P())), array)
        for name, array in arrays.items()
    }
    compiled = jax.jit(function).lower(placed, place(d_o, d_o_spec)).compile()
    found = COLLECTIVES.findall(compiled.as_text())
    assert {kind: found.count(kind) for kind in set(found)} == collectives
    out, gradients = compiled(placed, place(d_o, d_o_spec))
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, d_o_spec), 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), (out, gradients), expected)


def tokens(heads: int = 4, heads_kv: int = 2) -> dict[str, np.ndarray]:
    return {"q": random(0, 4, 9, heads, 16), "k": random(1, 4, 9, heads_kv, 16), "v": random(2, 4, 9, heads_kv, 16)}


BOTH = P("data", None, "model", None)
ALL = dict.fromkeys("qkv", BOTH)


@pytest.mark.parametrize("spec", [BOTH, P("data"), P(None, None, "model", None), P(("data", "model"))], ids=str)
def test_batch_and_heads(mesh: Mesh, spec: P) -> None:
    full = P(*spec, *(None,) * (4 - len(spec)))
    check(mesh, tokens(), dict.fromkeys("qkv", full), {})


def test_one_key_head_for_many_devices(mesh: Mesh) -> None:
    """MQA: queries are split over heads, dk and dv of the devices are added up."""
    check(mesh, tokens(4, 1), {"q": BOTH, "k": P("data"), "v": P("data")}, {"all-reduce": 1})


def test_packed_buffer(mesh: Mesh) -> None:
    case = Case(QKVLayout.BS3HD, AttnMaskType.CAUSAL_MASK)
    check(mesh, {"qkv": random(0, 4, 9, 3, 4, 16)}, {"qkv": P("data", None, None, "model", None)}, {}, case)


PACKED = Case(QKVLayout.THD_THD_THD, AttnMaskType.PADDING_CAUSAL_MASK)


def by_offsets() -> SequenceDescriptor:
    lengths = jnp.array([[3, 4], [5, -1], [9, -1], [2, 2]])
    offsets = jnp.array([[0, 4, 9], [0, -1, -1], [0, -1, -1], [1, 5, 9]])
    return SequenceDescriptor.from_seqlens_and_offsets(lengths, offsets)


def by_ids() -> SequenceDescriptor:
    ids = jnp.array([[1, 1, 2, 2, 2, 0, 0, 0, 0], [1] * 9, [1] * 8 + [2], [0] * 9])
    return SequenceDescriptor.from_segment_ids_and_pos(ids, jnp.zeros_like(ids))


@pytest.mark.parametrize("descriptor", [by_offsets, by_ids])
def test_packed_sequences(mesh: Mesh, descriptor: Callable[[], SequenceDescriptor]) -> None:
    """Rows keep their segments: offsets are relative to a row, so a device needs only its own."""
    check(mesh, tokens() | {"descriptor": descriptor()}, ALL | {"descriptor": P("data", None)}, {}, PACKED)


def test_positions_are_gathered(mesh: Mesh) -> None:
    """Tokens of a sequence are never split: what comes split along them is gathered, and the numbers stay right."""
    q, k, v = tokens().values()
    attend = lambda q, k, v: fused_attn((q, k, v), bias=None, **arguments_of(CAUSAL, None))  # noqa: E731
    spec = NamedSharding(mesh, P("data", None, None, "model"))
    split = jax.jit(attend)(*(jax.device_put(array, spec) for array in (q, k, v)))
    np.testing.assert_allclose(split, attend(q, k, v), rtol=2e-5, atol=2e-5)


def test_explicit_axes() -> None:
    """A mesh whose axes are part of the types of arrays."""
    if len(jax.devices("cpu")) < 4:
        pytest.skip("needs four CPU devices")
    explicit = (jax.sharding.AxisType.Explicit,) * 2
    mesh = jax.make_mesh((2, 2), ("data", "model"), explicit, devices=jax.devices("cpu")[:4])
    qkv = tuple(tokens().values())

    def loss(*qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = fused_attn(qkv, bias=None, **arguments_of(CAUSAL, None))
        return (out**2).sum(), out

    gradients = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))
    expected = gradients(*qkv)
    with jax.set_mesh(mesh):
        got = gradients(*(jax.device_put(array, NamedSharding(mesh, BOTH)) for array in qkv))
    assert jax.typeof(got[1]).sharding.spec == BOTH
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, expected)


@pytest.mark.parametrize(("shape", "sums"), [((1, 4, 9, 9), 1), ((4, 1, 9, 9), 1), ((4, 4, 9, 9), 0)])
def test_bias(mesh: Mesh, shape: tuple[int, ...], sums: int) -> None:
    spec = P("data" if shape[0] > 1 else None, "model" if shape[1] > 1 else None)
    case = Case(bias_type=AttnBiasType.POST_SCALE_BIAS)
    check(
        mesh, tokens() | {"bias": random(3, *shape)}, ALL | {"bias": spec}, {"all-reduce": sums} if sums else {}, case
    )


def test_sink(mesh: Mesh) -> None:
    case = Case(softmax=AttnSoftmaxType.LEARNABLE_SOFTMAX)
    arrays = tokens() | {"softmax_offset": random(3, 4)}
    check(mesh, arrays, ALL | {"softmax_offset": P("model")}, {"all-reduce": 1}, case)


def test_dropout_draws_differ_between_devices(mesh: Mesh) -> None:
    """v = 1 shows what was kept: no two devices drop alike, and the mean stays."""
    case = Case(dropout=0.5, batch=4, heads=4)
    q, k = np.zeros((4, 64, 4, 16), np.float32), np.zeros((4, 64, 4, 16), np.float32)
    placed = [jax.device_put(array, NamedSharding(mesh, BOTH)) for array in (q, k, np.ones_like(k))]
    out = jax.jit(lambda *qkv: fused_attn(qkv, bias=None, **arguments_of(case, None)))(*placed)
    parts = [np.asarray(part.data)[..., 0] for part in out.addressable_shards]
    assert all(not np.array_equal(a, b) for i, a in enumerate(parts) for b in parts[:i])
    assert abs(float(out.mean()) - 1) < 0.02


@pytest.mark.L2
def test_two_gpus(gpu_mesh: Mesh) -> None:
    check(gpu_mesh, tokens(), ALL, {})


@pytest.mark.L2
@pytest.mark.parametrize("descriptor", [by_offsets, by_ids])
def test_two_gpus_with_packed_sequences(gpu_mesh: Mesh, descriptor: Callable[[], SequenceDescriptor]) -> None:
    check(gpu_mesh, tokens() | {"descriptor": descriptor()}, ALL | {"descriptor": P("data", None)}, {}, PACKED)


@pytest.mark.L2
def test_two_gpus_with_one_key_head(gpu_mesh: Mesh) -> None:
    sums = {"all-reduce": 1} if gpu_mesh.shape["model"] > 1 else {}
    check(gpu_mesh, tokens(4, 1), {"q": BOTH, "k": P("data"), "v": P("data")}, sums)


@pytest.mark.L2
def test_two_gpus_by_shard_map(gpu_mesh: Mesh) -> None:
    """Each calls for its own part; a loss over both gives the gradients of the whole."""
    attend = lambda q, k, v: fused_attn((q, k, v), bias=None, **arguments_of(CAUSAL, None))  # noqa: E731
    split = jax.shard_map(attend, mesh=gpu_mesh, in_specs=(BOTH,) * 3, out_specs=BOTH)
    qkv = tuple(tokens().values())
    placed = [jax.device_put(array, NamedSharding(gpu_mesh, BOTH)) for array in qkv]
    results = [
        jax.jit(jax.value_and_grad(lambda *qkv, f=f: (f(*qkv) ** 2).sum(), (0, 1, 2)))(*arrays)
        for f, arrays in ((split, placed), (attend, qkv))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), *results)

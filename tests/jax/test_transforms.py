"""What jax does to a call: jit, vmap, checkpoint, shard_map; and what it compiles to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax_check import Case, arguments_of, check

from portattn_jax import AttnBiasType, AttnMaskType, AttnSoftmaxType, QKVLayout, SequenceDescriptor, fused_attn

pytestmark = pytest.mark.usefixtures("device")
CUSTOM_CALL = re.compile(r"custom_call_target=\"(portattn_\w+)\"")
PACKED = dict(
    layout=QKVLayout.THD_THD_THD,
    mask=AttnMaskType.PADDING_CAUSAL_MASK,
    segments_q=(((0, 5), (6, 3)), ((1, 7), (8, 1))),
    segments_kv=(((0, 4), (4, 5)), ((2, 3), (5, 4))),
)


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def tokens(batch: int = 2) -> tuple[jax.Array, ...]:
    return random(0, batch, 9, 4, 16), random(1, batch, 9, 2, 16), random(2, batch, 9, 2, 16)


def attend(
    *qkv: jax.Array, case: Case | None = None, descriptor: SequenceDescriptor | None = None, **extra: Any
) -> Any:
    arguments = arguments_of(case or Case(mask=AttnMaskType.CAUSAL_MASK), descriptor, 2)
    return fused_attn(qkv, **({"bias": None} | arguments | extra))


def descriptor() -> SequenceDescriptor:
    lengths, offsets = jnp.array([[5, 3], [7, 1]]), jnp.array([[0, 6, -1], [1, 8, -1]])
    return SequenceDescriptor.from_seqlens_and_offsets(lengths, offsets)


# ---- Compiled code -----------------------------------------------------------------------------------------------


def custom_calls(function: Callable, *arguments: Any) -> list[str]:
    return CUSTOM_CALL.findall(jax.jit(function).lower(*arguments).compile().as_text())


def test_one_custom_call_a_direction() -> None:
    loss = lambda *qkv: attend(*qkv).sum()  # noqa: E731
    assert custom_calls(loss, *tokens()) == ["portattn_fused_attn_fwd"]
    assert sorted(custom_calls(jax.grad(loss, (0, 1, 2)), *tokens())) == [
        "portattn_fused_attn_bwd",
        "portattn_fused_attn_fwd",
    ]


def test_packed_call_adds_one_for_cu_seqlens_and_nothing_else() -> None:
    """No chain of small kernels turns lengths into offsets, and no value of them is needed to trace."""
    function = lambda qkv, lengths: attend(*qkv, case=Case(**PACKED), descriptor=lengths)  # noqa: E731
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), (tokens(), descriptor()))
    text = jax.jit(function).lower(*shapes).compile().as_text()
    assert sorted(CUSTOM_CALL.findall(text)) == ["portattn_cu_seqlens", "portattn_fused_attn_fwd"]
    assert not re.search(r"= \S+ (fusion|reduce|reduce-window|while|copy|scatter|gather|sort|concatenate)\(", text)


def test_forward_and_backward_share_their_cu_seqlens() -> None:
    loss = lambda qkv, lengths: attend(*qkv, case=Case(**PACKED), descriptor=lengths).sum()  # noqa: E731
    assert sorted(custom_calls(jax.grad(loss), tokens(), descriptor())) == [
        "portattn_cu_seqlens",
        "portattn_fused_attn_bwd",
        "portattn_fused_attn_fwd",
    ]


@pytest.mark.parametrize("layout", [QKVLayout.BS3HD, QKVLayout.BSH3D], ids=lambda x: x.name)
def test_packed_buffers_are_not_split(layout: QKVLayout) -> None:
    case = Case(layout, AttnMaskType.CAUSAL_MASK)
    qkv = random(0, *((2, 9, 3, 4, 16) if layout is QKVLayout.BS3HD else (2, 9, 4, 3, 16)))
    function = jax.grad(lambda qkv, d_o: (attend(qkv, case=case) * d_o).sum())
    text = jax.jit(function).lower(qkv, random(1, 2, 9, 4, 16)).compile().as_text()
    assert len(CUSTOM_CALL.findall(text)) == 2
    assert not re.search(r"= \S+ (slice|concatenate|copy|transpose|dynamic-update-slice)\(", text)


# ---- vmap --------------------------------------------------------------------------------------------------------


def per_example(function: Callable, arguments: dict[str, jax.Array], mapped: set[str]) -> dict[str, Any]:
    """Stacked results of the examples one by one, and those of vmap."""
    examples = [
        function({name: array[i] if name in mapped else array for name, array in arguments.items()}) for i in range(3)
    ]
    in_axes = ({name: 0 if name in mapped else None for name in arguments},)
    return {
        "one by one": jax.tree.map(lambda *arrays: jnp.stack(arrays), *examples),
        "vmap": jax.jit(jax.vmap(function, in_axes))(arguments),
    }


def problem(**features: Any) -> tuple[dict[str, jax.Array], Callable]:
    """Arrays, and a function of them that returns the output and all gradients."""
    q, k, v = tokens()
    arrays = {"q": q, "k": k, "v": v, "d_o": random(3, *q.shape)} | features.pop("arrays", {})

    def function(arrays: dict[str, jax.Array]) -> tuple:
        fixed = {name: arrays[name] for name in ("seed",) if name in arrays}
        leaves = {name: array for name, array in arrays.items() if name not in ("d_o", "seed")}

        def forward(leaves: dict[str, jax.Array]) -> jax.Array:
            others = {name: array for name, array in leaves.items() if name not in "qkv"}
            return attend(leaves["q"], leaves["k"], leaves["v"], **(features | fixed | others))

        out, backward = jax.vjp(forward, leaves)
        return out, backward(arrays["d_o"])[0]

    return arrays, function


BIAS = dict(attn_bias_type=AttnBiasType.POST_SCALE_BIAS)
SINK = dict(softmax_type=AttnSoftmaxType.LEARNABLE_SOFTMAX)


@pytest.mark.parametrize(
    ("features", "mapped"),
    [
        ({}, "q k v d_o"),
        ({}, "q d_o"),
        ({}, "k"),
        ({"descriptor": descriptor(), "case": Case(**PACKED)}, "q k v d_o"),
        (BIAS | {"arrays": {"bias": random(4, 1, 4, 9, 9)}}, "q d_o"),
        (BIAS | {"arrays": {"bias": random(4, 2, 1, 9, 9)}}, "q k v d_o"),
        (BIAS | {"arrays": {"bias": random(4, 3, 1, 4, 9, 9)}}, "q k v d_o bias"),
        (SINK | {"arrays": {"softmax_offset": random(4, 4)}}, "q k v d_o"),
        (SINK | {"arrays": {"softmax_offset": random(4, 3, 4)}}, "q d_o softmax_offset"),
        ({"dropout_probability": 0.5, "arrays": {"seed": jnp.array([1, 2], jnp.uint32)}}, "q k v d_o"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join([*value, *value.get("arrays", {})]),
)
def test_vmap_is_a_loop(features: dict[str, Any], mapped: str) -> None:
    names = set(mapped.split())
    arrays, function = problem(**features)
    for name in names - {"bias", "softmax_offset"}:
        arrays[name] = jnp.stack([arrays[name] * (i + 1) for i in range(3)])
    results = per_example(function, arrays, names)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results.values())


def test_vmap_joins_the_batch() -> None:
    text = jax.jit(jax.vmap(attend)).lower(*(jnp.stack([array] * 3) for array in tokens())).compile().as_text()
    assert CUSTOM_CALL.findall(text) == ["portattn_fused_attn_fwd"]
    assert "f32[6,9,4,16]" in text


def test_vmap_over_an_inner_axis_and_twice() -> None:
    q, k, v = tokens()
    stacked = [jnp.stack([array, 2 * array], 3) for array in (q, k, v)]
    expected = attend(2 * q, 2 * k, 2 * v)
    np.testing.assert_allclose(jax.vmap(attend, 3)(*stacked)[1], expected, rtol=1e-6, atol=1e-6)
    twice = jax.vmap(jax.vmap(attend, 0), 0)(*(jnp.stack([jnp.stack([array, 2 * array])] * 2) for array in (q, k, v)))
    np.testing.assert_allclose(twice[1, 1], expected, rtol=1e-6, atol=1e-6)


# ---- checkpoint, shard_map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "forwards"), [("nothing_saveable", 2), ("context", 1)])
def test_checkpoint_recomputes_what_its_policy_says(policy: str, forwards: int) -> None:
    """Residuals carry the name "context"; a layer that saves it does not run the forward again."""
    policies = jax.checkpoint_policies
    chosen = policies.save_only_these_names("context") if policy == "context" else policies.nothing_saveable
    layer = jax.checkpoint(lambda *qkv: jnp.sin(attend(*qkv)), policy=chosen)
    loss = lambda *qkv: layer(*qkv).sum()  # noqa: E731
    # Before XLA's passes: those for the CPU merge equal calls, whatever jax.checkpoint asks for.
    text = jax.jit(jax.value_and_grad(loss)).lower(*tokens()).as_text()
    assert text.count("@portattn_fused_attn_fwd(") == forwards
    plain = jax.grad(lambda *qkv: jnp.sin(attend(*qkv)).sum())(*tokens())
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(*tokens()), plain, rtol=1e-6, atol=1e-6)


def test_eager_and_compiled_calls_agree() -> None:
    np.testing.assert_array_equal(attend(*tokens()), jax.jit(attend)(*tokens()))


def test_runs_behind_its_producer() -> None:
    """On the stream of what makes its inputs: results do not depend on who waited."""

    @jax.jit
    def produce(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 2000, lambda _, x: 2 * jnp.sin(x), x)

    q, k, v = tokens()
    queued = attend(produce(q), produce(k), produce(v))
    waited = jax.block_until_ready([produce(array) for array in (q, k, v)])
    np.testing.assert_array_equal(queued, attend(*waited))


def test_scan_over_layers() -> None:
    def layer(x: jax.Array, scale: jax.Array) -> tuple[jax.Array, None]:
        return attend(x * scale, x[:, :, :2], x[:, :, 2:]), None

    q = tokens()[0]
    loss = lambda scales: jax.lax.scan(layer, q, scales)[0].sum()  # noqa: E731
    loop = lambda scales: layer(layer(q, scales[0])[0], scales[1])[0].sum()  # noqa: E731
    scales = jnp.array([0.5, 2.0])
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(scales), jax.grad(loop)(scales), rtol=1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma: bool) -> None:
    """A device's part is a call of its own; the gradient of what all devices share is summed."""
    if len(jax.devices("cpu")) < 4:
        pytest.skip("needs four CPU devices")
    mesh = Mesh(np.array(jax.devices("cpu")[:4]).reshape(2, 2), ("data", "model"))
    heads, whole = P("data", None, "model", None), P("data", None, None, None)
    q, k, v = random(0, 4, 9, 4, 16), random(1, 4, 9, 1, 16), random(2, 4, 9, 1, 16)
    split = jax.shard_map(attend, mesh=mesh, in_specs=(heads, whole, whole), out_specs=heads, check_vma=check_vma)

    def gradients(function: Callable) -> Any:
        return jax.jit(jax.grad(lambda *qkv: (function(*qkv) ** 2).sum(), (0, 1, 2)))(q, k, v)

    with jax.default_device(jax.devices("cpu")[0]):  # that of the mesh
        np.testing.assert_allclose(jax.jit(split)(q, k, v), attend(q, k, v), rtol=1e-6, atol=1e-6)
        for got, expected in zip(gradients(split), gradients(attend), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_oracle_with_another_scale_fails() -> None:
    """The checks of this folder can fail."""
    with pytest.raises(AssertionError, match="max error"):
        check(Case(), attend=lambda **arguments: fused_attn(**(arguments | {"scaling_factor": 0.21})))

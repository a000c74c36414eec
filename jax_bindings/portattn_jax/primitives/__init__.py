"""jax primitives over the custom calls of libportattn_jax.so."""

# libportattn_jax.so: XLA FFI handlers over the C API. No Python and no vendor header in it: one file for every Python,
# and for CPU, CUDA and ROCm builds of jax. The headers of XLA's FFI, which is a versioned C ABI, come with jaxlib.
#
# It holds its own copy of the core for the reason that torch_ops.cmake gives.
file(GLOB jax_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/jax_bindings/csrc/*.cpp")
add_library(portattn_jax SHARED ${jax_sources})
target_include_directories(portattn_jax PRIVATE "${PORTATTN_CSRC}")
target_include_directories(portattn_jax SYSTEM PRIVATE "${PORTATTN_JAX_INCLUDE_DIR}")
target_compile_options(portattn_jax PRIVATE -Wall)
target_link_libraries(portattn_jax PRIVATE portattn_core ${CMAKE_DL_LIBS})
portattn_seal_library(portattn_jax exports_jax.map)
portattn_sanitize(portattn_jax)

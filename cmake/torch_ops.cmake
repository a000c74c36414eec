# libportattn_torch.so: torch ops over the C API, on torch's stable ABI (target 2.11): one file for every later torch,
# Python, and CPU, CUDA or ROCm build of it.
#
# It holds its own copy of the core instead of linking libportattn.so: a process that has loaded another library with
# nvte_* symbols globally would otherwise bind our calls to that library.
file(GLOB torch_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/python/csrc/torch_ops*.cpp")
add_library(portattn_torch SHARED ${torch_sources})
target_include_directories(portattn_torch PRIVATE "${PORTATTN_CSRC}")
target_include_directories(portattn_torch SYSTEM PRIVATE "${PORTATTN_TORCH_DIR}/include"
                           "${PORTATTN_TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(portattn_torch PRIVATE TORCH_TARGET_VERSION=0x020b000000000000)
target_compile_options(portattn_torch PRIVATE -Wall)
target_link_libraries(portattn_torch PRIVATE portattn_core "${PORTATTN_TORCH_DIR}/lib/libtorch_cpu.so"
                      "${PORTATTN_TORCH_DIR}/lib/libtorch.so" "${PORTATTN_TORCH_DIR}/lib/libc10.so" ${CMAKE_DL_LIBS})
portattn_seal_library(portattn_torch exports_none.map)
portattn_sanitize(portattn_torch)

# libportattn_torch.so: torch ops over the C API, on torch's stable ABI (target 2.11): one file for every later torch,
# Python, and CPU, CUDA or ROCm build of it.
file(GLOB torch_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/python/csrc/torch_ops*.cpp")
add_library(portattn_torch SHARED ${torch_sources})
target_include_directories(portattn_torch SYSTEM PRIVATE "${PORTATTN_TORCH_DIR}/include"
                           "${PORTATTN_TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(portattn_torch PRIVATE TORCH_TARGET_VERSION=0x020b000000000000)
target_compile_options(portattn_torch PRIVATE -Wall)
target_link_libraries(portattn_torch PRIVATE portattn "${PORTATTN_TORCH_DIR}/lib/libtorch_cpu.so"
                      "${PORTATTN_TORCH_DIR}/lib/libtorch.so" "${PORTATTN_TORCH_DIR}/lib/libc10.so" ${CMAKE_DL_LIBS})
# torch's own libraries are in the process before this one is loaded: no path of the building machine is kept.
set_target_properties(portattn_torch PROPERTIES SKIP_BUILD_RPATH OFF BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN"
                      BUILD_WITH_INSTALL_RPATH ON)
target_link_options(portattn_torch PRIVATE -Wl,-Bsymbolic -Wl,--as-needed)
install(TARGETS portattn_torch LIBRARY DESTINATION .)

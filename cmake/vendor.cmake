# Finds the compilers of the requested device libraries; one that was asked for and is missing stops the build.
if("cuda" IN_LIST PORTATTN_TARGETS)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(CMAKE_CUDA_COMPILER nvcc PATHS /usr/local/cuda/bin)
    if(NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "PORTATTN_TARGETS asks for cuda but nvcc is neither in PATH nor in /usr/local/cuda/bin; "
                          "install the CUDA toolkit (>= 12.4) or leave cuda out")
    endif()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # cuda_plugin spells -gencode itself: CMake does not know every suffix
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
endif()

if("hip" IN_LIST PORTATTN_TARGETS)
  find_program(PORTATTN_HIPCC hipcc PATHS /opt/rocm/bin)
  if(NOT EXISTS "${PORTATTN_CSRC}/hip/arch/gfx942")
    message(NOTICE "portattn: libportattn_hip.so is not built: csrc/hip/arch/gfx942 does not exist yet "
                   "(hipcc: ${PORTATTN_HIPCC})")
  endif()
endif()

# Options and flags that every library shares.
set(PORTATTN_TARGETS "host" CACHE STRING "device libraries to build: host;cuda;hip")
set(PORTATTN_CUDA_ARCHS "80;90a" CACHE STRING "machine code in libportattn_cuda.so")
set(PORTATTN_TORCH_DIR "" CACHE PATH "directory of an installed torch package; empty = no torch ops")
set(PORTATTN_JAX_INCLUDE_DIR "" CACHE PATH "what jax.ffi.include_dir() says; empty = no XLA FFI handlers")
option(PORTATTN_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer in the core and the host library" OFF)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(portattn_default_isas "generic;avx2;avx512")
else()
  set(portattn_default_isas "generic")
endif()
set(PORTATTN_HOST_ISAS "${portattn_default_isas}" CACHE STRING "variants of the host library")

foreach(target IN LISTS PORTATTN_TARGETS)
  if(NOT target MATCHES "^(host|cuda|hip)$")
    message(FATAL_ERROR "PORTATTN_TARGETS holds '${target}'; allowed are host, cuda and hip, separated by ';'")
  endif()
endforeach()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_SKIP_RPATH ON)  # siblings are loaded by path, torch is in the process already: no path of this machine is kept

set(PORTATTN_CSRC "${PROJECT_SOURCE_DIR}/csrc")

# A shared library that binds its own symbols and exports only what `exports` (a version script) names, so that it can
# live in one process with other libraries that define the same names. Installed flat, beside its siblings.
function(portattn_seal_library target exports)
  target_link_options(${target} PRIVATE -Wl,-Bsymbolic -Wl,--as-needed
                      "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/${exports}")
  set_target_properties(${target} PROPERTIES LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/${exports}")
  install(TARGETS ${target} LIBRARY DESTINATION .)
endfunction()

function(portattn_sanitize target)
  if(PORTATTN_SANITIZE)
    set(flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g)
    target_compile_options(${target} PRIVATE ${flags})
    target_link_options(${target} PRIVATE ${flags})
  endif()
endfunction()

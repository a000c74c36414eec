# libportattn.so: the C API, vendor-neutral, plain C++17. Its objects are a target of their own for libportattn_torch.so.
file(GLOB_RECURSE core_sources CONFIGURE_DEPENDS "${PORTATTN_CSRC}/core/*.cpp")
add_library(portattn_core OBJECT ${core_sources})
target_include_directories(portattn_core PUBLIC "${PORTATTN_CSRC}/include"
                           PRIVATE "${PORTATTN_CSRC}" "${PORTATTN_CSRC}/cuda")
target_compile_definitions(portattn_core PRIVATE PORTATTN_VERSION="${PROJECT_VERSION}")
target_compile_options(portattn_core PRIVATE -Wall -Wextra)
portattn_sanitize(portattn_core)

add_library(portattn SHARED)
target_link_libraries(portattn PRIVATE portattn_core ${CMAKE_DL_LIBS})
portattn_seal_library(portattn exports_core.map)
portattn_sanitize(portattn)

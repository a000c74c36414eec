# libportattn.so: the C API, vendor-neutral, plain C++17.
file(GLOB_RECURSE core_sources CONFIGURE_DEPENDS "${PORTATTN_CSRC}/core/*.cpp")
add_library(portattn SHARED ${core_sources})
target_include_directories(portattn PUBLIC "${PORTATTN_CSRC}/include" PRIVATE "${PORTATTN_CSRC}" "${PORTATTN_CSRC}/cuda")
target_compile_definitions(portattn PRIVATE PORTATTN_VERSION="${PROJECT_VERSION}")
target_compile_options(portattn PRIVATE -Wall -Wextra)
target_link_libraries(portattn PRIVATE ${CMAKE_DL_LIBS})
portattn_seal_library(portattn exports_core.map)
portattn_sanitize(portattn)

# Kernel instances: csrc/codegen/generate.py writes one .cu for each, at configure time.
set(PORTATTN_TUNING_DIR "${PORTATTN_CSRC}/codegen/tuning" CACHE PATH "tile sizes: a folder of <arch>.toml")

# Writes the instances of `arch` into <build>/generated/<arch> and puts their paths into `out`.
function(portattn_generate_instances arch out)
  set(codegen "${PORTATTN_CSRC}/codegen")
  file(GLOB tuning CONFIGURE_DEPENDS "${PORTATTN_TUNING_DIR}/*.toml")  # an arch may extend another
  set(inputs "${codegen}/generate.py" "${codegen}/kernels.toml" ${tuning})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${inputs})
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" "${codegen}/generate.py" --arch ${arch} --tuning "${PORTATTN_TUNING_DIR}"
            --out "${CMAKE_BINARY_DIR}/generated/${arch}"
    OUTPUT_VARIABLE paths OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" paths "${paths}")
  set(${out} "${paths}" PARENT_SCOPE)
endfunction()

# Every hand-written device source.
function(portattn_device_sources out)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PORTATTN_CSRC}/cuda/*.cu")
  set(${out} "${sources}" PARENT_SCOPE)
endfunction()

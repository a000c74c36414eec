# The HIP mirror of csrc/cuda, with csrc/hip merged into it: written by hipify.py at configure time into <build>/hipified.
# An edit of any of its sources configures anew; files whose text does not change keep their time, so that only what
# changed is compiled. Python ignores PYTHONPATH, by which pip hides the torch of the environment that it installs into.

# Puts the mirror's .cu files into `out`.
function(portattn_hipify out)
  set(script "${PROJECT_SOURCE_DIR}/cmake/hipify.py")
  file(GLOB_RECURSE inputs CONFIGURE_DEPENDS "${PORTATTN_CSRC}/cuda/*" "${PORTATTN_CSRC}/hip/*")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
               ${inputs} "${script}" "${PROJECT_SOURCE_DIR}/cmake/hipify_map.json")
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -E "${script}" --source "${PORTATTN_CSRC}/cuda" --overlay "${PORTATTN_CSRC}/hip"
            --out "${CMAKE_BINARY_DIR}/hipified"
    OUTPUT_VARIABLE paths OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" paths "${paths}")
  set(${out} "${paths}" PARENT_SCOPE)
endfunction()

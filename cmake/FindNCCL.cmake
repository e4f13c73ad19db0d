# NCCL: NCCL_FOUND, NCCL_VERSION and the target NCCL::headers, with nccl.h. Programs open the library
# themselves when they run; NCCL_LIBRARY is where it lies on this machine, if it does.
#
# Looked for in NCCL_ROOT, beside the CUDA toolkit, in the system's directories, and last in what pip
# installs as nvidia-nccl for the Python in PATH.

set(nccl_python "")
if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
  find_program(NCCL_PYTHON python3)
  mark_as_advanced(NCCL_PYTHON)
  if(NCCL_PYTHON)
    execute_process(
      COMMAND "${NCCL_PYTHON}" -c "import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])"
      OUTPUT_VARIABLE nccl_python ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
endif()

# pip brings no link without a version.
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR
             HINTS "${CUDAToolkit_LIBRARY_DIR}" PATHS "${nccl_python}/lib")
# The header of that library rather than another one's.
set(nccl_beside "")
if(NCCL_LIBRARY)
  cmake_path(GET NCCL_LIBRARY PARENT_PATH nccl_beside)
  cmake_path(GET nccl_beside PARENT_PATH nccl_beside)
endif()
find_path(NCCL_INCLUDE_DIR nccl.h HINTS "${nccl_beside}/include" ${CUDAToolkit_INCLUDE_DIRS}
          PATHS "${nccl_python}/include")
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

set(NCCL_VERSION "")
if(NCCL_INCLUDE_DIR)
  file(STRINGS "${NCCL_INCLUDE_DIR}/nccl.h" lines REGEX "^#define +NCCL_(MAJOR|MINOR|PATCH) +[0-9]+")
  list(TRANSFORM lines REPLACE "^#define +[A-Z_]+ +([0-9]+).*" "\\1")
  list(JOIN lines "." NCCL_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
if(NCCL_FOUND AND NOT TARGET NCCL::headers)
  add_library(NCCL::headers INTERFACE IMPORTED)
  set_target_properties(NCCL::headers PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
endif()

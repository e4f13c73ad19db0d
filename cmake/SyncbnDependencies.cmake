# Finds what the build uses and turns each AUTO into ON or OFF.
#
# The library itself: C++20, Highway (SIMD), nlohmann_json (safetensors headers; headers only),
# and where wanted OpenMP (threads), MPI (the communicator, a library of its own), CUDA (kernels for
# its devices, of which the host may emulate one) and the header of NCCL (sums over them), which is
# opened at run time.
# The tool on top: Boost.Program_options, fmt, and where wanted oneDNN (the trainer's convolutions, and
# bench's rival) with zlib (gzipped data sets). The tests: GoogleTest. Beside the tool, or the tests:
# SMPI, which simulates ranks.

find_package(PkgConfig QUIET)
if(SYNCBN_FETCH)
  if(SYNCBN_INSTALL)
    message(FATAL_ERROR "SYNCBN_FETCH is ON, and what it builds in is not installed by CMake. Set "
                        "SYNCBN_INSTALL=OFF.")
  endif()
  include(SyncbnFetch)
else()
  string(CONCAT syncbn_how_to_find
    "or add where it is to CMAKE_PREFIX_PATH, or have it downloaded and built in: SYNCBN_FETCH=ON (pip "
    "install . --config-settings=cmake.define.SYNCBN_FETCH=ON).")
  find_package(hwy CONFIG QUIET)
  if(NOT TARGET hwy::hwy)
    if(PkgConfig_FOUND)
      pkg_check_modules(syncbn_hwy QUIET IMPORTED_TARGET libhwy)
    endif()
    if(NOT syncbn_hwy_FOUND)
      message(FATAL_ERROR "Highway is needed: found neither its CMake package nor libhwy by pkg-config. "
                          "Install it (Debian's libhwy-dev), ${syncbn_how_to_find}")
    endif()
    add_library(hwy::hwy ALIAS PkgConfig::syncbn_hwy)
  endif()
  find_package(nlohmann_json 3.9 QUIET)
  if(NOT nlohmann_json_FOUND)
    message(FATAL_ERROR "nlohmann_json 3.9 or newer is needed: its CMake package was not found. "
                        "Install it (Debian's nlohmann-json3-dev), ${syncbn_how_to_find}")
  endif()
endif()
find_package(Threads REQUIRED)

# syncbn_resolve(OPTION reason found...): AUTO becomes whether every `found` variable holds; ON with
# one missing is an error. The reason for an OFF is kept in OPTION_WHY for the summary.
function(syncbn_resolve option needs)
  set(missing "")
  foreach(found IN LISTS ARGN)
    if(NOT ${found})
      string(REPLACE "_FOUND" "" name ${found})
      list(APPEND missing ${name})
    endif()
  endforeach()
  if("${${option}}" STREQUAL "AUTO")
    if(missing)
      set(${option} OFF PARENT_SCOPE)
      list(JOIN missing ", " missing)
      set(${option}_WHY "not found: ${missing}" PARENT_SCOPE)
    else()
      set(${option} ON PARENT_SCOPE)
    endif()
  elseif(${option} AND missing)
    list(JOIN missing ", " missing)
    message(FATAL_ERROR "${option} is ON, and ${needs} is needed: not found: ${missing}. "
                        "Install it or set ${option}=OFF.")
  elseif(NOT ${option})
    set(${option}_WHY "switched off" PARENT_SCOPE)
  endif()
endfunction()

if(SYNCBN_MPI)
  set(MPI_CXX_SKIP_MPICXX TRUE)
  find_package(MPI 3.0 QUIET COMPONENTS CXX)
endif()
syncbn_resolve(SYNCBN_MPI "an MPI-3 library" MPI_CXX_FOUND)

# ULFM, by which `syncbn train --elastic` goes on without lost ranks.
if(SYNCBN_MPI)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES MPI::MPI_CXX)
  set(CMAKE_REQUIRED_QUIET TRUE)  # the summary tells
  check_cxx_source_compiles([[
    #include <mpi.h>
    #include <mpi-ext.h>
    int main() {
      int flag = MPIX_FT;
      MPI_Request request;
      return MPIX_Comm_iagree(MPI_COMM_WORLD, &flag, &request);
    }]] SYNCBN_MPI_HAS_ULFM)
  unset(CMAKE_REQUIRED_LIBRARIES)
  unset(CMAKE_REQUIRED_QUIET)
endif()

# A Python module takes the runtime of the framework beside it (src/kernels/cpu/openmp_loaded.cpp).
set(SYNCBN_OPENMP_LOADED OFF)
if(SYNCBN_OPENMP STREQUAL "LOADED")
  set(SYNCBN_OPENMP_LOADED ON)
  set(SYNCBN_OPENMP OFF)
endif()
if(SYNCBN_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
endif()
syncbn_resolve(SYNCBN_OPENMP "OpenMP" OpenMP_CXX_FOUND)
if(SYNCBN_OPENMP_LOADED)
  set(SYNCBN_OPENMP_WHY "linked with none; the process's is used")
endif()

# Without CUDA itself the library may have a device that is the host (src/cuda/emulated.hpp).
set(SYNCBN_CUDA_EMULATED OFF)
if(SYNCBN_CUDA STREQUAL "EMULATED")
  set(SYNCBN_CUDA_EMULATED ON)
  set(SYNCBN_CUDA OFF)
endif()
if(SYNCBN_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  set(nvcc_FOUND "${CMAKE_CUDA_COMPILER}")
  find_package(CUDAToolkit 12 QUIET)
endif()
syncbn_resolve(SYNCBN_CUDA "the CUDA toolkit, 12 or newer" nvcc_FOUND CUDAToolkit_FOUND)
if(SYNCBN_CUDA_EMULATED)
  set(SYNCBN_CUDA_WHY "the host emulates a device")
endif()
if(SYNCBN_CUDA)
  # A100, H100 and H200, B100 and B200; others of the same major number run the code of the first of
  # them, later ones compile that of the last.
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
    if(CUDAToolkit_VERSION VERSION_LESS 12.8)  # does not know of 100
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    endif()
  endif()
  enable_language(CUDA)
endif()

if(SYNCBN_CUDA OR SYNCBN_CUDA_EMULATED)
  if(SYNCBN_CUDA_EMULATED AND SYNCBN_NCCL)  # for the headers that nccl.h includes
    find_package(CUDAToolkit 12 QUIET)
  endif()
  find_package(NCCL 2.19 QUIET MODULE)
  syncbn_resolve(SYNCBN_NCCL "nccl.h of NCCL 2.19 or newer, and CUDA's headers,"
                 CUDAToolkit_FOUND NCCL_FOUND)
  if(SYNCBN_NCCL AND SYNCBN_CUDA_EMULATED)
    target_include_directories(NCCL::headers SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  elseif(SYNCBN_NCCL AND NCCL_LIBRARY)  # for programs that are run in the build directory
    cmake_path(GET NCCL_LIBRARY PARENT_PATH nccl_directory)
    list(APPEND CMAKE_BUILD_RPATH "${nccl_directory}")
  endif()
else()
  set(CUDA_FOUND OFF)
  syncbn_resolve(SYNCBN_NCCL "CUDA" CUDA_FOUND)
endif()

if(SYNCBN_PYTHON)
  find_package(Python 3.11 QUIET COMPONENTS Interpreter Development.Module)
endif()
syncbn_resolve(SYNCBN_PYTHON "Python 3.11 or newer with its headers (Debian's python3-dev)"
               Python_Development.Module_FOUND)

if(SYNCBN_TOOL)
  find_package(Boost 1.70 QUIET COMPONENTS program_options)
  find_package(fmt QUIET)
endif()
syncbn_resolve(SYNCBN_TOOL "Boost.Program_options and fmt" Boost_FOUND fmt_FOUND)

if(SYNCBN_ONEDNN STREQUAL "AUTO" AND NOT SYNCBN_TOOL AND NOT SYNCBN_TESTS)
  set(SYNCBN_ONEDNN OFF)  # nothing uses it
endif()
if(SYNCBN_ONEDNN)
  find_package(dnnl QUIET MODULE)
  find_package(ZLIB QUIET)
endif()
syncbn_resolve(SYNCBN_ONEDNN "oneDNN and zlib" dnnl_FOUND ZLIB_FOUND)

if(SYNCBN_TESTS)
  find_package(GTest QUIET)
endif()
syncbn_resolve(SYNCBN_TESTS "GoogleTest" GTest_FOUND)

if(SYNCBN_SIMULATION STREQUAL "AUTO" AND NOT SYNCBN_TOOL AND NOT SYNCBN_TESTS)
  set(SYNCBN_SIMULATION OFF)  # nothing uses it
endif()
if(SYNCBN_SIMULATION)
  find_package(SMPI QUIET MODULE)
endif()
set(MPI_FOUND ${SYNCBN_MPI})  # what simulated ranks run is the communicator over MPI
syncbn_resolve(SYNCBN_SIMULATION "SimGrid with SMPI, and MPI," SMPI_FOUND MPI_FOUND)

if(SYNCBN_DOCS)
  find_package(Doxygen QUIET)
endif()
syncbn_resolve(SYNCBN_DOCS "Doxygen" Doxygen_FOUND)

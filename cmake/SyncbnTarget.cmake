# What every target of ours is compiled with.

add_library(syncbn_flags INTERFACE)
target_compile_features(syncbn_flags INTERFACE cxx_std_20)
target_include_directories(syncbn_flags INTERFACE "${PROJECT_SOURCE_DIR}/include"
                                                  "${PROJECT_SOURCE_DIR}/src")
# No contraction: a*b+c rounds the same wherever the compiler meets it. Kernels ask for fused
# multiply-adds by name.
target_compile_options(syncbn_flags INTERFACE
  $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
    -ffp-contract=off>
  $<$<COMPILE_LANG_AND_ID:C,GNU,Clang>:-Wall -Wextra -Wpedantic -Wshadow>
  # CMake 3.25 knows no standard of CUDA behind 17.
  $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20 --fmad=false --expt-relaxed-constexpr -Xptxas=--warn-on-spills -Xcompiler=-Wall
    -Xcompiler=-Wextra -Xcompiler=-Wnon-virtual-dtor -Xcompiler=-ffp-contract=off>)
# One file among others sees names of theirs, and is no header.
if(SYNCBN_UNITY)
  target_compile_options(syncbn_flags INTERFACE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-Wno-shadow>
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endif()

# What kernels are compiled with besides, and tests that ask which instruction sets they are for. All
# else has the same flags in every preset that is not sanitized, so that a compiler cache shares it.
add_library(syncbn_kernel_flags INTERFACE)
if(SYNCBN_ONE_TARGET)
  target_compile_options(syncbn_kernel_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
  target_compile_definitions(syncbn_kernel_flags INTERFACE HWY_COMPILE_ONLY_STATIC)
endif()

# syncbn_add_part(NAME [LIBRARY library] source...): a directory of src, or some of it, as an object
# library syncbn_NAME, whose objects become part of the library, syncbn unless another is named.
function(syncbn_add_part name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LIBRARY" "")
  if(NOT arg_LIBRARY)
    set(arg_LIBRARY syncbn)
  endif()
  add_library(syncbn_${name} OBJECT ${arg_UNPARSED_ARGUMENTS})
  # The same objects serve static and shared libraries.
  set_target_properties(syncbn_${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON VISIBILITY_INLINES_HIDDEN ON
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
  target_link_libraries(syncbn_${name} PRIVATE syncbn_flags)
  set_property(GLOBAL APPEND PROPERTY ${arg_LIBRARY}_objects $<TARGET_OBJECTS:syncbn_${name}>)
endfunction()

# syncbn_add_libraries(NAME [STATIC|SHARED]): targets NAME, and with MPI NAME_mpi, which are
# libsyncbn and libsyncbn_mpi made of the parts added so far. Their kind is that of
# BUILD_SHARED_LIBS unless given.
function(syncbn_add_libraries name)
  get_property(objects GLOBAL PROPERTY syncbn_objects)
  add_library(${name} ${ARGN} ${objects})
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_link_libraries(${name} PRIVATE
    hwy::hwy Threads::Threads ${CMAKE_DL_LIBS}
    $<$<BOOL:${SYNCBN_OPENMP}>:OpenMP::OpenMP_CXX> $<$<BOOL:${SYNCBN_CUDA}>:CUDA::cudart_static>)
  syncbn_export_marked_names(${name} syncbn)
  if(SYNCBN_MPI)
    get_property(objects GLOBAL PROPERTY syncbn_mpi_objects)
    add_library(${name}_mpi ${ARGN} ${objects})
    # A C program need not have enabled C++.
    target_link_libraries(${name}_mpi
      PUBLIC ${name} $<IF:$<TARGET_EXISTS:MPI::MPI_CXX>,MPI::MPI_CXX,MPI::MPI_C>)
    syncbn_export_marked_names(${name}_mpi syncbn_mpi)
  endif()
endfunction()

# syncbn_export_marked_names(TARGET library): a shared library of ours exports the names that are
# marked with SYNCBN_API or SYNCBN_INTERNAL_API, by cmake/exports.map.in.
function(syncbn_export_marked_names target library)
  set_target_properties(${target} PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  get_target_property(kind ${target} TYPE)
  if(kind STREQUAL "SHARED_LIBRARY")
    set(map "${PROJECT_BINARY_DIR}/${library}.map")
    string(TOUPPER ${library} node)
    configure_file("${PROJECT_SOURCE_DIR}/cmake/exports.map.in" "${map}" @ONLY)
    target_link_options(${target} PRIVATE "LINKER:--version-script=${map}")
    set_target_properties(${target} PROPERTIES LINK_DEPENDS "${map}")
  endif()
endfunction()

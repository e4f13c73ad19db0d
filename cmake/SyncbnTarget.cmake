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

# syncbn_add_part(NAME source...): one directory of src as an object library syncbn_NAME, whose
# objects become part of the library syncbn.
function(syncbn_add_part name)
  add_library(syncbn_${name} OBJECT ${ARGN})
  set_target_properties(syncbn_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(syncbn_${name} PRIVATE syncbn_flags)
  target_sources(syncbn PRIVATE $<TARGET_OBJECTS:syncbn_${name}>)
endfunction()

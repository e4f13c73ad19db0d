# syncbn_add_test(NAME SOURCES file... [LIBRARIES lib...] [TIMEOUT seconds] [LABELS label...]
#                 [RANKS n...])
#
# A GoogleTest executable made of SOURCES, registered as the CTest test NAME. Its main, and what
# `syncbn::test::on_ranks` means in it, come from tests/support.
#
# With RANKS the same sources also become a program for mpirun (when there is MPI), registered once
# per count as NAME/mpi/n; NAME itself then runs them with 1 to 4 threads as ranks. Every entry has
# a time-out (half an hour unless given, 90 s if it is labelled gpu and runs on a device) and reserves
# as many processors as it has ranks, two where these are threads. The target tests_PART builds all
# whose names begin with PART/, tests_gpu those labelled gpu.
function(syncbn_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT"
                        "SOURCES;LIBRARIES;LABELS;RANKS")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR "syncbn_add_test(${name}): SOURCES missing or unknown argument "
                        "'${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_TIMEOUT AND "gpu" IN_LIST arg_LABELS AND NOT SYNCBN_CUDA_EMULATED)
    set(arg_TIMEOUT 90)
  elseif(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 1800)
  endif()
  string(REPLACE "/" "_" target "${name}")

  add_library(${target}_objects OBJECT ${arg_SOURCES})
  target_link_libraries(${target}_objects PUBLIC syncbn_test_flags GTest::gtest GTest::gmock
                                                 ${arg_LIBRARIES})

  add_executable(${target}_test)
  syncbn_build_with_tests_of(${name} ${target}_test)
  target_link_libraries(${target}_test PRIVATE ${target}_objects syncbn_test_threads)
  add_test(NAME ${name} COMMAND ${target}_test)
  if("gpu" IN_LIST arg_LABELS)
    syncbn_build_with_tests_of(gpu ${target}_test)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")

  if(arg_RANKS)  # four ranks as threads leave no processor for threads of their own
    set_tests_properties(${name} PROPERTIES PROCESSORS 2 ENVIRONMENT OMP_NUM_THREADS=1)
  endif()
  if(arg_RANKS AND SYNCBN_MPI)
    add_executable(${target}_mpi_test)
    syncbn_build_with_tests_of(${name} ${target}_mpi_test)
    target_link_libraries(${target}_mpi_test PRIVATE ${target}_objects syncbn_test_mpi)
    foreach(ranks IN LISTS arg_RANKS)
      syncbn_add_mpi_run(${name}/mpi/${ranks} ${ranks} TIMEOUT ${arg_TIMEOUT}
                         LABELS mpi ${arg_LABELS} COMMAND ${target}_mpi_test)
    endforeach()
  endif()
endfunction()

# syncbn_build_with_tests_of(NAME target): makes the target, a program of the test NAME, part of
# tests_PART.
function(syncbn_build_with_tests_of name target)
  string(REGEX REPLACE "/.*" "" part "${name}")
  if(NOT TARGET tests_${part})
    add_custom_target(tests_${part})
  endif()
  add_dependencies(tests_${part} ${target})
endfunction()

# syncbn_add_mpi_run(NAME ranks [TIMEOUT seconds] [LABELS label...] [ENVIRONMENT variable=value...]
#                    COMMAND program [argument...])
#
# CTest entry NAME: mpirun with that many ranks. The environment lets Open MPI run as root and with
# more ranks than cores, and yield while it waits; other MPIs ignore it.
function(syncbn_add_mpi_run name ranks)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT" "LABELS;ENVIRONMENT;COMMAND")
  list(POP_FRONT arg_COMMAND program)
  if(TARGET ${program})
    set(program "$<TARGET_FILE:${program}>")
  endif()
  add_test(NAME ${name} COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks}
                                ${MPIEXEC_PREFLAGS} ${program} ${arg_COMMAND})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${arg_TIMEOUT} PROCESSORS ${ranks} LABELS "${arg_LABELS}"
    ENVIRONMENT "${syncbn_mpi_environment};${arg_ENVIRONMENT}")
endfunction()

set(syncbn_mpi_environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
    OMPI_MCA_hwloc_base_binding_policy=none OMP_NUM_THREADS=1
    # The same for Open MPI 5.
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none)

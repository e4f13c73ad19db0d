# cmake --install: the libraries with their headers, find_package(syncbn) and pkg-config files, and the
# tool. Everything finds its way from its own place, so the installed tree may be moved.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/syncbn")

install(TARGETS syncbn EXPORT syncbn_targets FILE_SET HEADERS)
install(EXPORT syncbn_targets FILE syncbn-targets.cmake NAMESPACE syncbn:: DESTINATION ${package_dir})
if(SYNCBN_MPI)
  set_target_properties(syncbn_mpi PROPERTIES INSTALL_RPATH "$ORIGIN")  # where libsyncbn is
  install(TARGETS syncbn_mpi EXPORT syncbn_mpi_targets FILE_SET HEADERS)
  install(EXPORT syncbn_mpi_targets FILE syncbn-mpi-targets.cmake NAMESPACE syncbn::
          DESTINATION ${package_dir})
endif()

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/syncbn-config.cmake.in" syncbn-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(syncbn-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config-version.cmake"
        DESTINATION ${package_dir})

# For compilers driven by hand, and for C: pkg-config --cflags --libs [--static] syncbn, or syncbn_mpi.
file(RELATIVE_PATH prefix_from_pc "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" prefix_from_pc "${prefix_from_pc}")
set(private_libs -lhwy -lstdc++ -lm -ldl ${CMAKE_THREAD_LIBS_INIT})
if(SYNCBN_OPENMP)
  list(APPEND private_libs ${OpenMP_CXX_FLAGS})
endif()
if(SYNCBN_CUDA)
  list(APPEND private_libs "-L${CUDAToolkit_LIBRARY_DIR}" -lcudart_static -lrt)
endif()
if(BUILD_SHARED_LIBS)
  set(private_libs "")
endif()
list(JOIN private_libs " " private_libs)
configure_file("${CMAKE_CURRENT_LIST_DIR}/syncbn.pc.in" syncbn.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(SYNCBN_MPI)
  list(JOIN MPI_CXX_LIBRARIES " " mpi_libs)
  list(TRANSFORM MPI_CXX_INCLUDE_DIRS PREPEND "-I" OUTPUT_VARIABLE mpi_flags)
  list(JOIN mpi_flags " " mpi_flags)
  configure_file("${CMAKE_CURRENT_LIST_DIR}/syncbn_mpi.pc.in" syncbn_mpi.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn_mpi.pc"
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()

if(TARGET syncbn_tool)
  install(TARGETS syncbn_tool)
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md"
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

# cmake --install: the libraries with their headers, find_package(syncbn) and pkg-config files, and the
# tool. Everything finds its way from its own place, so the installed tree may be moved. Components are
# what packages are made of (SyncbnDebian.cmake).
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/syncbn")

# syncbn_install_library(TARGET export component)
function(syncbn_install_library target export component)
  install(TARGETS ${target} EXPORT ${export}
          LIBRARY COMPONENT ${component} NAMELINK_COMPONENT development
          ARCHIVE COMPONENT development
          FILE_SET HEADERS COMPONENT development)
endfunction()

syncbn_install_library(syncbn syncbn_targets library)
install(EXPORT syncbn_targets FILE syncbn-targets.cmake NAMESPACE syncbn:: DESTINATION ${package_dir}
        COMPONENT development)
if(SYNCBN_MPI)
  set_target_properties(syncbn_mpi PROPERTIES INSTALL_RPATH "$ORIGIN")  # where libsyncbn is
  syncbn_install_library(syncbn_mpi syncbn_mpi_targets library_mpi)
  install(EXPORT syncbn_mpi_targets FILE syncbn-mpi-targets.cmake NAMESPACE syncbn::
          DESTINATION ${package_dir} COMPONENT development)
endif()

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/syncbn-config.cmake.in" syncbn-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(syncbn-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config-version.cmake"
        DESTINATION ${package_dir} COMPONENT development)

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
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)
if(SYNCBN_MPI)
  list(JOIN MPI_CXX_LIBRARIES " " mpi_libs)
  list(TRANSFORM MPI_CXX_INCLUDE_DIRS PREPEND "-I" OUTPUT_VARIABLE mpi_flags)
  list(JOIN mpi_flags " " mpi_flags)
  configure_file("${CMAKE_CURRENT_LIST_DIR}/syncbn_mpi.pc.in" syncbn_mpi.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn_mpi.pc"
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endif()

if(TARGET syncbn_tool)
  install(TARGETS syncbn_tool COMPONENT tools)
  # launcher/run, which is bin/syncbn-run.
  set(launcher "${CMAKE_INSTALL_LIBEXECDIR}/syncbn")
  install(PROGRAMS launcher/run launcher/contained DESTINATION ${launcher} COMPONENT tools)
  install(FILES launcher/processes.bash DESTINATION ${launcher} COMPONENT tools)
  install(DIRECTORY launcher/launch DESTINATION ${launcher} COMPONENT tools
          FILES_MATCHING PATTERN "*.py" PATTERN __pycache__ EXCLUDE)
  file(RELATIVE_PATH run "/${CMAKE_INSTALL_BINDIR}" "/${launcher}/run")
  file(CREATE_LINK "${run}" "${CMAKE_CURRENT_BINARY_DIR}/syncbn-run" SYMBOLIC)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn-run" DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md"
        DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development)

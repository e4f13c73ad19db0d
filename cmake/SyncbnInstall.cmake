# cmake --install: the library with its headers, find_package(syncbn) and pkg-config files, and the
# tool. Everything finds its way from its own place, so the installed tree may be moved.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/syncbn")

install(TARGETS syncbn EXPORT syncbn_targets FILE_SET HEADERS)
install(EXPORT syncbn_targets FILE syncbn-targets.cmake NAMESPACE syncbn:: DESTINATION ${package_dir})

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/syncbn-config.cmake.in" syncbn-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(syncbn-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/syncbn-config-version.cmake"
        DESTINATION ${package_dir})

# For compilers driven by hand, and for C: pkg-config --cflags --libs [--static] syncbn.
file(RELATIVE_PATH prefix_from_pc "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" prefix_from_pc "${prefix_from_pc}")
set(private_libs -lhwy -lstdc++ -lm -ldl ${CMAKE_THREAD_LIBS_INIT})
if(SYNCBN_OPENMP)
  list(APPEND private_libs ${OpenMP_CXX_FLAGS})
endif()
if(SYNCBN_MPI)
  list(APPEND private_libs ${MPI_CXX_LIBRARIES})
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

if(TARGET syncbn_tool)
  file(RELATIVE_PATH lib_from_bin "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
  set_target_properties(syncbn_tool PROPERTIES INSTALL_RPATH "$ORIGIN/${lib_from_bin}")
  install(TARGETS syncbn_tool)
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md"
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

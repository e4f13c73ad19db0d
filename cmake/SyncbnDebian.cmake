# cpack -G DEB: Debian packages of what this build installs, in the parts in which Debian has libraries
# and tools. The preset `debian` builds what they are meant to have.
if(NOT BUILD_SHARED_LIBS OR NOT CMAKE_LIBRARY_ARCHITECTURE)
  return()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME syncbn)
set(CPACK_PACKAGE_VENDOR syncbn)
set(CPACK_PACKAGE_CONTACT "The developers of syncbn <syncbn@localhost>")
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}/packages")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# syncbn_debian_package(COMPONENT name section SUMMARY text DESCRIPTION text [DEPENDS list] [RECOMMENDS
# list] [SUGGESTS list]): a component as a package.
function(syncbn_debian_package component name section)
  cmake_parse_arguments(PARSE_ARGV 3 arg "" "DEPENDS;RECOMMENDS;SUGGESTS;SUMMARY;DESCRIPTION" "")
  string(TOUPPER "CPACK_DEBIAN_${component}" prefix)
  set(${prefix}_PACKAGE_NAME "${name}" PARENT_SCOPE)
  set(${prefix}_PACKAGE_SECTION "${section}" PARENT_SCOPE)
  foreach(relation DEPENDS RECOMMENDS SUGGESTS)
    set(${prefix}_PACKAGE_${relation} "${arg_${relation}}" PARENT_SCOPE)
  endforeach()
  set(${prefix}_DESCRIPTION "${arg_SUMMARY}\n${arg_DESCRIPTION}" PARENT_SCOPE)
  install(FILES "${PROJECT_SOURCE_DIR}/cmake/debian/copyright"
          DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/${name}" COMPONENT ${component})
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_COMPONENTS_ALL ${CPACK_COMPONENTS_ALL} PARENT_SCOPE)
endfunction()

set(version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
set(library "libsyncbn${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")  # by its SOVERSION
set(library_mpi "libsyncbn-mpi${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
string(CONCAT about
  "syncbn computes the mean and the variance of batch norm over the whole batch of\n"
  "a data-parallel training, of which each process has a shard.\n")

syncbn_debian_package(library ${library} libs
  SUMMARY "synchronized batch norm for data-parallel training"
  DESCRIPTION "${about}This package has the shared library, which needs no MPI.")
syncbn_debian_package(development libsyncbn-dev libdevel
  DEPENDS "${library} (= ${version})"
  SUMMARY "synchronized batch norm for data-parallel training (development)"
  DESCRIPTION "${about}This package has the headers for C++ and C, and files for CMake and pkg-config.")
if(SYNCBN_MPI)
  syncbn_debian_package(library_mpi ${library_mpi} libs
    DEPENDS "${library} (= ${version})"
    SUMMARY "synchronized batch norm over MPI"
    DESCRIPTION "${about}This package has the shared library for programs whose processes are ranks of MPI.")
  string(APPEND CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS ", ${library_mpi} (= ${version})")
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_RECOMMENDS "libopenmpi-dev")
endif()
if(TARGET syncbn_tool)
  syncbn_debian_package(tools syncbn-tools science
    DEPENDS "openmpi-bin" RECOMMENDS "dataset-fashion-mnist" SUGGESTS "python3-syncbn"
    SUMMARY "trains with synchronized batch norm, checks it and measures it"
    DESCRIPTION "${about}This package has the tool that does so on a machine or a cluster, with mpirun.")
endif()
if(TARGET syncbn_python AND SYNCBN_PYTHON_DIR)
  syncbn_debian_package(python python3-syncbn python
    DEPENDS "python3 (>= 3.11)" RECOMMENDS "python3-torch" SUGGESTS "python3-matplotlib, python3-jinja2"
    SUMMARY "synchronized batch norm for PyTorch"
    DESCRIPTION "${about}This package has the layer for PyTorch, and the pages that show what the tool measured.")
  set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA
      "${CMAKE_CURRENT_LIST_DIR}/debian/postinst;${CMAKE_CURRENT_LIST_DIR}/debian/prerm")
endif()
# dpkg-shlibdeps finds the libraries that a package of this build brings here.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}/src")
include(CPack)

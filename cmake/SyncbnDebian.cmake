# cpack -G DEB: Debian packages of what this build installs, in the parts in which Debian has libraries
# and tools. The preset `debian` builds what they are meant to have.
if(NOT BUILD_SHARED_LIBS OR NOT CMAKE_LIBRARY_ARCHITECTURE)
  return()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME syncbn)
set(CPACK_PACKAGE_VENDOR syncbn)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # else it stands above each package's own
# Who makes packages is their maintainer. Who that is, is looked up as Debian's own tools do, then in git.
set(SYNCBN_CONTACT "" CACHE STRING
    "Maintainer of the Debian packages, NAME <ADDRESS>; empty: DEBFULLNAME and DEBEMAIL, or else git's user")
set(contact "${SYNCBN_CONTACT}")
if(NOT contact)
  set(contact "$ENV{DEBEMAIL}")
endif()
if(NOT contact)
  set(contact "$ENV{EMAIL}")
endif()
if(contact AND NOT contact MATCHES "<")
  set(contact "$ENV{DEBFULLNAME} <${contact}>")
endif()
if(NOT contact)
  find_program(SYNCBN_GIT git)
  mark_as_advanced(SYNCBN_GIT)
  if(SYNCBN_GIT)
    execute_process(COMMAND "${SYNCBN_GIT}" -C "${PROJECT_SOURCE_DIR}" config user.name
                    OUTPUT_VARIABLE name OUTPUT_STRIP_TRAILING_WHITESPACE)
    execute_process(COMMAND "${SYNCBN_GIT}" -C "${PROJECT_SOURCE_DIR}" config user.email
                    OUTPUT_VARIABLE address OUTPUT_STRIP_TRAILING_WHITESPACE)
    set(contact "${name} <${address}>")
  endif()
endif()
set(CPACK_PACKAGE_CONTACT "${contact}")
set(CPACK_PROJECT_CONFIG_FILE "${CMAKE_CURRENT_LIST_DIR}/debian/require_contact.cmake")
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}/packages")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
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
  install(FILES "${PROJECT_SOURCE_DIR}/cmake/debian/copyright" "${changelog}.gz"
          DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/${name}" COMPONENT ${component})
  # It has the overrides of all packages, of which each gets its own lines.
  file(STRINGS "${PROJECT_SOURCE_DIR}/cmake/debian/lintian-overrides" overrides REGEX "^@${component}@: ")
  if(overrides)
    list(TRANSFORM overrides REPLACE "^@${component}@" "${name}")
    list(JOIN overrides "\n" overrides)
    file(WRITE "${PROJECT_BINARY_DIR}/debian/overrides/${name}" "${overrides}\n")
    install(FILES "${PROJECT_BINARY_DIR}/debian/overrides/${name}"
            DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/lintian/overrides" COMPONENT ${component})
  endif()
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_COMPONENTS_ALL ${CPACK_COMPONENTS_ALL} PARENT_SCOPE)
endfunction()

set(version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)  # or SOURCE_DATE_EPOCH
set(changelog "${PROJECT_BINARY_DIR}/debian/changelog.Debian")
configure_file("${CMAKE_CURRENT_LIST_DIR}/debian/changelog.in" "${changelog}" @ONLY)
execute_process(COMMAND gzip -9 --no-name --force --keep "${changelog}" COMMAND_ERROR_IS_FATAL ANY)
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
    DESCRIPTION "${about}This package has the shared library for programs with ranks of MPI.")
  string(APPEND CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS ", ${library_mpi} (= ${version})")
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_RECOMMENDS "libopenmpi-dev")
endif()
if(TARGET syncbn_tool)
  syncbn_debian_package(tools syncbn-tools science
    DEPENDS "openmpi-bin, python3 (>= 3.11)" RECOMMENDS "dataset-fashion-mnist" SUGGESTS "python3-syncbn"
    SUMMARY "trains with synchronized batch norm, checks it and measures it"
    DESCRIPTION "${about}This package has the tool that does so on a machine or a cluster, with mpirun.")
endif()
if(TARGET syncbn_python AND SYNCBN_PYTHON_DIR)
  syncbn_debian_package(python python3-syncbn python
    DEPENDS "python3 (>= 3.11)" RECOMMENDS "python3-torch" SUGGESTS "python3-matplotlib, python3-jinja2"
    SUMMARY "synchronized batch norm for PyTorch"
    DESCRIPTION "${about}This package has the layer for PyTorch, and pages of what the tool measured.")
  set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA
      "${CMAKE_CURRENT_LIST_DIR}/debian/postinst;${CMAKE_CURRENT_LIST_DIR}/debian/prerm")
endif()
foreach(component LIBRARY LIBRARY_MPI)
  set(CPACK_DEBIAN_${component}_PACKAGE_CONTROL_EXTRA "${CMAKE_CURRENT_LIST_DIR}/debian/triggers")
endforeach()
# dpkg-shlibdeps finds the libraries that a package of this build brings here.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}/src")
include(CPack)

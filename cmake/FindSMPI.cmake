# SMPI, SimGrid's MPI: runs each rank of a program as a thread of control in one process, over a
# network that it simulates.
#
# SMPI::SMPI    what such a program, a MODULE library with a main, compiles and links with
# SMPI_RUN      smpirun, which loads and runs it
# SMPI_VERSION  SimGrid's version

find_path(SMPI_INCLUDE_DIR smpi/mpi.h)
find_library(SMPI_LIBRARY simgrid)
find_program(SMPI_RUN smpirun)
mark_as_advanced(SMPI_INCLUDE_DIR SMPI_LIBRARY SMPI_RUN)

set(SMPI_VERSION "")
if(SMPI_INCLUDE_DIR)
  file(STRINGS "${SMPI_INCLUDE_DIR}/simgrid/version.h" SMPI_VERSION REGEX "VERSION_STRING")
  string(REGEX REPLACE ".* version ([0-9.]+).*" "\\1" SMPI_VERSION "${SMPI_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(SMPI REQUIRED_VARS SMPI_RUN SMPI_LIBRARY SMPI_INCLUDE_DIR
                                       VERSION_VAR SMPI_VERSION)

if(SMPI_FOUND AND NOT TARGET SMPI::SMPI)
  add_library(SMPI::SMPI UNKNOWN IMPORTED)
  set_target_properties(SMPI::SMPI PROPERTIES
    IMPORTED_LOCATION "${SMPI_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${SMPI_INCLUDE_DIR}/smpi;${SMPI_INCLUDE_DIR}")
endif()

# oneDNN: dnnl_FOUND, dnnl_VERSION and the target DNNL::dnnl.
#
# oneDNN's own package config is passed over: Debian 12's wants OpenCL's development files, which its
# package libdnnl-dev does not bring, and stops without them even when asked quietly.

find_path(dnnl_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
find_library(dnnl_LIBRARY dnnl)
mark_as_advanced(dnnl_INCLUDE_DIR dnnl_LIBRARY)

set(dnnl_VERSION "")
if(dnnl_INCLUDE_DIR)
  file(STRINGS "${dnnl_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" lines
       REGEX "^#define +DNNL_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
  list(TRANSFORM lines REPLACE "^#define +[A-Z_]+ +([0-9]+).*" "\\1")
  list(JOIN lines "." dnnl_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(dnnl REQUIRED_VARS dnnl_LIBRARY dnnl_INCLUDE_DIR
                                       VERSION_VAR dnnl_VERSION)
if(dnnl_FOUND AND NOT TARGET DNNL::dnnl)
  add_library(DNNL::dnnl UNKNOWN IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES
    IMPORTED_LOCATION "${dnnl_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${dnnl_INCLUDE_DIR}")
  cmake_path(GET dnnl_LIBRARY PARENT_PATH dnnl_directory)
  if(UNIX AND NOT APPLE AND NOT dnnl_directory IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
    # The libraries that it needs lie beside it, as PyPI's package has them. They are looked for by the
    # program's DT_RPATH, but not by the DT_RUNPATH that linkers write by default.
    set_property(TARGET DNNL::dnnl PROPERTY INTERFACE_LINK_OPTIONS -Wl,--disable-new-dtags)
  endif()
endif()

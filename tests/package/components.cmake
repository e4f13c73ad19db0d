# A component is there if the library was built with it, or else refused with a reason. built_with_MPI
# and built_with_CUDA tell.
foreach(component MPI CUDA Fortran)
  if(component STREQUAL "MPI" AND CMAKE_DISABLE_FIND_PACKAGE_MPI)
    continue()
  endif()
  find_package(syncbn 0.1 QUIET COMPONENTS ${component})
  if(built_with_${component} AND NOT syncbn_FOUND)
    message(FATAL_ERROR "component ${component} is not found: ${syncbn_NOT_FOUND_MESSAGE}")
  elseif(NOT built_with_${component} AND syncbn_FOUND)
    message(FATAL_ERROR "component ${component} is found, and the library has none")
  elseif(NOT syncbn_FOUND AND NOT syncbn_NOT_FOUND_MESSAGE MATCHES
         "without ${component}. Build it with -DSYNCBN_${component}=ON|no component Fortran")
    message(FATAL_ERROR "component ${component} is refused like this: ${syncbn_NOT_FOUND_MESSAGE}")
  endif()
endforeach()

# A component is there, or refused with the reason: the library was built without it (built_with_MPI and
# built_with_CUDA tell), this machine lacks what it needs, or there is no such component.
foreach(component MPI CUDA Fortran)
  set(reason "")
  if(component STREQUAL "Fortran")
    set(reason "no component Fortran")
  elseif(NOT built_with_${component})
    set(reason "without ${component}. Build it with -DSYNCBN_${component}=ON")
  elseif(CMAKE_DISABLE_FIND_PACKAGE_${component})
    set(reason "component ${component} needs")
  endif()
  find_package(syncbn 0.1 QUIET COMPONENTS ${component})
  if(syncbn_FOUND AND reason)
    message(FATAL_ERROR "component ${component} is found, and expected was: ${reason}")
  elseif(NOT syncbn_FOUND AND NOT (reason AND syncbn_NOT_FOUND_MESSAGE MATCHES "${reason}"))
    message(FATAL_ERROR "component ${component} is refused: ${syncbn_NOT_FOUND_MESSAGE}; expected "
                        "was: ${reason}")
  endif()
endforeach()

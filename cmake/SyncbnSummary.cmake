# One block: what this build has, and why it lacks the rest.

function(syncbn_summary_line text option detail)
  if(${option})
    message(STATUS "  ${text} yes${detail}")
  else()
    message(STATUS "  ${text} no (${${option}_WHY})")
  endif()
endfunction()

message(STATUS "syncbn ${PROJECT_VERSION}, ${CMAKE_BUILD_TYPE}")
if(SYNCBN_MPI)
  set(mpi_detail ", MPI ${MPI_CXX_VERSION}")
endif()
syncbn_summary_line("MPI communicator " SYNCBN_MPI "${mpi_detail}")
syncbn_summary_line("OpenMP threads   " SYNCBN_OPENMP "")
syncbn_summary_line("syncbn tool      " SYNCBN_TOOL ", oneDNN ${dnnl_VERSION}")
syncbn_summary_line("tests            " SYNCBN_TESTS "")
syncbn_summary_line("API reference    " SYNCBN_DOCS "")

# Tests of the sources and documents rather than of the build, labelled `project`. One whose program
# is missing is listed as disabled.

find_package(Python3 3.9 QUIET COMPONENTS Interpreter)
find_program(SYNCBN_CLANG_FORMAT clang-format-14)  # others format differently
find_program(SYNCBN_SHELLCHECK shellcheck)
mark_as_advanced(SYNCBN_CLANG_FORMAT SYNCBN_SHELLCHECK)

function(syncbn_add_project_test name program)
  add_test(NAME ${name} COMMAND ${program} ${ARGN} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES LABELS project TIMEOUT 600)
  if(program STREQUAL "" OR "${ARGV}" MATCHES "-NOTFOUND")
    set_tests_properties(${name} PROPERTIES DISABLED TRUE)
  endif()
endfunction()

syncbn_add_project_test(layers "${Python3_EXECUTABLE}" tests/layers_test.py -v)
syncbn_add_project_test(gpu_run "${Python3_EXECUTABLE}" tests/gpu/run_test.py -v)
syncbn_add_project_test(conda "${Python3_EXECUTABLE}" tests/package/conda_test.py)
set_tests_properties(conda PROPERTIES SKIP_RETURN_CODE 77)
syncbn_add_project_test(spack_recipe "${Python3_EXECUTABLE}" tests/package/spack_recipe_test.py -v)
syncbn_add_project_test(spack "${Python3_EXECUTABLE}" tests/package/spack_test.py)
set_tests_properties(spack PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1800)
if(SYNCBN_TOOL AND SYNCBN_ONEDNN AND SYNCBN_MPI AND SYNCBN_INSTALL)
  syncbn_add_project_test(readme "${Python3_EXECUTABLE}" tests/readme_test.py
                          "${PROJECT_BINARY_DIR}" "${PROJECT_BINARY_DIR}/tests/package/moved"
                          "${PROJECT_BINARY_DIR}/tests/readme" -v)
  set_tests_properties(readme PROPERTIES
    FIXTURES_REQUIRED installed PROCESSORS 2
    ENVIRONMENT "CMAKE_GENERATOR=${CMAKE_GENERATOR};${syncbn_mpi_environment}")
endif()

syncbn_add_project_test(format "${PROJECT_SOURCE_DIR}/tests/format_test" "${SYNCBN_CLANG_FORMAT}")
syncbn_add_project_test(scripts "${SYNCBN_SHELLCHECK}" --external-sources
                        .ci/run launcher/contained launcher/install-packages
                        launcher/processes.bash launcher/quickstart
                        launcher/slurm/check.sbatch launcher/slurm/scale.sbatch
                        launcher/slurm/train.sbatch
                        docker/apt-snapshot docker/furnish docker/list-contents docker/list-python
                        docker/make-packages docker/make-wheel
                        tests/docker/containers.bash tests/docker/image_test
                        tests/elastic/elastic_test tests/launcher/pypi_mpi
                        tests/format_test tests/fuzz/run tests/gpu/pack tests/gpu/run
                        tests/hosts/agreement_test tests/hosts/doctor_test tests/hosts/faults_test
                        tests/hosts/hostfile_test tests/hosts/hosts.bash tests/hosts/run tests/hosts/shapes_test
                        tests/hosts/training.bash tests/kubernetes/environment tests/kubernetes/rehearsal_test
                        tests/kubernetes/run tests/kubernetes/torchrun_test cmake/debian/postinst cmake/debian/prerm
                        tests/package/c99/build_and_run.sh tests/package/debian_test tests/run
                        tests/slurm/jobs_test tests/slurm/slurm.bash
                        tests/support/bare_debian.bash tests/support/python_environment.bash
                        tests/torch/environment tests/torch/run)
if(SYNCBN_DOCS)
  syncbn_add_project_test(docs "${CMAKE_COMMAND}" --build "${PROJECT_BINARY_DIR}" --target docs)
endif()

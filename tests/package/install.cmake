# cmake -DBUILD=dir -DPREFIX=dir -P install.cmake: installs BUILD elsewhere, then moves it to PREFIX.
file(REMOVE_RECURSE "${PREFIX}" "${PREFIX}.before")
execute_process(COMMAND ${CMAKE_COMMAND} --install "${BUILD}" --prefix "${PREFIX}.before"
                COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${PREFIX}.before" "${PREFIX}")

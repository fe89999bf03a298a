# Before CPack makes a package of a staged component: what Debian wants compressed, without dates inside, what its
# own tools strip, and without the licence that the copyright file has.
set(staged ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/usr)
file(GLOB_RECURSE files ${staged}/share/man/*.1 ${staged}/changelog.Debian)
foreach(file ${files})
  execute_process(COMMAND gzip -9n ${file} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
file(GLOB_RECURSE files ${staged}/lib/*.so ${staged}/lib/*.so.* ${staged}/bin/*)
foreach(file ${files})
  if(NOT IS_SYMLINK ${file})
    execute_process(COMMAND strip --remove-section=.comment --remove-section=.note ${file}
                    COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()
file(GLOB_RECURSE files ${staged}/lib/*.a)
foreach(file ${files})
  execute_process(COMMAND strip --strip-debug --remove-section=.comment --remove-section=.note
                          --enable-deterministic-archives ${file} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
file(GLOB_RECURSE files ${staged}/share/doc/distac/LICENSE)
if(files)
  file(REMOVE ${files})
endif()

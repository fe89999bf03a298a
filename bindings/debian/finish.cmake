# Before CPack makes a package of a staged component: what Debian wants compressed, without dates inside.
file(GLOB_RECURSE files ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/usr/share/man/*.1
     ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/changelog.Debian)
foreach(file ${files})
  execute_process(COMMAND gzip -9n ${file} COMMAND_ERROR_IS_FATAL ANY)
endforeach()

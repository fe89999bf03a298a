# What `cmake --install` puts where. Relative places are under CMAKE_INSTALL_PREFIX. Components are packages, see
# package.cmake.
include(CMakePackageConfigHelpers)
# For package managers, which know one Lua version:
set(DISTAC_LUADIR "" CACHE PATH "Where the Lua files go; empty: share/lua/5.4 and share/lua/5.1")
set(DISTAC_LUALIBDIR "" CACHE PATH "Where the module for Lua 5.4 goes; empty: LIBDIR/lua/5.4")
set(DISTAC_DATADIR "" CACHE PATH "Where recipes and the benchmark's data go; empty: share/distac")

option(DISTAC_MODULE_ONLY "Install the Lua module alone, with the engine as one plain file" OFF)

if(APPLE)
  set(soname_ending .${PROJECT_VERSION_MAJOR}.dylib)
else()
  set(soname_ending .so.${PROJECT_VERSION_MAJOR})
endif()

set(data_dir ${CMAKE_INSTALL_DATADIR}/distac)
if(DISTAC_DATADIR)
  set(data_dir ${DISTAC_DATADIR})
endif()
set(lua54_lib ${CMAKE_INSTALL_LIBDIR}/lua/5.4)
if(DISTAC_LUALIBDIR)
  set(lua54_lib ${DISTAC_LUALIBDIR})
endif()
if(DISTAC_LUADIR)
  set(lua54_dir ${DISTAC_LUADIR})
  set(lua51_dir ${DISTAC_LUADIR})
else()
  set(lua54_dir ${CMAKE_INSTALL_DATADIR}/lua/5.4)
  set(lua51_dir ${CMAKE_INSTALL_DATADIR}/lua/5.1)
endif()

# ---- the Lua module
if(TARGET distac_raw54)
  install(TARGETS distac_raw54 LIBRARY DESTINATION ${lua54_lib}/distac COMPONENT lua-distac)
endif()
foreach(dir ${lua54_dir} ${lua51_dir})
  install(DIRECTORY ${CMAKE_SOURCE_DIR}/lua/distac DESTINATION ${dir} COMPONENT lua-distac
          FILES_MATCHING PATTERN "*.lua")
  install(FILES ${gen_dir}/docs.lua DESTINATION ${dir}/distac COMPONENT lua-distac)
endforeach()
install(FILES luajit/raw.lua luajit/raw_values.lua ${gen_dir}/raw_gen.lua ${gen_dir}/raw_cdef.lua
        DESTINATION ${lua51_dir}/distac COMPONENT lua-distac)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/recipes DESTINATION ${data_dir} COMPONENT distac-data OPTIONAL
        FILES_MATCHING PATTERN "*.lua")
install(DIRECTORY ${CMAKE_SOURCE_DIR}/examples/mini8 DESTINATION ${data_dir} COMPONENT distac-data OPTIONAL)
# Package managers that move what was installed, file by file, do not know links.
if(DISTAC_MODULE_ONLY)
  install(PROGRAMS $<TARGET_FILE:distac_shared> DESTINATION ${CMAKE_INSTALL_LIBDIR}
          RENAME libdistac${soname_ending})
  return()
endif()

# ---- libraries, program, documentation
install(TARGETS distac_shared EXPORT distacTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        COMPONENT libdistac0 NAMELINK_COMPONENT libdistac-dev)
install(TARGETS distac_script_shared EXPORT distacTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        COMPONENT libdistac-script0 NAMELINK_COMPONENT libdistac-dev)
install(TARGETS distac_static distac_script_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        COMPONENT libdistac-dev)
install(TARGETS distac RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT distac)
install(FILES ${CMAKE_SOURCE_DIR}/core/distac.h script/distac_script.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT libdistac-dev)

install(FILES ${CMAKE_SOURCE_DIR}/LICENSE ${gen_dir}/api.md ${gen_dir}/api_lua.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT libdistac-dev)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples
        COMPONENT libdistac-dev USE_SOURCE_PERMISSIONS
        FILES_MATCHING PATTERN "embed*" PATTERN "classify.lua" PATTERN "CMakeLists.txt" PATTERN "nginx/*"
        PATTERN "mini8" EXCLUDE)
# for editors: Lua.workspace.library
install(FILES ${gen_dir}/distac.d.lua DESTINATION ${data_dir}/types COMPONENT distac-data)
install(FILES ${gen_dir}/distac.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT distac)
install(FILES ${gen_dir}/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME distac COMPONENT distac)
install(FILES ${gen_dir}/_distac DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions COMPONENT distac)
install(FILES ${gen_dir}/distac.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
        COMPONENT distac)

# pkg-config: what stands in the files is relative to where they lie, so that a tree can be moved.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(pc_prefix ${CMAKE_INSTALL_PREFIX})
  set(pc_libdir ${CMAKE_INSTALL_LIBDIR})
else()
  file(RELATIVE_PATH pc_up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  set(pc_prefix "\${pcfiledir}/${pc_up}")
  set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(vm STREQUAL "LUA54")
  set(pc_lua ${LUA54_MODULE_NAME})
else()
  set(pc_lua luajit)
endif()
# What programs that take the static libraries must link as well: packages for pkg-config with their libraries, and
# libraries without one.
set(static_packages "")
set(static_of_packages "")
set(static_libraries ${DISTAC_LINK_NAMES} dl m pthread)
foreach(package png=libpng jpeg=libjpeg z=zlib)
  string(REPLACE "=" ";" package ${package})
  list(GET package 0 library)
  list(GET package 1 package)
  if(library IN_LIST static_libraries)
    list(REMOVE_ITEM static_libraries ${library})
    list(APPEND static_of_packages ${library})
    list(APPEND static_packages ${package})
  endif()
endforeach()
list(JOIN static_packages " " pc_requires)
list(TRANSFORM static_libraries PREPEND -l OUTPUT_VARIABLE pc_libraries)
list(JOIN pc_libraries " " pc_libraries)
foreach(name distac distac-script)
  configure_file(${name}.pc.in ${gen_dir}/${name}.pc @ONLY)
  install(FILES ${gen_dir}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT libdistac-dev)
endforeach()

# find_package(distac) gives distac::distac and distac::script, and the static distac::distac_static and
# distac::script_static
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/distac)
install(EXPORT distacTargets NAMESPACE distac:: DESTINATION ${package_dir} COMPONENT libdistac-dev)
set(static_engine ${static_of_packages} ${static_libraries})
set(static_vm ${${vm}_LIBRARIES})
configure_package_config_file(distacConfig.cmake.in ${gen_dir}/distacConfig.cmake
                              INSTALL_DESTINATION ${package_dir}
                              PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${gen_dir}/distacConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${gen_dir}/distacConfig.cmake ${gen_dir}/distacConfigVersion.cmake DESTINATION ${package_dir}
        COMPONENT libdistac-dev)

include(package.cmake)

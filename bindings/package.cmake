# Debian packages by CPack: `cpack -G DEB` in a build folder that was configured with -DCMAKE_INSTALL_PREFIX=/usr
# -DDISTAC_CUDA=OFF. Components of the installation are named like their packages:
#   libdistac0         the engine                         libdistac-script0   scripts inside host programs
#   lua-distac         the module for Lua 5.4 and LuaJIT  distac              the program
#   libdistac-dev      headers, static libraries, package files, examples
set(packages libdistac0 libdistac-script0 lua-distac distac libdistac-dev)
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL ${packages})
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME distac)
set(CPACK_PACKAGE_VENDOR "distac authors")
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "the distac authors <distac@localhost>" CACHE STRING "Who made these packages")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                                                WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/debian/finish.cmake)

# describe(PACKAGE SECTION SUMMARY DEPENDS DESCRIPTION): upper case is how CPack asks for it.
function(describe package section summary depends)
  string(TOUPPER ${package} name)
  set(CPACK_DEBIAN_${name}_PACKAGE_NAME ${package} PARENT_SCOPE)
  set(CPACK_DEBIAN_${name}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_DEBIAN_${name}_PACKAGE_DEPENDS "${depends}" PARENT_SCOPE)
  set(CPACK_COMPONENT_${name}_DESCRIPTION "${summary}\n${ARGN}" PARENT_SCOPE)
  install(FILES debian/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${package}
          EXCLUDE_FROM_ALL)
  install(FILES ${gen_dir}/changelog RENAME changelog.Debian DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package}
          COMPONENT ${package} EXCLUDE_FROM_ALL)
endfunction()
if(vm STREQUAL "LUA54")
  set(vm_package liblua5.4-dev)
else()
  set(vm_package libluajit-5.1-dev)
endif()
set(same "(= ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})")
string(TIMESTAMP changed "%a, %d %b %Y %H:%M:%S +0000" UTC)
configure_file(debian/changelog.in ${gen_dir}/changelog @ONLY)

describe(libdistac0 libs "engine that conditions task vectors and merges models"
         "liblapacke, libopenblas0" # loaded when the first context is opened
         "Conditions task vectors by knowledge distillation (DisTaC) and merges\n\
fine-tuned models. This package has the engine in C, which needs no Lua.")
describe(libdistac-script0 libs "runs Lua scripts of distac inside host programs"
         "libdistac0 ${same}, lua-distac ${same}"
         "A Lua state with the engine and its limits behind a small C interface,\n\
for programs that run recipes and scripts.")
describe(lua-distac interpreters "conditioning and merging of models for Lua 5.4 and LuaJIT" "libdistac0 ${same}"
         "For scripts and programs with a Lua of their own: tensors, models, task\n\
vectors, merging, training and recipes. With the recipes of the paper and\n\
an embedded benchmark.")
describe(distac science "conditions task vectors and merges fine-tuned models"
         "libdistac0 ${same}, lua-distac ${same}"
         "The command line and the prompt: runs recipes, merges, evaluates,\n\
inspects and converts models.")
describe(libdistac-dev libdevel "engine that conditions task vectors: files for development"
         "libdistac0 ${same}, libdistac-script0 ${same}, libpng-dev, \
libjpeg-dev, zlib1g-dev, libunistring-dev, libxxhash-dev, libmd-dev, ${vm_package}"
         "Headers, static libraries, files for pkg-config and CMake, the reference\n\
and examples of host programs.")
set(CPACK_DEBIAN_LIBDISTAC0_PACKAGE_RECOMMENDS "libcairo2, fonts-dejavu-core") # loaded when something is drawn
set(CPACK_DEBIAN_LUA-DISTAC_PACKAGE_SUGGESTS "lua5.4, luajit, dataset-fashion-mnist")
set(CPACK_DEBIAN_DISTAC_PACKAGE_SUGGESTS "dataset-fashion-mnist")
foreach(library LIBDISTAC0 LIBDISTAC-SCRIPT0)
  set(CPACK_DEBIAN_${library}_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/debian/triggers)
endforeach()
include(CPack)

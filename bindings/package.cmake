# Debian packages by CPack: `cpack -G DEB` in a build folder that was configured with -DCMAKE_INSTALL_PREFIX=/usr.
# Components of the installation are named like their packages:
#   libdistac0         the engine                         libdistac-script0   scripts inside host programs
#   lua-distac         the module for Lua 5.4 and LuaJIT  distac              the program
#   libdistac-dev      headers, static libraries, package files, examples
#   distac-data        recipes, the benchmark's data, types for editors: the same on every architecture
#   distac-cuda        the CUDA module, where it was built
# Who makes them is asked of DEBFULLNAME and DEBEMAIL, as Debian's own tools do.
set(packages libdistac0 libdistac-script0 lua-distac distac libdistac-dev distac-data)
if(TARGET distac_cuda)
  list(APPEND packages distac-cuda)
endif()
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL ${packages})
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME distac)
set(CPACK_PACKAGE_VENDOR "distac authors")
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
if(DEFINED ENV{DEBFULLNAME} AND DEFINED ENV{DEBEMAIL})
  set(packager "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
else()
  set(packager "the distac authors <distac@localhost>")
endif()
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "${packager}" CACHE STRING "Who made these packages")
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
  set(overrides "# Made for a machine, not for Debian's archive: there is no request for a package to close.\n\
${package}: initial-upload-closes-no-bugs *\n")
  if(CPACK_DEBIAN_PACKAGE_MAINTAINER MATCHES "@localhost>")
    string(APPEND overrides "# Whoever makes the packages is asked for in DEBFULLNAME and DEBEMAIL, and gave none.\n\
${package}: bogus-mail-host *\n${package}: bogus-mail-host-in-debian-changelog *\n")
  endif()
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/debian/overrides/${package})
    file(READ debian/overrides/${package} own)
    string(APPEND overrides "${own}")
  endif()
  file(WRITE ${gen_dir}/overrides/${package} "${overrides}")
  install(FILES ${gen_dir}/overrides/${package} DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides
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
describe(lua-distac interpreters "conditioning and merging of models for Lua 5.4 and LuaJIT"
         "libdistac0 ${same}, distac-data ${same}"
         "For scripts and programs with a Lua of their own: tensors, models, task\n\
vectors, merging, training and recipes.")
describe(distac-data science "recipes and a small benchmark for merging of models" ""
         "The recipes of the paper, the data, heads and backbone of a benchmark of\n\
eight small tasks, and the types of the Lua module for editors.")
set(CPACK_DEBIAN_DISTAC-DATA_PACKAGE_ARCHITECTURE all)
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
if(TARGET distac_cuda)
  # NVIDIA's own packages have the toolkit's libraries, or its installer has put them where no package knows of
  # them: they are recommended, and what could not be loaded is said when a device is asked for.
  set(of_toolkit "${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR}")
  describe(distac-cuda contrib/science "CUDA devices for the distac engine"
           "libdistac0 ${same}, libc6, libstdc++6, libgcc-s1"
           "A module that libdistac0 loads when a CUDA device is asked for: training,\n\
distillation, evaluation and merging on it. Needs NVIDIA's driver and the\n\
libraries of its toolkit.")
  set(CPACK_DEBIAN_DISTAC-CUDA_PACKAGE_RECOMMENDS
      "cuda-cudart-${of_toolkit}, libcublas-${of_toolkit}, libcusolver-${of_toolkit}")
  set(CPACK_DEBIAN_DISTAC-CUDA_PACKAGE_SHLIBDEPS OFF)
endif()
foreach(library LIBDISTAC0 LIBDISTAC-SCRIPT0)
  set(CPACK_DEBIAN_${library}_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/debian/triggers)
endforeach()
include(CPack)

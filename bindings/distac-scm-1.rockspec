-- The Lua module alone, for LuaRocks: run `luarocks make bindings/distac-scm-1.rockspec` in the source folder.
rockspec_format = "3.0"
package = "distac"
version = "scm-1"
source = { url = "." }
description = {
    summary = "Conditions task vectors by distillation and merges fine-tuned models",
    license = "MIT",
}
dependencies = { "lua >= 5.1, < 5.5" }
build = {
    type = "cmake",
    variables = {
        CMAKE_BUILD_TYPE = "Release",
        DISTAC_TESTS = "OFF",
        DISTAC_MODULE_ONLY = "ON",
        CMAKE_INSTALL_PREFIX = "$(PREFIX)",
        CMAKE_INSTALL_LIBDIR = "$(LIBDIR)/distac",
        DISTAC_LUADIR = "$(LUADIR)",
        DISTAC_LUALIBDIR = "$(LIBDIR)",
        DISTAC_DATADIR = "$(LUADIR)/distac",
    },
}

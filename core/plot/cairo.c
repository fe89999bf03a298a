/* cairo.c: loads libcairo when something is drawn; it stays in memory. */
#include "cairo.h"
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#ifdef __APPLE__
#define LIBRARY "libcairo.2.dylib"
#else
#define LIBRARY "libcairo.so.2"
#endif

distac_status di_cairo_load(di_cairo *out) {
    errno = 0;
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    void *symbol = library;
#define DI_FIND(name)                                                                                             \
    if (symbol) symbol = dlsym(library, "cairo_" #name);                                                          \
    if (symbol) memcpy(&out->name, &symbol, sizeof symbol);
    DI_CAIRO(DI_FIND)
#undef DI_FIND
    distac_status status = DISTAC_OK;
    if (!symbol) {
        distac_status why = errno == ENOMEM ? DISTAC_ENOMEM : DISTAC_EUNSUPPORTED;
        const char *text = dlerror();
        status = di_fail(why, "charts are drawn with " LIBRARY ": %s", text ? text : "not found");
    }
    if (library) dlclose(library);
    return status;
}

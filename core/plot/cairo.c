/* cairo.c: loads libcairo when something is drawn; it stays. */
#include "cairo.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef __APPLE__
#define LIBRARY "libcairo.2.dylib"
#else
#define LIBRARY "libcairo.so.2"
#endif

static di_cairo calls;
static char why_not[512];

static void load(void) {
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    void *symbol = library;
#define DI_FIND(name)                                                                                                 \
    if (symbol) symbol = dlsym(library, "cairo_" #name);                                                              \
    if (symbol) memcpy(&calls.name, &symbol, sizeof symbol);
    DI_CAIRO(DI_FIND)
#undef DI_FIND
    if (!symbol) {
        const char *text = dlerror();
        snprintf(why_not, sizeof why_not, "charts are drawn with " LIBRARY ": %.400s", text ? text : "not found");
    }
}

distac_status di_cairo_load(const di_cairo **out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (why_not[0]) return di_fail(DISTAC_EUNSUPPORTED, "%s", why_not);
    *out = &calls;
    return DISTAC_OK;
}

/* cairo.c, without cairo: a chart can be put together, not drawn. */
#include "plot/plot.h"

distac_status di_plot_draw(const distac_plot *plot, const char *path) {
    (void)plot;
    return di_fail_at(DISTAC_EUNSUPPORTED, "distac_plot_save",
                      "%s: charts are left out: this build is without cairo", path);
}

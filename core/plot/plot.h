/* plot.h: the body of a chart: what was added, before it is drawn. */
#ifndef DISTAC_PLOT_H
#define DISTAC_PLOT_H

#include "../base/base.h"

enum { DI_STYLE_LINE = 0, DI_STYLE_POINTS = 1, DI_STYLE_DASHED = 2, DI_STYLE_BEFORE = 3 };

typedef struct di_series {
    char *label;
    int32_t count, style;
    double *x, *y, *band; /* band NULL: none; bars have x NULL */
} di_series;

typedef struct di_level {
    char *label;
    double y;
} di_level;

struct distac_plot {
    atomic_int refs;
    distac_context *context;
    char *title, *x_label, *y_label;
    int32_t width, height;
    bool log_y;
    double y_min, y_max; /* NaN: from the data */
    int32_t line_count, bar_count, category_count, level_count;
    di_series *lines, *bars;
    char **categories;
    di_level *levels;
};

/* Axis (axis.c): a value range with round ticks. Positions are shares of the axis, 0 at its start. */
typedef struct di_axis {
    double low, high;
    bool log;
    int32_t tick_count;
    double ticks[24];
    char labels[24][24];
} di_axis;
/* Round limits and at most `most` ticks around [low, high], at least `least` apart; on a logarithmic axis low must
 * be > 0. */
void di_axis_make(di_axis *axis, double low, double high, bool log, bool exact_low, bool exact_high, int32_t most,
                  double least);
double di_axis_place(const di_axis *axis, double value);
/* Turns a decimal comma of the host's locale into a point. */
void di_plain_point(char *number);

/* Encodes the drawn chart and writes it (draw.c). */
distac_status di_plot_draw(const distac_plot *plot, const char *path);

#endif

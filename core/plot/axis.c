/* axis.c: round axis limits and tick labels. */
#include "plot.h"

#include <math.h>
#include <stdio.h>

/* The round step (1, 2 or 5 times a power of ten) that gives at most `most` ticks over `span`. */
static double round_step(double span, int32_t most)
{
    double raw = span / (double)(most > 1 ? most - 1 : 1);
    double power = pow(10.0, floor(log10(raw)));
    double share = raw / power;
    return power * (share <= 1.0 ? 1.0 : share <= 2.0 ? 2.0 : share <= 5.0 ? 5.0 : 10.0);
}

/* The host's locale may write 0,5: charts always say 0.5. */
void di_plain_point(char *number)
{
    for (; *number; number++)
        if (*number == ',') *number = '.';
}

static void label_tick(di_axis *axis, int32_t index, double step)
{
    double value = axis->ticks[index];
    int decimals = step >= 1.0 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (decimals > 9) decimals = 9;
    if (fabs(value) < step * 1e-6) value = 0.0; /* never "-0" */
    if (fabs(value) >= 1e5 || (step < 1e-6 && value != 0.0))
        snprintf(axis->labels[index], sizeof axis->labels[index], "%.2g", value);
    else
        snprintf(axis->labels[index], sizeof axis->labels[index], "%.*f", decimals, value);
    di_plain_point(axis->labels[index]);
}

static void make_linear(di_axis *axis, double low, double high, bool exact_low, bool exact_high, int32_t most,
                        double least)
{
    if (!(high > low)) {
        double pad = fabs(low) > 0 ? fabs(low) * 0.1 : 1.0;
        if (!exact_high) high = low + pad;
        if (!exact_low) low = low - pad;
        if (!(high > low)) high = low + 1.0;
    }
    double step = fmax(round_step(high - low, most), least);
    axis->low = exact_low ? low : floor(low / step + 1e-9) * step;
    axis->high = exact_high ? high : ceil(high / step - 1e-9) * step;
    axis->tick_count = 0;
    for (double tick = ceil(axis->low / step - 1e-9); tick * step <= axis->high + step * 1e-6; tick += 1.0) {
        if (axis->tick_count == 24) break;
        axis->ticks[axis->tick_count] = tick * step;
        label_tick(axis, axis->tick_count++, step);
    }
}

static void make_log(di_axis *axis, double low, double high)
{
    axis->low = pow(10.0, floor(log10(low) + 1e-9));
    axis->high = pow(10.0, ceil(log10(high) - 1e-9));
    if (!(axis->high > axis->low)) axis->high = axis->low * 10.0;
    double decades = log10(axis->high / axis->low);
    double stride = decades > 20.0 ? ceil(decades / 20.0) : 1.0;
    axis->tick_count = 0;
    for (double e = log10(axis->low); e <= log10(axis->high) + 1e-9 && axis->tick_count < 24; e += stride) {
        axis->ticks[axis->tick_count] = pow(10.0, e);
        snprintf(axis->labels[axis->tick_count], sizeof axis->labels[0], "%g", pow(10.0, e));
        di_plain_point(axis->labels[axis->tick_count++]);
    }
}

void di_axis_make(di_axis *axis, double low, double high, bool log, bool exact_low, bool exact_high, int32_t most,
                  double least)
{
    axis->log = log;
    if (log)
        make_log(axis, low, high);
    else
        make_linear(axis, low, high, exact_low, exact_high, most, least);
}

double di_axis_place(const di_axis *axis, double value)
{
    if (axis->log) return log10(value / axis->low) / log10(axis->high / axis->low);
    return (value - axis->low) / (axis->high - axis->low);
}

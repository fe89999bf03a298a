/* general.h: the entries that are the same for every instruction set: bound by memory, or few numbers in double.
 * DI_CPU_GENERAL(suffix) fills them in. */
#ifndef DISTAC_CPU_GENERAL_H
#define DISTAC_CPU_GENERAL_H

#include "../backend.h"
#include <stddef.h>

#define DI_CPU_GENERAL(suffix)                                                                                    \
    .rows_first = di_cpu_rows_first_##suffix, .rows_first_backward = di_cpu_rows_first_backward_##suffix,         \
    .pixels = di_cpu_pixels_##suffix, .gather = di_cpu_gather_##suffix, .loss = di_cpu_loss_##suffix,             \
    .loss_kd = di_cpu_loss_kd_##suffix, .loss_entropy = di_cpu_loss_entropy_##suffix,                             \
    .project = di_cpu_project_##suffix, .project_backward = di_cpu_project_backward_##suffix,                     \
    .step_begin = di_cpu_step_begin, .step_rows = di_cpu_step_rows,                                               \
    .step_gradient = di_cpu_step_gradient_##suffix, .step_decide = di_cpu_step_decide,                            \
    .step_update = di_cpu_step_update_##suffix, .nonfinite = di_cpu_nonfinite_##suffix,                           \
    .square = di_cpu_square_##suffix, .combine = di_cpu_combine_##suffix,

/* Functions of the types that the table has. */
#define DI_CPU_ENTRY(name, symbol) __typeof__(*((di_kernels *)NULL)->name) symbol;
#define DI_CPU_BOTH(name) DI_CPU_ENTRY(name, di_cpu_##name##_f32) DI_CPU_ENTRY(name, di_cpu_##name##_f64)
/* rows.c */
DI_CPU_BOTH(rows_first) DI_CPU_BOTH(rows_first_backward) DI_CPU_BOTH(pixels) DI_CPU_BOTH(gather)
/* losses.c */
DI_CPU_BOTH(loss) DI_CPU_BOTH(loss_kd) DI_CPU_BOTH(loss_entropy)
/* steps.c */
DI_CPU_BOTH(project) DI_CPU_BOTH(project_backward) DI_CPU_BOTH(step_gradient) DI_CPU_BOTH(step_update)
DI_CPU_ENTRY(step_begin, di_cpu_step_begin)
DI_CPU_ENTRY(step_rows, di_cpu_step_rows)
DI_CPU_ENTRY(step_decide, di_cpu_step_decide)
/* vectors.c */
DI_CPU_BOTH(nonfinite) DI_CPU_BOTH(square) DI_CPU_BOTH(combine)

#endif

/* unictype.h, without libunistring: di_points_decode refuses texts beyond ASCII, for which these would be asked.
 */
#ifndef DISTAC_WITHOUT_UNICTYPE_H
#define DISTAC_WITHOUT_UNICTYPE_H

#include <stdbool.h>
#include <stdint.h>

enum { UC_CATEGORY_MASK_L, UC_CATEGORY_MASK_N };
static inline bool uc_is_general_category_withtable(uint32_t c, uint32_t mask) {
    return (void)c, (void)mask, false;
}
static inline bool uc_is_property_white_space(uint32_t c) { return (void)c, false; }
static inline bool uc_is_property_case_ignorable(uint32_t c) { return (void)c, false; }
static inline bool uc_is_property_cased(uint32_t c) { return (void)c, false; }

#endif

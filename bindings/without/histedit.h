/* histedit.h, without libedit: no line editor and no history; terminal.c reads plain lines then. */
#ifndef DISTAC_WITHOUT_HISTEDIT_H
#define DISTAC_WITHOUT_HISTEDIT_H

#include <stddef.h>
#include <stdio.h>

typedef struct editline EditLine;
typedef struct history_none History;
typedef struct HistEvent { int num; const char *str; } HistEvent;
typedef struct LineInfo { const char *buffer, *cursor, *lastchar; } LineInfo;
enum { CC_REFRESH, CC_REDISPLAY, CC_ERROR };
enum { EL_PROMPT, EL_EDITOR, EL_SIGNAL, EL_GETCFN, EL_HIST, EL_ADDFN, EL_BIND, EL_REFRESH };
enum { H_SETSIZE, H_SETUNIQUE, H_ENTER };

static inline EditLine *el_init(const char *name, FILE *in, FILE *out, FILE *err) {
    return (void)name, (void)in, (void)out, (void)err, (EditLine *)NULL;
}
static inline History *history_init(void) { return NULL; }
static inline int history(History *h, HistEvent *e, int what, ...) { return (void)h, (void)e, (void)what, -1; }
static inline void history_end(History *h) { (void)h; }
static inline int el_set(EditLine *e, int what, ...) { return (void)e, (void)what, -1; }
static inline int el_source(EditLine *e, const char *path) { return (void)e, (void)path, -1; }
static inline void el_resize(EditLine *e) { (void)e; }
static inline void el_reset(EditLine *e) { (void)e; }
static inline void el_end(EditLine *e) { (void)e; }
static inline const char *el_gets(EditLine *e, int *count) { return (void)e, (void)count, (const char *)NULL; }
static inline const LineInfo *el_line(EditLine *e) { return (void)e, (const LineInfo *)NULL; }
static inline int el_insertstr(EditLine *e, const char *text) { return (void)e, (void)text, -1; }

#endif

/* watch.h: how a host learns of the contexts that its Lua code makes, so that it can cancel work in them.
 *
 * A host puts the address of a distac_watch as light userdata into registry field "distac.watch" before
 * `distac.raw` is first required; both bindings then call add when a context appears and drop just before
 * they release it. Both run on the thread of the Lua state. */
#ifndef DISTAC_WATCH_H
#define DISTAC_WATCH_H

typedef struct distac_watch distac_watch;
struct distac_watch {
    void (*add)(distac_watch *watch, void *context);
    void (*drop)(distac_watch *watch, void *context);
};

#endif

/* distac_script.h: runs Lua scripts and recipes of distac inside a host program. Plain C11, C++ reads it too.
 *
 *   distac_script *script;
 *   if (distac_script_open(NULL, &script) != DISTAC_OK) return fail(distac_script_error(NULL));
 *   distac_script_set_number(script, "kappa", 0.8);
 *   if (distac_script_run_file(script, "job.lua") != DISTAC_OK) report(distac_script_error(script));
 *   else distac_script_result(script, &json);
 *   distac_script_close(script);
 *
 * The library prints nothing, installs no signal handlers, never ends the process: `print` collects text for
 * distac_script_output, os.exit raises an error. Only text is run, never compiled code. Scripts see the standard
 * libraries, so they are as trusted as the host, and limits protect from mistakes alone, unless the script is
 * opened as restricted, which LuaJIT cannot.
 *
 * One thread at a time per script, except distac_script_cancel. Several scripts never meet. */
#ifndef DISTAC_SCRIPT_H
#define DISTAC_SCRIPT_H

#include "distac.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct distac_script distac_script;

typedef struct distac_script_desc {
    const char *lua_path;      /* folder that holds distac/init.lua; NULL: found from where this library lies */
    int64_t memory_limit; /* bytes of Lua objects (tensors count in the engine's limit); 0: none. On LuaJIT it may
                           * be passed by 256 KiB, which it lives on until an error can be raised */
    int64_t instruction_limit; /* Lua instructions of one run; 0: none. On LuaJIT it turns the compiler off */
    const distac_context_desc *engine; /* settings of the engine's default context; NULL: defaults */
    /* 1: scripts compute, and read and write only the files below, lists that end in NULL (NULL: none): no other
     * files, processes, environment, modules or compiled code. For the recipes of colleagues; what strangers wrote
     * belongs into a process of its own. Limits that are 0 are then 64 MiB and 10^9 instructions. Lua 5.4 only: on
     * LuaJIT, whose FFI reaches all memory, opening fails with EUNSUPPORTED. */
    int32_t restricted;
    const char *const *readable; /* files, and folders with all that is in them */
    const char *const *writable; /* may be read, too */
    /* Where the memory of Lua's objects and of the engine's tensors and workspaces comes from; copied, its `user`
     * has to outlive the script. All is given back by distac_script_close. NULL: the C library and the system. */
    const distac_allocator *allocator;
} distac_script_desc;

/* Opens a Lua state with the standard libraries and `require "distac"`. desc NULL: all defaults.
 * Errors: ENOMEM; ENOTFOUND (no Lua files); those of distac_context_create if engine is given. */
DISTAC_API distac_status distac_script_open(const distac_script_desc *desc, distac_script **out);
/* Closes the state and everything in it. NULL is fine. */
DISTAC_API void distac_script_close(distac_script *script);

/* Globals of the script. */
DISTAC_API distac_status distac_script_set_number(distac_script *script, const char *name, double value);
DISTAC_API distac_status distac_script_set_string(distac_script *script, const char *name, const char *value);
DISTAC_API distac_status distac_script_set_boolean(distac_script *script, const char *name, int32_t value);

/* Runs a file, or text under a name for messages ("=job" is shown as job). The first value that the chunk
 * returns is its result. Errors: EFORMAT (syntax, or compiled code), EIO, ENOMEM (a limit was reached), ECANCELED
 * (distac_script_cancel, or the instruction limit), EINVAL for any other Lua error, and the engine's own. */
DISTAC_API distac_status distac_script_run_file(distac_script *script, const char *path);
DISTAC_API distac_status distac_script_run_string(distac_script *script, const char *text, int64_t bytes,
                                                  const char *chunk_name);

/* The result of the last run as JSON, valid until the next call on this script. Errors: EUNSUPPORTED (the value
 * holds what JSON has not). */
DISTAC_API distac_status distac_script_result(distac_script *script, const char **out);
/* What the script printed since the last call; valid until the next call on this script. */
DISTAC_API const char *distac_script_output(distac_script *script);
/* Text of the last failure, with a traceback for Lua errors; NULL: of the last distac_script_open on this
 * thread. "" if none. */
DISTAC_API const char *distac_script_error(const distac_script *script);

typedef struct distac_script_progress {
    char what[128]; /* "fine-tuning digits (1/8)"; "" between two such parts */
    int64_t done;
    int64_t total; /* 0 if unknown */
} distac_script_progress;
/* [any] What the run that goes on is doing: recipes and merges tell it, and so may any script that calls
 * require("distac.progress"). Lines that they would print on a terminal are in distac_script_output. */
DISTAC_API void distac_script_get_progress(distac_script *script, distac_script_progress *out);

/* [any] Stops the run that is going on, or else the next one: engine work and Lua code end with ECANCELED. (Loops
 * that LuaJIT has compiled and that call no engine function are not stopped.) */
DISTAC_API void distac_script_cancel(distac_script *script);

#ifdef __cplusplus
}
#endif
#endif

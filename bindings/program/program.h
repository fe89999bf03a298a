/* program.h: the parts of the program `distac`: main.c (command line), repl.c (starts the prompt, which is written
 * in Lua: distac.repl), terminal.c (the terminal as Lua sees it), child.c (processes beside this one),
 * interrupt.c. */
#ifndef DISTAC_PROGRAM_H
#define DISTAC_PROGRAM_H

#include "vm.h"

#define EXIT_OK          0
#define EXIT_FAILED      1 /* the work failed */
#define EXIT_USAGE       2 /* the command is wrong, nothing was started */
#define EXIT_INTERRUPTED 130

/* interrupt.c: Ctrl-C. Work in the engine is cancelled at once. A second Ctrl-C before the first was served raises
 * an error in Lua code of any mode, a third one kills the process, except in mode PROMPT. */
enum {
    INTERRUPT_SAVE,  /* the code sees ECANCELED or distac.cancelled() and ends by itself */
    INTERRUPT_RAISE, /* the running Lua code gets an error, once */
    INTERRUPT_PROMPT /* it gets an error of code ECANCELED, again and again if it goes on regardless */
};
void interrupt_install(ds_watch *watch);
void interrupt_begin(lua_State *L, int mode);
int interrupt_end(void); /* 1 if there was a Ctrl-C since begin; forgets it */
int interrupt_gentle(lua_State *L); /* Lua: mode SAVE from now on */
int interrupt_current(lua_State *L); /* Lua: (thread) runs from now on; returns the one that did */
const volatile int *interrupt_flag(
    void); /* not 0 while running Lua code shall end: LuaJIT's compiled loops ask it */

/* main.c: calls the function below its n arguments; 0, or the error was printed to stderr. */
int program_call(lua_State *L, int arguments, int results);
void program_report(lua_State *L); /* prints the error value on top and pops it */

/* terminal.c, child.c: put their functions into the table on top, the module distac.terminal. */
void terminal_functions(lua_State *L);
void child_functions(lua_State *L);

/* repl.c: makes distac.terminal loadable; runs the prompt until the input ends. */
void repl_offer(lua_State *L);
void repl_run(lua_State *L);

#endif

/* program.h: the parts of the program `distac`: main.c (command line), repl.c, interrupt.c. */
#ifndef DISTAC_PROGRAM_H
#define DISTAC_PROGRAM_H

#include "vm.h"

#define EXIT_OK          0
#define EXIT_FAILED      1 /* the work failed */
#define EXIT_USAGE       2 /* the command is wrong, nothing was started */
#define EXIT_INTERRUPTED 130

/* interrupt.c: Ctrl-C. Work in the engine is cancelled at once. With `raise` the running Lua code gets an error
 * too; without it, the code sees ECANCELED or distac.cancelled() and ends by itself. A second Ctrl-C before
 * the first was served raises, a third one kills. */
void interrupt_install(ds_watch *watch);
void interrupt_begin(lua_State *L, int raise);
int interrupt_end(void); /* 1 if there was a Ctrl-C since begin; forgets it */

/* main.c: calls the function below its n arguments; 0, or the error was printed to stderr. */
int program_call(lua_State *L, int arguments, int results);
void program_report(lua_State *L); /* prints the error value on top and pops it */

/* repl.c */
void repl_run(lua_State *L);

#endif

/* pickle_name.c: what the names in a pickle stand for. They are compared with constants and never looked up. Names
 * of modules that reach the system, other programs' code or the network are refused wherever they stand: no model
 * needs them, and a file that has them was made to attack whoever opens it in Python. */
#include "pickle.h"
#include <string.h>

/* A module and all below it. */
static const char dangerous[] =
    " os posix nt posixpath ntpath sys subprocess _posixsubprocess runpy shutil socket _socket pty tty popen2 "
    "importlib _frozen_importlib _frozen_importlib_external imp _imp zipimport pkgutil ctypes _ctypes cffi "
    "_cffi_backend multiprocessing concurrent threading _thread thread asyncio signal _signal atexit gc code "
    "codeop codecs pickle _pickle cPickle pickletools dill cloudpickle joblib shelve dbm marshal inspect pdb "
    "bdb profile cProfile _lsprof timeit doctest unittest webbrowser urllib urllib2 http httplib ftplib "
    "smtplib telnetlib xmlrpc poplib imaplib requests aiohttp httpx paramiko ssl select selectors "
    "socketserver tempfile glob fileinput linecache io _io mmap fcntl pwd grp winreg _winreg _winapi msvcrt "
    "platform getpass site pip setuptools distutils pkg_resources ensurepip venv pydoc pydoc_data "
    "rlcompleter sched operator _operator weakref _weakref ast symtable py_compile compileall tarfile "
    "zipfile sqlite3 _sqlite3 idlelib lib2to3 turtledemo tkinter _tkinter torch.hub torch.jit torch.package "
    "torch.serialization torch.ops torch._ops torch.classes torch.fx torch.utils.cpp_extension "
    "torch.utils.model_zoo torch.utils.collect_env torch.utils.bottleneck torch.distributed torch._dynamo "
    "torch._inductor torch.multiprocessing torch.testing torch.onnx numpy.testing numpy.f2py numpy.distutils "
    "numpy.ctypeslib numpy.lib.npyio numpy.lib.format pandas.io logging.config logging.handlers "
    "types.FunctionType IPython ";

/* Single names in modules that are otherwise fine. */
static const char dangerous_names[] =
    " torch.load torch.save torch.compile torch.import_ir_module torch.load_library "
    "torch.storage._load_from_bytes torch._utils._import_dotted_name numpy.load numpy.fromfile numpy.memmap "
    "numpy.save types.CodeType types.FunctionType types.ModuleType types.LambdaType types.MethodType "
    "functools.reduce functools.partialmethod ";

/* Types of Python itself that make plain data. */
static const char plain[] =
    " frozenset slice range xrange complex bytearray bytes object int long float bool str unicode list dict "
    "tuple ";

/* Names in small letters that make an object out of its parts; other such names are functions. */
static const char makers[] =
    " functools.partial torch.device torch.dtype collections.deque collections.defaultdict numpy.dtype "
    "numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct "
    "numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct _codecs.encode logging.getLogger "
    "datetime.datetime datetime.date datetime.time datetime.timedelta ";

static const char storages[] =
    " DoubleStorage FloatStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage CharStorage "
    "ByteStorage BoolStorage ";

/* Is the word among those of a list " one two "? */
static bool listed(const char *list, const char *word, size_t bytes) {
    for (const char *at = list + 1; *at; at = strchr(at, ' ') + 1)
        if (strncmp(at, word, bytes) == 0 && at[bytes] == ' ') return true;
    return false;
}

/* Is the dotted name, or one that it lies below, in the list? */
static bool listed_above(const char *list, const char *name) {
    size_t bytes = strlen(name);
    for (size_t i = 1; i <= bytes; i++)
        if ((name[i] == '.' || name[i] == 0) && listed(list, name, i)) return true;
    return false;
}

static bool is_letter(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* A Python identifier in ASCII; with dots between several when dotted. */
static bool is_identifier(const char *text, uint32_t bytes, bool dotted) {
    bool start = true;
    for (uint32_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '.' && dotted && !start) {
            start = true;
            continue;
        }
        if (!is_letter(c) && (start || c < '0' || c > '9')) return false;
        start = false;
    }
    return !start;
}

static distac_status refuse(const di_pickle *p, uint64_t at, const char *full) {
    char shown[80];
    return di_pt_fail(p->path, at, "the pickle asks for %s, which no model needs: refused, nothing was called",
                      di_pt_shown(full, strlen(full), shown));
}

static di_pickle_role builtin_role(const char *name, bool *known) {
    *known = true;
    if (strcmp(name, "set") == 0) return DI_ROLE_SET;
    if (strcmp(name, "getattr") == 0) return DI_ROLE_GETATTR;
    *known = listed(plain, name, strlen(name));
    /* Exceptions are plain records too. */
    size_t length = strlen(name);
    if (length > 5 && strcmp(name + length - 5, "Error") == 0) *known = true;
    return DI_ROLE_CLASS;
}

static di_pickle_role torch_role(const char *full, const char *name) {
    if (strcmp(full, "torch._utils._rebuild_tensor_v2") == 0) return DI_ROLE_TENSOR;
    if (strcmp(full, "torch._utils._rebuild_parameter") == 0) return DI_ROLE_PARAMETER;
    if (strcmp(full, "torch._utils._rebuild_parameter_with_state") == 0) return DI_ROLE_PARAMETER_STATE;
    if (strncmp(full, "torch.", 6) == 0 && full + 6 == name && listed(storages, name, strlen(name)))
        return DI_ROLE_STORAGE;
    return DI_ROLE_FUNCTION;
}

/* Does the name look like a class: a capital letter first, after underscores? */
static bool looks_like_class(const char *name) {
    while (*name == '_') name++;
    return *name >= 'A' && *name <= 'Z';
}

distac_status di_pickle_name(const di_pickle *p, di_pickle_value *value) {
    char full[2 * DI_PICKLE_MAX_NAME + 2], shown[80];
    const char *module = value->u.text, *text = module + value->a + 1;
    if (!is_identifier(module, value->a, true))
        return di_pt_fail(p->path, value->at, "\"%s\" is no module's name (GLOBAL)",
                          di_pt_shown(module, value->a, shown));
    if (!is_identifier(text, value->b, false))
        return di_pt_fail(p->path, value->at, "\"%s\" is no class's name (GLOBAL)",
                          di_pt_shown(text, value->b, shown));
    memcpy(full, module, value->a);
    full[value->a] = 0;
    bool builtin = strcmp(full, "builtins") == 0 || strcmp(full, "__builtin__") == 0;
    full[value->a] = '.';
    memcpy(full + value->a + 1, text, value->b);
    full[value->a + 1 + value->b] = 0;
    const char *name = full + value->a + 1;
    if (listed_above(dangerous, full) || listed(dangerous_names, full, strlen(full))) {
        if (strcmp(full, "torch.storage._load_from_bytes") == 0 && p->place == DI_PICKLE_PLAIN) {
            value->role = DI_ROLE_STORAGE_BYTES;
            return DISTAC_OK;
        }
        return refuse(p, value->at, full);
    }
    if (builtin) {
        bool known;
        value->role = (uint8_t)builtin_role(name, &known);
        return known ? DISTAC_OK : refuse(p, value->at, full);
    }
    di_pickle_role role = torch_role(full, name);
    if (strcmp(full, "collections.OrderedDict") == 0) role = DI_ROLE_ORDERED_DICT;
    if (strcmp(full, "copy_reg._reconstructor") == 0 || strcmp(full, "copyreg._reconstructor") == 0)
        role = DI_ROLE_RECONSTRUCT;
    if (role == DI_ROLE_FUNCTION && (looks_like_class(name) || listed(makers, full, strlen(full))))
        role = DI_ROLE_CLASS;
    value->role = (uint8_t)role;
    return DISTAC_OK;
}

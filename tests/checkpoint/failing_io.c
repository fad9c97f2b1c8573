/* Disks that fail, for tests: preloaded, counts the calls that change what is below a folder, and makes one of them go
 * wrong. Only Linux.
 *
 *   cc -shared -fPIC -O1 -o failing_io.so failing_io.c -ldl
 *   LD_PRELOAD=./failing_io.so python ...
 *
 *   failing_io_arm(folder, first, last, fault)   ctypes.CDLL(None) finds it; counting starts at 1
 *   failing_io_calls()                           calls seen since
 *   failing_io_hits()                            calls that went wrong since
 *   failing_io_log(path)                         writes one line a call: its name and paths
 *
 * fault: an errno, which calls number first..last return; FAULT_SHORT, half the bytes are written; FAULT_KILL, SIGKILL
 * in place of the call. Calls that only read are counted where they open a file, as hashing does. Removals are counted
 * but for FAULT_KILL left alone, so that a failed save can clear up.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAULT_SHORT -1
#define FAULT_KILL -2

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char prefix[PATH_MAX];
static long first, last, fault, calls, hits;
static int log_file = -1;

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void failing_io_arm(const char *folder, long from, long to, long kind) {
    pthread_mutex_lock(&lock);
    snprintf(prefix, sizeof prefix, "%s", folder);
    first = from, last = to, fault = kind, calls = hits = 0;
    pthread_mutex_unlock(&lock);
}

long failing_io_calls(void) { return calls; }
long failing_io_hits(void) { return hits; }

void failing_io_log(const char *path) {
    REAL(open);
    if (log_file >= 0) close(log_file);
    log_file = path ? real(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
}

/* The path that a descriptor stands for. */
static void path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* The whole path of a name relative to a folder's descriptor. */
static void path_at(int folder, const char *name, char *path) {
    char base[PATH_MAX] = "";
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        path_of(folder, base);
    }
    size_t length = strlen(base);
    snprintf(path, PATH_MAX, "%s", base);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
}

enum { PASS, FAIL, SHORT };

/* Counts a call; what is to become of it. */
static int judge(const char *call, const char *path, const char *target, int writes, int removes) {
    int verdict = PASS, kept = errno;
    pthread_mutex_lock(&lock);
    if (prefix[0] && !strncmp(path, prefix, strlen(prefix))) {
        calls++;
        if (log_file >= 0) {
            REAL(write);
            char line[2 * PATH_MAX + 64];
            int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", call, path, target);
            if (real(log_file, line, length) < 0) abort();
        }
        if (first <= calls && calls <= last) {
            if (fault == FAULT_KILL) raise(SIGKILL);
            if (fault == FAULT_SHORT ? writes : !removes) verdict = fault == FAULT_SHORT ? SHORT : FAIL;
        }
        if (verdict != PASS) hits++;
    }
    pthread_mutex_unlock(&lock);
    errno = verdict == FAIL ? (int)fault : kept;
    return verdict;
}

static int judge_descriptor(const char *call, int descriptor, int writes) {
    char path[PATH_MAX];
    path_of(descriptor, path);
    return judge(call, path, "", writes, 0);
}

#define OPEN(name)                                                                                 \
    int name(const char *file, int flags, ...) {                                                   \
        REAL(name);                                                                                \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                  \
        va_end(more);                                                                              \
        char path[PATH_MAX];                                                                       \
        path_at(AT_FDCWD, file, path);                                                             \
        const char *call = flags & O_CREAT ? "create" : flags & O_DIRECTORY ? "opendir" : "open";  \
        return judge(call, path, "", 0, flags & O_DIRECTORY) == PASS ? real(file, flags, mode) : -1; \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
    int name(int folder, const char *file, int flags, ...) {                                       \
        REAL(name);                                                                                \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                  \
        va_end(more);                                                                              \
        char path[PATH_MAX];                                                                       \
        path_at(folder, file, path);                                                               \
        const char *call = flags & O_CREAT ? "create" : "open";                                    \
        return judge(call, path, "", 0, 0) == PASS ? real(folder, file, flags, mode) : -1;         \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    int verdict = judge_descriptor("write", descriptor, size > 1);
    return verdict == FAIL ? -1 : real(descriptor, data, verdict == SHORT ? size / 2 : size);
}

#define PWRITE(name, offset_type)                                                                  \
    ssize_t name(int descriptor, const void *data, size_t size, offset_type offset) {              \
        REAL(name);                                                                                \
        int verdict = judge_descriptor("write", descriptor, size > 1);                             \
        return verdict == FAIL ? -1 : real(descriptor, data, verdict == SHORT ? size / 2 : size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Half of the first part that can be halved; the parts after it are left out. */
static int halve(const struct iovec *parts, int count, struct iovec *half) {
    for (int at = 0; at < count; at++) {
        half[at] = parts[at];
        if (parts[at].iov_len > 1) {
            half[at].iov_len /= 2;
            return at + 1;
        }
    }
    return count;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    struct iovec half[IOV_MAX];
    int verdict = judge_descriptor("write", descriptor, 1);
    if (verdict == SHORT) return real(descriptor, half, halve(parts, count, half));
    return verdict == FAIL ? -1 : real(descriptor, parts, count);
}

#define PWRITEV(name, offset_type)                                                                 \
    ssize_t name(int descriptor, const struct iovec *parts, int count, offset_type offset) {       \
        REAL(name);                                                                                \
        struct iovec half[IOV_MAX];                                                                \
        int verdict = judge_descriptor("write", descriptor, 1);                                    \
        if (verdict == SHORT) return real(descriptor, half, halve(parts, count, half), offset);    \
        return verdict == FAIL ? -1 : real(descriptor, parts, count, offset);                      \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

int fsync(int descriptor) {
    REAL(fsync);
    return judge_descriptor("fsync", descriptor, 0) == PASS ? real(descriptor) : -1;
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    return judge_descriptor("fsync", descriptor, 0) == PASS ? real(descriptor) : -1;
}

int ftruncate(int descriptor, off_t size) {
    REAL(ftruncate);
    return judge_descriptor("truncate", descriptor, 0) == PASS ? real(descriptor, size) : -1;
}

int ftruncate64(int descriptor, off64_t size) {
    REAL(ftruncate64);
    return judge_descriptor("truncate", descriptor, 0) == PASS ? real(descriptor, size) : -1;
}

static int judge_rename(int old_folder, const char *old, int new_folder, const char *new) {
    char path[PATH_MAX], target[PATH_MAX];
    path_at(old_folder, old, path);
    path_at(new_folder, new, target);
    return judge("rename", path, target, 0, 0);
}

int rename(const char *old, const char *new) {
    REAL(rename);
    return judge_rename(AT_FDCWD, old, AT_FDCWD, new) == PASS ? real(old, new) : -1;
}

int renameat(int old_folder, const char *old, int new_folder, const char *new) {
    REAL(renameat);
    return judge_rename(old_folder, old, new_folder, new) == PASS ? real(old_folder, old, new_folder, new) : -1;
}

int renameat2(int old_folder, const char *old, int new_folder, const char *new, unsigned flags) {
    REAL(renameat2);
    return judge_rename(old_folder, old, new_folder, new) == PASS ? real(old_folder, old, new_folder, new, flags) : -1;
}

int mkdirat(int folder, const char *name, mode_t mode) {
    REAL(mkdirat);
    char path[PATH_MAX];
    path_at(folder, name, path);
    return judge("mkdir", path, "", 0, 0) == PASS ? real(folder, name, mode) : -1;
}

int mkdir(const char *name, mode_t mode) {
    REAL(mkdir);
    char path[PATH_MAX];
    path_at(AT_FDCWD, name, path);
    return judge("mkdir", path, "", 0, 0) == PASS ? real(name, mode) : -1;
}

int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    char path[PATH_MAX];
    path_at(folder, name, path);
    return judge("remove", path, "", 0, 1) == PASS ? real(folder, name, flags) : -1;
}

int unlink(const char *name) {
    REAL(unlink);
    char path[PATH_MAX];
    path_at(AT_FDCWD, name, path);
    return judge("remove", path, "", 0, 1) == PASS ? real(name) : -1;
}

int rmdir(const char *name) {
    REAL(rmdir);
    char path[PATH_MAX];
    path_at(AT_FDCWD, name, path);
    return judge("remove", path, "", 0, 1) == PASS ? real(name) : -1;
}

/* Counts the calls that change files below one folder, and puts a fault at a chosen one; see faults.py.
 *
 * The clock that people read can be set there too, and the room on the disk be limited: to the byte, so that a write may
 * be done in part, and what is removed gives room.
 *
 * It stands before the C library (LD_PRELOAD), so it sees the writes of Python and of SQLite alike. What it counts, and
 * which call it spoils, lies in a file that all processes of a run map: a forked one counts on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, KILL, INTERRUPT, FAIL_ONCE, FAIL_ON, CLOCK };

static volatile struct control {
    long count;  /* calls so far */
    long at;     /* the one that is spoiled, from 1 */
    long kind;   /* how, as above */
    long error;  /* errno of a call that fails; seconds by which the clock is set */
    long room;   /* bytes by which files may still grow */
    long least;  /* the least that was left of it */
    long ahead;  /* seconds by which the clock that people read goes before */
    long leader; /* the process that a Ctrl-C reaches */
    char root[1000];
    char log[1000];  /* where the calls are kept with what they write, if anywhere */
} *control;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_below(const char *path) {
    size_t length = strlen((const char *)control->root);
    return length && strncmp(path, (const char *)control->root, length) == 0;
}

static const char *absolute(int directory, const char *path, char *room) {
    if (path[0] == '/') return path;
    char link[64];
    snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, room, 1000);
    if (length < 0) length = 0;
    snprintf(room + length, 1000, "/%s", path);
    return room;
}

/* One line a call: its name, the file, where, and what in hexadecimal digits. */
static void keep(const char *call, const char *path, const char *more, long offset, const void *data, size_t size) {
    if (!control->log[0]) return;
    size_t room = 4096 + 2 * size, used;
    char *line = malloc(room);
    used = snprintf(line, 4096, "%s\t%s\t%s\t%ld\t", call, path, more, offset);
    for (size_t each = 0; each < size; each++)
        used += snprintf(line + used, 3, "%02x", ((const unsigned char *)data)[each]);
    line[used++] = '\n';
    int fd = REAL(open)((const char *)control->log, O_WRONLY | O_APPEND | O_CLOEXEC);
    REAL(write)(fd, line, used);
    REAL(close)(fd);
    free(line);
}

/* Whether the call fails, with errno set. */
static int spoiled(void) {
    long number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (control->kind == KILL && number == control->at) kill(getpid(), SIGKILL);
    if (control->kind == INTERRUPT && number == control->at) kill(control->leader, SIGINT);
    if (control->kind == CLOCK && number == control->at) control->ahead = control->error;
    if ((control->kind == FAIL_ONCE && number == control->at) || (control->kind == FAIL_ON && number >= control->at)) {
        errno = control->error;
        return 1;
    }
    return 0;
}

static int is_ours(int fd, char *path) {
    if (!control) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 999);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Bytes that were taken (or given back, where less than none): how many of them there was room for. */
static long taken(long wanted) {
    long left = __atomic_sub_fetch(&control->room, wanted, __ATOMIC_SEQ_CST), granted = wanted;
    if (wanted > 0 && left < 0) {
        granted = wanted + left > 0 ? wanted + left : 0;
        left = __atomic_add_fetch(&control->room, wanted - granted, __ATOMIC_SEQ_CST);
    }
    if (left < control->least) control->least = left;
    return granted;
}

static long size_of(int fd) {
    struct stat seen;
    return fstat(fd, &seen) == 0 ? seen.st_size : 0;
}

/* Where a file is that no other name has, its bytes. */
static long size_at(const char *path) {
    struct stat seen;
    return lstat(path, &seen) == 0 && S_ISREG(seen.st_mode) && seen.st_nlink == 1 ? seen.st_size : 0;
}

/* How many of so many bytes can be written there; -1 with errno where none can. */
static ssize_t fitting(int fd, off_t at, size_t size) {
    long before = size_of(fd), grown = at + (long)size - (before > at ? before : at);
    if (grown <= 0) return size;
    long fits = (long)size - grown + taken(grown);
    if (fits > 0) return fits;
    errno = ENOSPC;
    return -1;
}

#define ON_FD(fd, call, offset, data, size, ...)            \
    char path[1000];                                        \
    if (is_ours(fd, path)) {                                \
        if (spoiled()) return -1;                           \
        keep(call, path, "", offset, data, size);           \
    }                                                       \
    return __VA_ARGS__;

#define WRITE(fd, offset, data, ...)                        \
    char path[1000];                                        \
    if (is_ours(fd, path)) {                                \
        if (spoiled()) return -1;                           \
        off_t place = offset;                               \
        ssize_t fits = fitting(fd, place, size);            \
        if (fits < 0) return -1;                            \
        size = fits;                                        \
        keep("write", path, "", place, data, size);         \
    }                                                       \
    return __VA_ARGS__;

#define TRUNCATE(fd, size, ...)                             \
    char path[1000];                                        \
    if (is_ours(fd, path)) {                                \
        if (spoiled()) return -1;                           \
        if (size < size_of(fd)) taken(size - size_of(fd));  \
        keep("truncate", path, "", size, "", 0);            \
    }                                                       \
    return __VA_ARGS__;

static long end_of(int fd) {
    struct stat seen;
    int is_appended = REAL(fcntl)(fd, F_GETFL) & O_APPEND;
    return is_appended && fstat(fd, &seen) == 0 ? seen.st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t size) { WRITE(fd, end_of(fd), data, REAL(write)(fd, data, size)) }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { WRITE(fd, at, data, REAL(pwrite)(fd, data, size, at)) }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { WRITE(fd, at, data, REAL(pwrite64)(fd, data, size, at)) }
int fsync(int fd) { ON_FD(fd, "sync", 0, "", 0, REAL(fsync)(fd)) }
int fdatasync(int fd) { ON_FD(fd, "sync", 0, "", 0, REAL(fdatasync)(fd)) }
int ftruncate(int fd, off_t size) { TRUNCATE(fd, size, REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { TRUNCATE(fd, size, REAL(ftruncate64)(fd, size)) }

#define ON_PATH(directory, name, call, more, gone, ...)                \
    char room[2100];                                                   \
    if (control && is_below(absolute(directory, name, room))) {        \
        if (spoiled()) return -1;                                      \
        keep(call, absolute(directory, name, room), more, 0, "", 0);   \
        taken(-size_at(gone));                                         \
    }                                                                  \
    return __VA_ARGS__;

int mkdir(const char *path, mode_t mode) { ON_PATH(AT_FDCWD, path, "mkdir", "", "", REAL(mkdir)(path, mode)) }
int unlink(const char *path) { ON_PATH(AT_FDCWD, path, "unlink", "", path, REAL(unlink)(path)) }
int rmdir(const char *path) { ON_PATH(AT_FDCWD, path, "rmdir", "", "", REAL(rmdir)(path)) }
int rename(const char *from, const char *to) {
    char whole[2100];
    ON_PATH(AT_FDCWD, from, "rename", absolute(AT_FDCWD, to, whole), to, REAL(rename)(from, to))
}

#define OPENED(directory, path, flags, ...)                                   \
    mode_t mode = 0;                                                          \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                  \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode = va_arg(rest, mode_t);                                          \
        va_end(rest);                                                         \
    }                                                                         \
    char room[2100];                                                          \
    const char *whole = absolute(directory, path, room);                      \
    int is_new = ((flags) & O_CREAT) && access(whole, F_OK) != 0;             \
    if (control && (is_new || ((flags) & O_TRUNC)) && is_below(whole)) {      \
        if (spoiled()) return -1;                                             \
        keep("create", whole, "", 0, "", 0);                                  \
        taken(-size_at(whole));                                               \
    }                                                                         \
    return __VA_ARGS__;

int open(const char *path, int flags, ...) { OPENED(AT_FDCWD, path, flags, REAL(open)(path, flags, mode)) }
int open64(const char *path, int flags, ...) { OPENED(AT_FDCWD, path, flags, REAL(open64)(path, flags, mode)) }
int openat(int directory, const char *path, int flags, ...) { OPENED(directory, path, flags, REAL(openat)(directory, path, flags, mode)) }
int openat64(int directory, const char *path, int flags, ...) { OPENED(directory, path, flags, REAL(openat64)(directory, path, flags, mode)) }

/* The clock that people read. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = REAL(clock_gettime)(clock, now);
    if (control && clock == CLOCK_REALTIME) now->tv_sec += control->ahead;
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int code = REAL(gettimeofday)(now, zone);
    if (control) now->tv_sec += control->ahead;
    return code;
}

time_t time(time_t *now) {
    time_t found = REAL(time)(NULL) + (control ? control->ahead : 0);
    if (now) *now = found;
    return found;
}

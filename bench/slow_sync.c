/* Preloaded: every sync of a file takes SYNC_LATE_MS longer, as on a disk that others keep busy. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int late(const char *name, int file) {
    const char *asked = getenv("SYNC_LATE_MS");
    const long ms = asked ? atol(asked) : 0;
    const struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&wait, NULL);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}

int fdatasync(int file) { return late("fdatasync", file); }
int fsync(int file) { return late("fsync", file); }

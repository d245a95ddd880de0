// Preloaded into covefs by tests/bad_disk.rs: calls of the C library on files below one directory fail now and
// then. What fails, how often and how is in a file that the test changes while covefs runs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Of 10,000 calls of each kind so many fail, with this error; then it counts what failed.
enum { WRITE, READ, SYNC, CUT, KINDS };
struct rules {
  uint32_t chance[KINDS];
  uint32_t error;
  _Atomic uint32_t failed[KINDS];
  char part[32]; // a part of the path, "/data/" or "/journal/"
};
static struct rules *rules;
static const char *directory;
static _Atomic uint64_t state = 0x9e3779b97f4a7c15;

__attribute__((constructor)) static void begin(void) {
  const char *file = getenv("BAD_DISK_RULES");
  directory = getenv("BAD_DISK_DIRECTORY");
  int fd = file ? open(file, O_RDWR) : -1;
  if (fd < 0 || !directory) return;
  void *mapped = mmap(NULL, sizeof(struct rules), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped != MAP_FAILED) rules = mapped;
}

static int fails(int kind, int fd) {
  if (!rules || rules->chance[kind] == 0) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, directory, strlen(directory)) != 0 || !strstr(path, rules->part)) return 0;
  uint64_t x = atomic_fetch_add(&state, 0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  if ((x ^ (x >> 31)) % 10000 >= rules->chance[kind]) return 0;
  atomic_fetch_add(&rules->failed[kind], 1);
  errno = (int)rules->error;
  return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  REAL(pwrite64);
  if (!fails(WRITE, fd)) return real(fd, bytes, count, offset);
  // A disk may take a part of it first.
  if (count > 4096) real(fd, bytes, count / 2, offset);
  return -1;
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  REAL(pread64);
  return fails(READ, fd) ? -1 : real(fd, bytes, count, offset);
}

int fdatasync(int fd) {
  REAL(fdatasync);
  return fails(SYNC, fd) ? -1 : real(fd);
}

int fsync(int fd) {
  REAL(fsync);
  return fails(SYNC, fd) ? -1 : real(fd);
}

int ftruncate64(int fd, off64_t length) {
  REAL(ftruncate64);
  return fails(CUT, fd) ? -1 : real(fd, length);
}

// A library to preload: makes the n-th call of one function fail on the threads of one name. The plan is a file, mapped and
// shared, so that a test can change it while the program runs: {which, countdown, errno, fired} as 32-bit integers.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NOTHING, SOCKETPAIR, PIPE2, MEMFD_CREATE, CLONE, SENDMSG, EPOLL_CTL, FCNTL, REALLOC, WRITE, MMAP };

static volatile int *plan;

__attribute__((constructor)) static void open_plan(void) {
  const char *path = getenv("FAULTS_PLAN");
  const int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd >= 0) close(fd);
  if (mapped != MAP_FAILED) plan = mapped;
}

static int fails(int which) {
  char name[16] = "";
  if (plan == NULL || plan[0] != which) return 0;
  prctl(PR_GET_NAME, name);
  if (strcmp(name, "skillscale") != 0 || --plan[1] != 0) return 0;
  plan[3] = 1;
  errno = plan[2];
  return 1;
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

int socketpair(int domain, int type, int protocol, int ends[2]) {
  if (fails(SOCKETPAIR)) return -1;
  return NEXT(int (*)(int, int, int, int *), "socketpair")(domain, type, protocol, ends);
}
int pipe2(int ends[2], int flags) {
  if (fails(PIPE2)) return -1;
  return NEXT(int (*)(int *, int), "pipe2")(ends, flags);
}
int memfd_create(const char *name, unsigned flags) {
  if (fails(MEMFD_CREATE)) return -1;
  return NEXT(int (*)(const char *, unsigned), "memfd_create")(name, flags);
}
int clone(int (*function)(void *), void *stack, int flags, void *argument, ...) {
  if (fails(CLONE)) return -1;
  va_list more;
  va_start(more, argument);
  void *pidfd = va_arg(more, void *);
  va_end(more);
  return NEXT(int (*)(int (*)(void *), void *, int, void *, ...), "clone")(function, stack, flags, argument, pidfd);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  if (fails(SENDMSG)) return -1;
  return NEXT(ssize_t (*)(int, const struct msghdr *, int), "sendmsg")(fd, message, flags);
}
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
  if (operation == EPOLL_CTL_ADD && fails(EPOLL_CTL)) return -1;
  return NEXT(int (*)(int, int, int, struct epoll_event *), "epoll_ctl")(epoll, operation, fd, event);
}
int fcntl64(int fd, int operation, ...) {
  if (operation == F_SETFL && fails(FCNTL)) return -1;
  va_list more;
  va_start(more, operation);
  const long argument = va_arg(more, long);
  va_end(more);
  return NEXT(int (*)(int, int, ...), "fcntl64")(fd, operation, argument);
}
int fcntl(int fd, int operation, ...) {
  if (operation == F_SETFL && fails(FCNTL)) return -1;
  va_list more;
  va_start(more, operation);
  const long argument = va_arg(more, long);
  va_end(more);
  return NEXT(int (*)(int, int, ...), "fcntl")(fd, operation, argument);
}
void *realloc(void *block, size_t size) {
  if (fails(REALLOC)) return NULL;
  return NEXT(void *(*)(void *, size_t), "realloc")(block, size);
}
ssize_t write(int fd, const void *bytes, size_t size) {
  if (size > 8 && fails(WRITE)) return -1;
  return NEXT(ssize_t (*)(int, const void *, size_t), "write")(fd, bytes, size);
}
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  if (fails(MMAP)) return MAP_FAILED;
  return NEXT(void *(*)(void *, size_t, int, int, int, off_t), "mmap64")(address, size, protection, flags, fd, offset);
}
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  if (fails(MMAP)) return MAP_FAILED;
  return NEXT(void *(*)(void *, size_t, int, int, int, off_t), "mmap")(address, size, protection, flags, fd, offset);
}

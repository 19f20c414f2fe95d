// Starts one program again and again with posix_spawn and waits for each: the floor that a supervisor is held against.
// Usage: executor-baseline COUNT FILE. Prints the median time of one run in microseconds.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int ascending(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char** argv) {
  const int count = argc > 2 ? atoi(argv[1]) : 0;
  if (count <= 0) return 2;
  double* times = malloc(sizeof(double) * (size_t)count);
  char* const arguments[] = {argv[2], NULL};
  char* const environment[] = {NULL};
  for (int i = 0; i < count; i++) {
    const double start = now();
    pid_t pid;
    int status;
    if (posix_spawn(&pid, argv[2], NULL, NULL, arguments, environment) != 0) return 1;
    if (waitpid(pid, &status, 0) != pid || status != 0) return 1;
    times[i] = now() - start;
  }
  qsort(times, (size_t)count, sizeof(double), ascending);
  printf("%.1f\n", times[count / 2]);
  return 0;
}

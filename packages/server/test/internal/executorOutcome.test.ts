import { assert, describe, it } from "@effect/vitest"
import * as Outcome from "../../src/internal/executorOutcome.ts"

const unlimited = {
  cpuSeconds: null,
  memoryBytes: null,
  fileBytes: null,
  openFiles: null,
  processes: null,
  treeBytes: null,
  treeTasks: 512,
  diskBytes: null
}

const reasonOf = (exitCode: number, told: string) => {
  const usage = { wallMs: 1, userMs: 1, systemMs: 1, maxRssBytes: 1 }
  return Outcome.reasonOf(exitCode, "", usage, unlimited, { file: "x", stderr: Buffer.from(told) })?._tag
}

describe("a program that says that it could start no more processes or threads", () => {
  for (
    const told of [
      "Traceback (most recent call last):\nRuntimeError: can't start new thread\n",
      "    pid = os.fork()\nBlockingIOError: [Errno 11] Resource temporarily unavailable\n",
      "Error: spawn sleep EAGAIN\n",
      "x.sh: fork: retry: Resource temporarily unavailable\n",
      "sh: 1: Cannot fork\n",
      "x.rb:1:in `initialize': can't create Thread: Resource temporarily unavailable (ThreadError)\n",
      "runtime: failed to create new OS thread (have 512 already; errno=11)\n",
      "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory\n",
      "pthread_create failed: Resource temporarily unavailable\n"
    ]
  ) {
    it(`failed for that: ${told.trim().split("\n").at(-1)}`, () => {
      assert.strictEqual(reasonOf(1, told), "ProcessLimit")
      assert.isUndefined(reasonOf(0, told))
    })
  }

  for (
    const told of [
      "BlockingIOError: [Errno 11] Resource temporarily unavailable\n",
      "/usr/bin/ld: a.o: undefined reference to `pthread_create'\n",
      "curl: (7) Resource temporarily unavailable\n",
      "read EAGAIN\n"
    ]
  ) it(`failed for something else: ${told.trim()}`, () => assert.isUndefined(reasonOf(1, told)))
})

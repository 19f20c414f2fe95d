import * as SkillClient from "@skillscale/client/SkillClient"
import * as Artifacts from "@skillscale/tools/Artifacts"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { freePath } from "../../src/internal/freePath.ts"
import * as Running from "../../src/internal/running.ts"

const file = (path: string) => ({ path, mime: "text/plain", data: Buffer.from(path), size: path.length, sha256: "" })

describe("a path that no file of a run has", () => {
  it("is the wanted one, or has a number", () => {
    const path = (...taken: ReadonlyArray<string>) => freePath("stdout.txt", taken.map(file))
    assert.strictEqual(path(), "stdout.txt")
    assert.strictEqual(path("out/stdout.txt", "stdout.txt.gz", "stdout"), "stdout.txt")
    assert.strictEqual(path("stdout.txt"), "stdout_2.txt")
    assert.strictEqual(path("stdout_2.txt", "STDOUT.TXT"), "stdout_3.txt")
    assert.strictEqual(path("stdout.txt/a"), "stdout_2.txt")
  })

  const outputOf = (stdout: Uint8Array, paths: ReadonlyArray<string>) => {
    const result = { exitCode: 0, signal: undefined, stdout, stderr: "", truncated: [], artifacts: paths.map(file) }
    const running = Effect.map(
      SkillClient.SkillClient,
      (client) =>
        Running.make({
          client,
          artifacts: Artifacts.make(),
          maxOutput: 1000,
          timeout: undefined,
          has: () => true,
          maxTimeoutMs: 1000
        })
    )
    return running.pipe(
      Effect.flatMap(({ run }) => run({ topic: "TOPIC_A", skill: "a" }, {})),
      Effect.map(({ output }) => output),
      Effect.provide(
        Layer.mock(SkillClient.SkillClient, {
          run: () => Effect.succeed({ ...result, usage: undefined, server: undefined })
        })
      )
    )
  }

  it.effect("is that of output that is too long, or no text", () =>
    Effect.gen(function*() {
      const long = yield* outputOf(Buffer.from("x".repeat(5000)), ["stdout.txt"])
      assert.deepStrictEqual(long.artifacts.map(({ path, size }) => [path, size]), [
        ["stdout.txt", 10],
        ["stdout_2.txt", 5000]
      ])
      assert.strictEqual(long.whole, long.artifacts[1])
      const binary = yield* outputOf(Buffer.from([255, 254]), ["stdout.bin", "stdout.txt"])
      assert.deepStrictEqual(binary.artifacts.map(({ path }) => path), ["stdout.bin", "stdout.txt", "stdout_2.bin"])
      assert.strictEqual(binary.whole, binary.artifacts[2])
    }))
})

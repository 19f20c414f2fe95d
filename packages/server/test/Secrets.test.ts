import { assert, describe, it } from "@effect/vitest"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Secrets from "../src/Secrets.ts"
import * as Support from "./fixtures/support.ts"

const values = (names: ReadonlyArray<string>) =>
  Effect.map(
    Secrets.Secrets,
    ({ get }) => names.map((name) => Option.getOrUndefined(Option.map(get(name), Redacted.value)))
  )

const read = Effect.fnUntraced(function*(content: string | undefined, names: ReadonlyArray<string>, mode = 0o600) {
  const file = Path.join(yield* Support.folder, "secrets")
  if (content !== undefined) Fs.writeFileSync(file, content, { mode })
  return yield* values(names).pipe(Effect.provide(Secrets.layerConfig.pipe(
    Layer.provide(NodeFileSystem.layer),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ SKILLSCALE_SECRETS_FILE: file })))
  )))
})

describe("Secrets", () => {
  it.effect("gives out what it has by exact name, and shows it to nobody", () =>
    Effect.gen(function*() {
      const { get } = yield* Secrets.Secrets
      assert.isTrue(Option.isNone(get("OTHER")) && Option.isNone(get("toString")) && Option.isNone(get("__proto__")))
      const secret = get("KEY")
      assert.notInclude(`${String(secret)} ${JSON.stringify(secret)}`, "hush")
      assert.deepStrictEqual(yield* values(["KEY"]), ["hush"])
    }).pipe(Effect.provide(Secrets.layer({ KEY: Redacted.make("hush") }))))

  it.live("reads a file: comments, export, quotes, = and # in values, CRLF, empty values", () =>
    Effect.gen(function*() {
      const content = "# comment\n\nA=one\r\nexport B=\"two words\"\nC='it''s'\nD=a=b#c\nE=\n  F = no\n"
      assert.match(String(yield* Effect.flip(read(content, []))), /line 8 is not NAME=VALUE/)
      const good = content.replace("  F = no\n", "")
      assert.deepStrictEqual(yield* read(good, ["A", "B", "C", "D", "E", "F"]), [
        "one",
        "two words",
        "it''s",
        "a=b#c",
        "",
        undefined
      ])
    }))

  it.live("a variable beats the file, and an error names the file and no value", () =>
    Effect.gen(function*() {
      process.env["SKILLSCALE_SECRET_TESTED"] = "from the environment"
      yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env["SKILLSCALE_SECRET_TESTED"]))
      assert.deepStrictEqual(yield* read("TESTED=from the file\nX=1", ["TESTED", "X"]), ["from the environment", "1"])
      const error = yield* Effect.flip(read("A=1\nhunter2", []))
      assert.strictEqual(error._tag, "SecretsError")
      assert.notInclude(error.message, "hunter2")
      assert.match((yield* Effect.flip(read(undefined, []))).message, /cannot read secrets from .*secrets/)
    }))

  it.live("warns when others can read the file", () =>
    Effect.gen(function*() {
      const open = Support.logs()
      yield* read("A=1", [], 0o644).pipe(Effect.provide(open.layer))
      assert.match(open.lines.join(), /can be read by others/)
      const closed = Support.logs()
      yield* read("A=1", []).pipe(Effect.provide(closed.layer))
      assert.deepStrictEqual(closed.lines, [])
    }))
})

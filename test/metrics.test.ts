import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Program from "./support/program.ts"
import * as Stack from "./support/stack.ts"

/** Reads the text format: `# HELP` and `# TYPE` by name, and samples by name with their labels. */
const parse = (text: string) => {
  const help = new Map<string, string>()
  const types = new Map<string, string>()
  const samples: Array<
    { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }
  > = []
  for (const line of text.split("\n").filter((line) => line !== "")) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (comment !== null) {
      const [, kind, name = "", rest = ""] = comment
      ;(kind === "HELP" ? help : types).set(name, rest)
      continue
    }
    const [, name, inner = "", value] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    assert.isString(name, `not a sample: ${line}`)
    const labels = Object.fromEntries(
      [...inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text])
    )
    samples.push({ name: name ?? "", labels, value: Number(value) })
  }
  return { help, types, samples }
}

const scrape = (url: string) =>
  Effect.promise(async () => {
    const response = await fetch(`${url}/metrics`)
    assert.strictEqual(response.status, 200)
    assert.include(response.headers.get("content-type") ?? "", "text/plain")
    return parse(await response.text())
  })

const total = (
  scraped: ReturnType<typeof parse>,
  name: string,
  labels: Readonly<Record<string, string>>
) =>
  scraped.samples
    .filter((sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
    )
    .reduce((sum, sample) => sum + sample.value, 0)

/** Of one that is there. */
const level = (scraped: ReturnType<typeof parse>, name: string, labels: Readonly<Record<string, string>>) => {
  assert.isTrue(scraped.samples.some((sample) => sample.name === name), `${name} is there`)
  return total(scraped, name, labels)
}

/** Every name ends with its unit, or counts what it names. */
const isNamed = (name: string, type: string | undefined) =>
  type === "counter"
    ? name.endsWith("_total")
    : type === "histogram"
    ? name.endsWith("_seconds")
    : /_(seconds|bytes|depth|processes|skills|dependencies|info|up|connections|subscriptions)$/.test(name)

const fail: Stack.Fixture = { category: "testing", name: "fail", files: { "scripts/run.sh": "exit 3\n" } }
const python: Stack.Fixture = {
  category: "testing",
  name: "say",
  files: { "scripts/run.py": "import json\nprint(1)\n" }
}
const node: Stack.Fixture = { ...python, files: { "scripts/run.mjs": `import "node:path"\nconsole.log(1)\n` } }
const topic = "TOPIC_TESTING"

describe("metrics", () => {
  it.live("tell what happened, after real traffic", () =>
    Effect.gen(function*() {
      const skills = yield* Stack.writeSkills([Stack.echo, fail])
      const proxy = yield* Program.startProxy()
      const env = proxy.addresses
      const args = ["server", "--topic", topic, "--skills-dir", skills, "--metrics-port", "0"]
      const server = yield* Program.start(args, "metrics are ready", { env })
      const url = / url=(\S+)/.exec(server.ready)?.[1] ?? ""

      const call = (skill: string) => Program.run(["invoke", skill, "--topic", topic, "--data", "hello"], { env })
      // Until the proxy knows the server, nobody serves the topic.
      let tries = 0
      yield* Effect.suspend(() => (tries++, call("echo"))).pipe(
        Effect.filterOrFail(({ code }) => code !== 4, () => "nobody serves the topic"),
        Effect.retry({ times: 100 }),
        Effect.map(({ code }) => assert.strictEqual(code, 0))
      )
      const codes = yield* Effect.forEach(["echo", "echo", "fail", "fail", "absent"], (skill) =>
        Effect.map(call(skill), ({ code }) => code))
      assert.deepStrictEqual(codes, [0, 0, 1, 1, 2])

      const scraped = yield* scrape(url)
      const requests = (skill: string, outcome: string) =>
        total(scraped, "skillscale_requests_total", { topic, skill, outcome })
      assert.strictEqual(requests("echo", "success"), 3)
      assert.strictEqual(requests("fail", "SkillFailed"), 2)
      assert.strictEqual(requests("(unknown)", "SkillNotFound"), 1)
      assert.strictEqual(total(scraped, "skillscale_requests_total", {}), 6)
      assert.strictEqual(total(scraped, "skillscale_execution_seconds_count", { skill: "echo" }), 3)
      assert.strictEqual(total(scraped, "skillscale_queue_seconds_count", { topic }), 5)
      assert.isAbove(total(scraped, "skillscale_execution_seconds_sum", { skill: "echo" }), 0)
      assert.strictEqual(level(scraped, "skillscale_queue_depth", { topic }), 0)
      assert.strictEqual(total(scraped, "skillscale_starts_total", { topic, start: "cold" }), 5)
      assert.strictEqual(total(scraped, "skillscale_starts_total", { topic, start: "warm" }), 0)
      assert.strictEqual(level(scraped, "skillscale_running_processes", { topic }), 0)
      assert.strictEqual(total(scraped, "skillscale_skills", { topic }), 2)
      assert.isAbove(total(scraped, "skillscale_received_bytes_total", { topic }), 6 * 50)
      assert.isAbove(total(scraped, "skillscale_sent_bytes_total", { topic }), 6 * 50)

      const forwarded = yield* scrape(proxy.http)
      assert.strictEqual(total(forwarded, "skillscale_proxy_messages_total", { topic, direction: "in" }), 5 + tries)
      assert.strictEqual(total(forwarded, "skillscale_proxy_messages_total", { topic, direction: "out" }), 6)

      for (const { help, samples, types } of [scraped, forwarded]) {
        for (
          const { name } of samples.filter((sample) =>
            sample.name.startsWith("skillscale_")
          )
        ) {
          const base = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, "")
          assert.isTrue(types.has(base), `${name} has a type`)
          assert.isAbove(help.get(base)?.length ?? 0, 10, `${name} has help`)
          assert.isTrue(isNamed(base, types.get(base)), `${base} (${types.get(base)}) has a unit`)
        }
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 60_000)

  const kinds = [
    { kind: "Python", skill: python, leastMiB: 1 },
    { kind: "Node", skill: node, leastMiB: 20 }
  ]
  for (const { kind, leastMiB, skill } of kinds) {
    it.live(`tell of warm starts of ${kind}, and of what waits for them`, () =>
      Effect.gen(function*() {
        const skills = yield* Stack.writeSkills([skill])
        const proxy = yield* Program.startProxy()
        const env = proxy.addresses
        const args = ["server", "--topic", topic, "--skills-dir", skills, "--metrics-port", "0"]
        const server = yield* Program.start(args, "metrics are ready", { env })
        const url = / url=(\S+)/.exec(server.ready)?.[1] ?? ""
        const scraped = yield* Program.run(["invoke", "say", "--topic", topic], { env }).pipe(
          Effect.andThen(scrape(url)),
          Effect.filterOrFail(
            (found) =>
              total(found, "skillscale_starts_total", { topic, start: "warm" }) > 0 &&
              total(found, "skillscale_waiting_processes", {}) > 0 &&
              total(found, "skillscale_waiting_memory_bytes", {}) >
                total(found, "skillscale_waiting_processes", {}) * leastMiB * 2 ** 20,
            () => "nothing is warm yet"
          ),
          Effect.retry({ times: 100 })
        )
        const bytes = total(scraped, "skillscale_waiting_memory_bytes", {})
        const processes = total(scraped, "skillscale_waiting_processes", {})
        assert.isTrue(bytes < processes * 100 * 2 ** 20, `${processes}: ${bytes}`)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 60_000)
  }
})

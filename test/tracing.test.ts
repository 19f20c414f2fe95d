import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { json } from "node:stream/consumers"
import * as Program from "./support/program.ts"
import * as Stack from "./support/stack.ts"

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
}

interface Received extends Span {
  readonly service: string
}

interface Export {
  readonly resourceSpans: ReadonlyArray<{
    readonly resource: {
      readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: { readonly stringValue?: string } }>
    }
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Span> }>
  }>
}

const isExport = (value: unknown): value is Export =>
  typeof value === "object" && value !== null && "resourceSpans" in value && Array.isArray(value.resourceSpans)

/** An OTLP/HTTP receiver of spans in this process. */
const receiver = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly spans: Array<Received>; readonly server: Http.Server }>((resume) => {
    const spans: Array<Received> = []
    const server = Http.createServer((request, response) => {
      void json(request).then((body) => {
        assert.strictEqual(request.url, "/v1/traces")
        if (!isExport(body)) return
        for (const { resource, scopeSpans } of body.resourceSpans) {
          const service = resource.attributes.find(({ key }) => key === "service.name")?.value.stringValue ?? ""
          for (const scope of scopeSpans) spans.push(...scope.spans.map((span) => ({ ...span, service })))
        }
        response.writeHead(200, { "content-type": "application/json" }).end("{}")
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, spans, server }))
    })
  }),
  ({ server }) =>
    Effect.callback<void>((resume) => {
      server.closeAllConnections()
      server.close(() => resume(Effect.void))
    })
)

describe("tracing", () => {
  it.live("one trace spans client, proxy, server and process", () =>
    Effect.gen(function*() {
      const { spans, url } = yield* receiver
      const skill = { category: "testing", name: "trace", files: { "scripts/run.sh": "echo \"$TRACEPARENT\"\n" } }
      const skills = yield* Stack.writeSkills([skill])
      const otel = { OTEL_EXPORTER_OTLP_ENDPOINT: url }
      const proxy = yield* Program.startProxy({ env: otel })
      const env = { ...proxy.addresses, ...otel }
      const server = yield* Program.start(["server", "--topic", "TOPIC_TESTING", "--skills-dir", skills], "serving", {
        env
      })
      const called = yield* Program.run(["invoke", "trace", "--topic", "TOPIC_TESTING"], { env })
      assert.strictEqual(called.code, 0, called.stderr)
      for (const piece of [server, proxy]) {
        yield* piece.signal("SIGTERM")
        assert.strictEqual(yield* piece.ended, 0)
      }

      const traceId = spans.find((span) => span.name === "SkillClient.invoke")?.traceId
      const named = (name: string): Received => {
        const span = spans.find((candidate) => candidate.name === name && candidate.traceId === traceId)
        if (span === undefined) throw new Error(`no span ${name} among ${spans.map((other) => other.name).join(", ")}`)
        return span
      }
      const client = named("SkillClient.invoke")
      const forward = named("Proxy.forward")
      const handle = named("SkillServer.handle")
      const run = named("SkillRunner.run")
      const execute = named("Executor.run")
      assert.strictEqual(client.service, "skillscale-cli")
      assert.strictEqual(forward.service, "skillscale-proxy")
      assert.strictEqual(handle.service, "skillscale-server")
      assert.strictEqual(handle.parentSpanId, client.spanId)
      assert.strictEqual(forward.parentSpanId, client.spanId)
      assert.strictEqual(run.parentSpanId, handle.spanId)
      assert.strictEqual(execute.parentSpanId, run.spanId)
      assert.strictEqual(called.stdout.trim(), `00-${client.traceId}-${run.spanId}-01`)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)), 60_000)
})

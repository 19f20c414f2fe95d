import { assert, describe, it } from "@effect/vitest"
import { InMemoryServerEventBus } from "@modelcontextprotocol/server"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as McpHttp from "../src/McpHttp.ts"
import * as McpServer from "../src/McpServer.ts"
import { addSkill, eventually, inWorld } from "../../../test/support/skillWorld.ts"
import { call, errorOf, overHttp, serve } from "./support/mcp.ts"
import { ask, bytes, initialize, modern, send } from "./support/rawHttp.ts"

const token = "0123456789abcdef-secret"

const session = async (url: string) => {
  const { headers, status } = await ask(url, initialize)
  assert.strictEqual(status, 200)
  return { "mcp-session-id": String(headers["mcp-session-id"]), "mcp-protocol-version": "2025-11-25" }
}

const endless = { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "endless", arguments: {} } }

const nobody = Layer.succeed(McpServer.McpServer, {
  request: () => {
    throw new Error("nobody asks")
  },
  connection: () => {
    throw new Error("nobody asks")
  },
  events: new InMemoryServerEventBus(),
  cancel: Effect.void
})

describe("MCP over HTTP", () => {
  inWorld("answers nobody but clients of this machine, and pages from it", async (world) => {
    await using serving = await serve(world)
    const list = modern("tools/list")
    const status = async (headers: Record<string, string>) =>
      (await ask(serving.url, { ...list, headers: { ...list.headers, ...headers } })).status
    assert.strictEqual(await status({}), 200)
    assert.strictEqual(await status({ host: "localhost:1", origin: "http://localhost:3000" }), 200)
    assert.strictEqual(await status({ host: "evil.example" }), 421)
    assert.strictEqual(await status({ host: "127.0.0.1.evil.example" }), 421)
    for (const host of ["evil.example@127.0.0.1", "127.0.0.1/evil.example", "127.0.0.1:1@127.0.0.1", "::1"]) {
      assert.strictEqual(await status({ host }), 421, host)
    }
    assert.strictEqual(await status({ origin: "http://evil.example" }), 403)
    assert.strictEqual(await status({ origin: "null" }), 403)
    assert.strictEqual(await status({ origin: "http://localhost.evil.example" }), 403)
  })

  inWorld("takes more names where they are allowed", async (world) => {
    await using serving = await serve(world, { http: { names: ["Skills.Example", "2001:DB8:0::1", "bücher.example"] } })
    const list = modern("tools/list")
    const status = async (host: string, origin: string) =>
      (await ask(serving.url, { ...list, headers: { ...list.headers, host, origin } })).status
    assert.strictEqual(await status("skills.example", "https://skills.example"), 200)
    assert.strictEqual(await status("SKILLS.example:8443", "https://skills.example:8443"), 200)
    assert.strictEqual(await status("[2001:db8::1]:80", "http://[2001:db8::1]"), 200)
    assert.strictEqual(await status("xn--bcher-kva.example", "https://xn--bcher-kva.example"), 200)
    assert.strictEqual(await status("example", "https://skills.example"), 421)
  })

  inWorld("asks for the token, on every path to a skill", async (world) => {
    await using serving = await serve(world, { http: { host: "0.0.0.0", token: Redacted.make(token) } })
    for (const request of [modern("tools/list"), initialize, { method: "GET" }, { method: "DELETE" }]) {
      const none = await ask(serving.url, request)
      assert.strictEqual(none.status, 401)
      assert.strictEqual(none.headers["www-authenticate"], "Bearer")
      for (const authorization of [`Bearer ${token}x`, `Bearer ${token.slice(1)}`, `Basic ${token}`, "Bearer"]) {
        const wrong = await ask(serving.url, { ...request, headers: { ...request.headers, authorization } })
        assert.strictEqual(wrong.status, 401, authorization)
      }
    }
    assert.strictEqual((await ask(serving.url, { method: "GET", path: "/healthz" })).body, "ok\n")
    for (const era of ["2026-07-28", "2025-11-25"] as const) {
      await using connected = await overHttp(era, serving.url, { authorization: `Bearer ${token}` })
      assert.strictEqual((await call(connected, "shout", { input: "in" })).text.trim(), "IN")
      await errorOf(overHttp(era, serving.url))
    }
  })

  it.effect("takes no name that would never be the one of a request", () =>
    Effect.gen(function*() {
      const wrong = [
        "https://skills.example",
        "skills.example:8080",
        "skills.example/mcp",
        "*.example",
        "a b",
        "",
        "[::1"
      ]
      for (const name of wrong) {
        const failed = yield* Effect.flip(
          Layer.build(Layer.provide(McpHttp.layer({ port: 0, names: ["fine.example", name] }), nobody))
        )
        assert.strictEqual(failed._tag, "NameInvalid", name)
        assert.include(failed.message, JSON.stringify(name))
      }
    }).pipe(Effect.scoped))

  it.effect("does not listen beyond this machine without a token", () =>
    Effect.gen(function*() {
      for (const host of ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.0.0.1.evil.example"]) {
        const failed = yield* Effect.flip(Layer.build(Layer.provide(McpHttp.layer({ port: 0, host }), nobody)))
        assert.strictEqual(failed._tag, "TokenMissing")
        assert.include(failed.message, host)
      }
    }).pipe(Effect.scoped))

  inWorld("refuses what is no request", async (world) => {
    await using serving = await serve(world, { http: { maxBody: 10_000 } })
    const status = async (request: Parameters<typeof ask>[1]) => (await ask(serving.url, request)).status
    assert.strictEqual(await status({ body: "{" }), 400)
    assert.strictEqual(await status({ body: "[]" }), 400)
    assert.strictEqual(await status({ body: "null" }), 400)
    assert.strictEqual(await status({ headers: { "content-type": "text/plain" }, body: "{}" }), 415)
    assert.strictEqual(await status({ method: "PUT", body: "{}" }), 405)
    assert.strictEqual(await status({ path: "/other" }), 404)
    assert.strictEqual(await status({ method: "GET" }), 405)
    const headers = { "mcp-session-id": "nobody's", accept: "text/event-stream" }
    assert.strictEqual(await status({ method: "GET", headers }), 404)
    assert.strictEqual(await status({ ...initialize, headers: { "mcp-session-id": "nobody's" } }), 404)
    assert.strictEqual(
      await status(modern("tools/call", { name: "shout", arguments: { input: "x".repeat(20_000) } })),
      413
    )
    assert.include(
      await bytes(serving.url, `POST /mcp HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(20_000)}\r\n\r\n`),
      " 431 "
    )
    assert.include(await bytes(serving.url, "POST /mcp HTTP/1.1\r\n\r\n"), " 400 ")
    await using connected = await overHttp("2026-07-28", serving.url)
    assert.strictEqual((await call(connected, "shout", { input: "on" })).text.trim(), "ON")
  })

  inWorld("takes only so many requests at a time", async (world) => {
    await using serving = await serve(world, { http: { maxRequests: 2 } })
    const running = [1, 2].map(() => send(serving.url, modern("tools/call", { name: "endless", arguments: {} })))
    const ended = running.map(({ answer }) => answer.catch(() => undefined))
    await eventually("both run", () => world.endless() === 2)
    const refused = await ask(serving.url, modern("tools/list"))
    assert.deepStrictEqual([refused.status, refused.headers["retry-after"]], [503, "1"])
    running.forEach(({ abandon }) => abandon())
    await Promise.all(ended)
    await eventually("both are gone", () => world.endless() === 0)
    assert.strictEqual((await ask(serving.url, modern("tools/list"))).status, 200)
  })

  inWorld("ends a call whose request was given up, in every kind of request", async (world) => {
    await using serving = await serve(world)
    const headers = await session(serving.url)
    const requests = [modern("tools/call", { name: "endless", arguments: {} }), { body: endless }, {
      headers,
      body: endless
    }]
    for (const request of requests) {
      const { abandon, answer } = send(serving.url, request)
      const ended = answer.catch(() => undefined)
      await eventually("it runs", () => world.endless() === 1)
      abandon()
      await ended
      await eventually("it is gone", () => world.endless() === 0)
    }
  })

  inWorld("ends what a session runs with the session", async (world) => {
    await using serving = await serve(world)
    const headers = await session(serving.url)
    const ended = send(serving.url, { headers, body: endless }).answer.catch(() => undefined)
    await eventually("it runs", () => world.endless() === 1)
    assert.strictEqual((await ask(serving.url, { method: "DELETE", headers })).status, 200)
    await ended
    await eventually("it is gone", () => world.endless() === 0)
    assert.strictEqual((await ask(serving.url, { headers, body: endless })).status, 404)
  })

  inWorld("sends the head of a stream before there is an event", async (world) => {
    await using serving = await serve(world)
    const headers = await session(serving.url)
    const since = performance.now()
    const streams = [send(serving.url, { method: "GET", headers }), send(serving.url, { headers, body: endless })]
    const ended = streams.map(({ answer }) => answer.catch(() => undefined))
    await Promise.all(streams.map(({ headed }) => headed))
    assert.isBelow(performance.now() - since, 10_000, "a stream is kept alive by an event after 15 s")
    streams.forEach(({ abandon }) => abandon())
    await Promise.all(ended)
  })

  inWorld("waits 10 seconds for the head of a request, and not much longer", async (world) => {
    await using serving = await serve(world)
    const since = performance.now()
    assert.include(await bytes(serving.url, "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n"), " 408 ")
    const seconds = (performance.now() - since) / 1000
    assert.isAtLeast(seconds, 9.9)
    assert.isBelow(seconds, 13)
  })

  inWorld("makes room for a new session, and ends those that nobody uses", async (world) => {
    await using serving = await serve(world, { http: { maxSessions: 2, sessionIdle: "1 second" } })
    const ping = { jsonrpc: "2.0", id: 3, method: "ping" }
    const alive = async (headers: Record<string, string>) =>
      (await ask(serving.url, { headers, body: ping })).status === 200
    const first = await session(serving.url)
    const second = await session(serving.url)
    assert.isTrue(await alive(first))
    const third = await session(serving.url)
    assert.deepStrictEqual([await alive(first), await alive(second), await alive(third)], [true, false, true])
    const stream = send(serving.url, { method: "GET", headers: first })
    const streamed = stream.answer.catch(() => undefined)
    const running = send(serving.url, { headers: third, body: endless })
    const ended = running.answer.catch(() => undefined)
    await eventually("it runs", () => world.endless() === 1)
    assert.strictEqual((await ask(serving.url, initialize)).status, 503)
    stream.abandon()
    await streamed
    // To ask is to use it: it ends when it was unused for a second, which is looked at once a second.
    while (await alive(first)) await new Promise((resolve) => setTimeout(resolve, 3000))
    assert.strictEqual(world.endless(), 1)
    running.abandon()
    await ended
  })

  inWorld("lets a call finish when it ends, and takes no other", async (world) => {
    const serving = await serve(world, { http: { grace: "30 seconds" } })
    const go = Path.join(world.directory, "go")
    addSkill(
      world.directory,
      "patient",
      `echo $$ >> ${world.directory}/pids; until [ -e ${go} ]; do sleep 0.02; done; echo last\n`
    )
    const isListed = async () => (await ask(serving.url, modern("tools/list"))).body.includes("patient")
    await eventually("it is listed", isListed)
    const finished = ask(serving.url, modern("tools/call", { name: "patient", arguments: {} }))
    const listening = send(serving.url, modern("subscriptions/listen", { notifications: { toolsListChanged: true } }))
    await listening.begun
    await eventually("it runs", () => world.endless() === 1)
    const closed = serving.close()
    const status = async (request: Parameters<typeof ask>[1]) => (await ask(serving.url, request)).status
    const healthz = { method: "GET", path: "/healthz" }
    await eventually("it drains", async () => await status(healthz) !== 200)
    assert.deepStrictEqual([await status(healthz), await status(modern("tools/list"))], [503, 503])
    Fs.writeFileSync(go, "")
    assert.include((await finished).body, "last")
    assert.include((await listening.answer).body, "acknowledged")
    await closed
    await errorOf(ask(serving.url, healthz))
  })

  inWorld("cancels what does not finish in time, and tells so in every kind of request", async (world) => {
    const serving = await serve(world, { http: { grace: "50 millis" } })
    const headers = await session(serving.url)
    const running = [modern("tools/call", { name: "endless", arguments: {} }), { body: endless }, {
      headers,
      body: endless
    }].map((request) => ask(serving.url, request))
    await eventually("they run", () => world.endless() === 3)
    await serving.close()
    for (const { body } of await Promise.all(running)) {
      assert.match(body, /"error":\{"code":-32000,"message":"the server is ending; the request was cancelled"/)
      assert.match(body, /"id":[12]\b/)
    }
    await eventually("they are gone", () => world.endless() === 0)
  })
})

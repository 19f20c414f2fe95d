/** Tells clients what changes: that lists differ, and that a file which they subscribed to may. */
import * as Sdk from "@modelcontextprotocol/server"
import type * as SkillCatalog from "@skillscale/tools/SkillCatalog"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Served from "./served.ts"
import type * as SkillEntries from "./skillEntries.ts"
import * as SkillUris from "./skillUris.ts"

/** Resources that one connection may subscribe to. */
const maxSubscriptions = 1000

type Skills = ReadonlyArray<SkillCatalog.Skill>

const shownOf = ({ description, entry, hints, input, name, output, scripts, topic }: SkillCatalog.Skill): string =>
  JSON.stringify([topic, name, description, entry, scripts, hints, input, output])

/** The skills whose files are not what they were, as they were and as they are. */
const changedOf = (before: Skills, after: Skills) => {
  const known = new Map(before.map((skill) => [Served.keyOf(skill), skill]))
  return after.flatMap((now) => {
    const old = known.get(Served.keyOf(now))
    return old === undefined || old.digest === now.digest ? [] : [{ old, now }]
  })
}

export const make = Effect.fnUntraced(function*({ catalog, entries }: Pick<Served.Served, "catalog" | "entries">) {
  const events = new Sdk.InMemoryServerEventBus()
  const connections = new Map<Sdk.McpServer, Set<string>>()

  const tell = (event: Sdk.ServerEvent): void => {
    events.publish(event)
    for (const [mcp, subscriptions] of connections) {
      const isModern = (mcp.server.getNegotiatedProtocolVersion() ?? "") >= "2026"
      // Nothing is told before the handshake.
      if (!mcp.isConnected() || mcp.server.getNegotiatedProtocolVersion() === undefined) continue
      if (event.kind === "resource_updated" && !isModern && !subscriptions.has(event.uri)) continue
      void send(mcp.server, event).catch(() => undefined)
    }
  }

  const follow = (mcp: Sdk.McpServer): void => {
    const subscriptions = new Set<string>()
    connections.set(mcp, subscriptions)
    const closed = mcp.server.onclose
    mcp.server.onclose = () => {
      connections.delete(mcp)
      closed?.()
    }
    mcp.server.setRequestHandler("resources/subscribe", ({ params: { uri } }) => {
      if (subscriptions.size >= maxSubscriptions && !subscriptions.has(uri)) {
        throw Served.invalid(`there are ${maxSubscriptions} subscriptions already`)
      }
      subscriptions.add(uri)
      return {}
    })
    mcp.server.setRequestHandler("resources/unsubscribe", ({ params: { uri } }) => {
      subscriptions.delete(uri)
      return {}
    })
  }

  let current: { readonly skills: Skills; readonly shown: string } | undefined
  const take = Effect.fnUntraced(function*(skills: Skills) {
    const before = current
    const shown = skills.map(shownOf).join("\n")
    current = { skills, shown }
    if (before === undefined) return
    if (before.shown !== shown) {
      tell({ kind: "tools_list_changed" })
      tell({ kind: "prompts_list_changed" })
      tell({ kind: "resources_list_changed" })
    }
    const uris = yield* Effect.forEach(changedOf(before.skills, skills), (changed) => filesOf(entries, changed))
    new Set(uris.flat()).forEach((uri) => tell({ kind: "resource_updated", uri }))
  })
  yield* Stream.runForEach(catalog.changes, take).pipe(Effect.forkScoped({ startImmediately: true }))

  return { events, follow }
})

/** Of the version before, what was asked for in time; nobody can tell any more. */
const filesOf = (
  entries: SkillEntries.SkillEntries,
  { now, old }: { readonly now: SkillCatalog.Skill; readonly old: SkillCatalog.Skill }
): Effect.Effect<ReadonlyArray<string>> =>
  entries.describe(now).pipe(
    Effect.map(({ files }) => Array.from(files.keys())),
    Effect.catch(() => Effect.succeed([SkillUris.document])),
    Effect.map((paths) =>
      [...paths, ...entries.known(old)?.files.keys() ?? []].map((path) => SkillUris.ofFile(now, path))
    )
  )

const send = (server: Sdk.Server, event: Sdk.ServerEvent): Promise<void> => {
  switch (event.kind) {
    case "tools_list_changed":
      return server.sendToolListChanged()
    case "prompts_list_changed":
      return server.sendPromptListChanged()
    case "resources_list_changed":
      return server.sendResourceListChanged()
    case "resource_updated":
      return server.sendResourceUpdated({ uri: event.uri })
  }
}

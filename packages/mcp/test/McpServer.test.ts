import { assert, describe } from "@effect/vitest"
import { SkillsClient } from "@modelcontextprotocol/client/ext/skills"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { addSkill, eventually, inWorld, type World } from "../../../test/support/skillWorld.ts"
import * as Stack from "../../../test/support/stack.ts"
import { call, errorOf, overHttp, overStdio, serve } from "./support/mcp.ts"
import { ask, modern } from "./support/rawHttp.ts"

const eras = ["2026-07-28", "2025-11-25"] as const

/** Another server on the same proxy. */
const anotherServer = async ({ addresses }: World, category: string, skills: ReadonlyArray<string>) => {
  const fixtures = skills.map((name): Stack.Fixture => ({
    category,
    name,
    files: { "scripts/run.sh": `echo I am of ${category}\n` }
  }))
  const topic = `TOPIC_${category.toUpperCase().replaceAll("-", "_")}`
  const runtime = ManagedRuntime.make(
    Stack.serverOn(ZmqBus.layer(addresses), fixtures, { topic }, { sandbox: "off" })
  )
  await runtime.context()
  return { topic, [Symbol.asyncDispose]: () => runtime.dispose() }
}

/** The pages of a list, by asking for one after the other. */
const pages = async (
  list: (
    cursor: string | undefined
  ) => Promise<{ readonly names: ReadonlyArray<string>; readonly nextCursor?: string | undefined }>
): Promise<ReadonlyArray<ReadonlyArray<string>>> => {
  const all: Array<ReadonlyArray<string>> = []
  let cursor: string | undefined
  do {
    const page = await list(cursor)
    all.push(page.names)
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return all
}

const nameOf = ({ name }: { readonly name: string }): string => name

describe("an MCP server of skills", () => {
  inWorld("tells skills of one name on two topics apart", async (world) => {
    await using another = await anotherServer(world, "other-things", ["shout"])
    assert.strictEqual(another.topic, "TOPIC_OTHER_THINGS")
    await using serving = await serve(world)
    await using connected = await overHttp("2026-07-28", serving.url)
    const skills = new SkillsClient(connected.client)
    let uris: ReadonlyArray<string> = []
    while (uris.length < 2) {
      uris = (await skills.list()).skills.map(({ uri }) => uri).filter((uri) => uri.includes("/shout/"))
    }
    assert.deepStrictEqual(uris, ["skill://other-things/shout/SKILL.md", "skill://testing/shout/SKILL.md"])
    const { tools } = await connected.client.listTools(undefined, { cacheMode: "refresh" })
    const other = tools.find((tool) => tool._meta?.["skillscale/skill"] === uris[0])
    assert.include((await call(connected, other?.name ?? "")).text, "I am of other-things")
    const { skill } = await skills.get(uris[0] ?? "")
    assert.include(Buffer.from((await skills.read(skill, "scripts/run.sh")).bytes).toString(), "other-things")
  })

  inWorld("leaves what hosts refuse out of the extension, and runs it all the same", async (world) => {
    addSkill(world.directory, "Odd_Name", "echo odd\n")
    addSkill(world.directory, "many", "echo many\n")
    const files = Path.join(world.directory, "testing/many/data")
    Fs.mkdirSync(files)
    for (let count = 0; count < 512; count++) Fs.writeFileSync(Path.join(files, String(count)), "")
    await using serving = await serve(world)
    await using connected = await overHttp("2026-07-28", serving.url)
    const isThere = async (name: string) =>
      (await connected.client.listTools(undefined, { cacheMode: "refresh" })).tools.some((tool) => tool.name === name)
    while (!(await isThere("Odd_Name") && await isThere("many"))) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const skills = new SkillsClient(connected.client)
    const uris = (await skills.list()).skills.map(({ uri }) => uri)
    assert.include(uris, "skill://testing/shout/SKILL.md")
    assert.notInclude(uris.join("\n"), "Odd_Name")
    assert.notInclude(uris.join("\n"), "/many/")
    assert.strictEqual((await errorOf(skills.get("skill://testing/many/SKILL.md"))).code, -32602)
    assert.strictEqual((await errorOf(skills.readDirectory("skill://testing/many"))).code, -32602)
    assert.include((await call(connected, "Odd_Name")).text, "odd")
    const { contents } = await connected.client.readResource({ uri: "skill://testing/many/SKILL.md" })
    assert.include(JSON.stringify(contents), "Tests as many.")
  })

  inWorld("gives long lists in pages", async (world) => {
    await using serving = await serve(world, { server: { pageSize: 4 } })
    await using connected = await overHttp("2026-07-28", serving.url)
    const whole = (await connected.client.listTools()).tools.map(nameOf)
    const paged = await pages(async (cursor) => {
      const { body } = await ask(serving.url, modern("tools/list", cursor === undefined ? {} : { cursor }))
      const { result } = JSON.parse(body)
      return { names: result.tools.map(nameOf), nextCursor: result.nextCursor }
    })
    assert.deepStrictEqual(paged.flat(), whole)
    assert.isTrue(paged.slice(0, -1).every((page) => page.length === 4))
    const prompts = (await connected.client.listPrompts()).prompts.map(nameOf)
    assert.includeMembers(prompts, ["use-skill", "shout", "talking"])
    const resources = (await connected.client.listResources()).resources.map(nameOf)
    assert.deepStrictEqual(resources, ["adding", "drawing", "endless", "failing", "long", "shout", "talking"])
  })

  for (const era of eras) {
    for (const transport of ["HTTP", "standard input and output"] as const) {
      inWorld(`tells that a resource changed to who subscribed: ${era} over ${transport}`, async (world) => {
        await using serving = await serve(world)
        await using connected = transport === "HTTP" ? await overHttp(era, serving.url) : await overStdio(era, world)
        const uri = "skill://testing/shout/scripts/run.sh"
        const updated: Array<string> = []
        connected.client.setNotificationHandler(
          "notifications/resources/updated",
          ({ params }) => void updated.push(params.uri)
        )
        await connected.client.readResource({ uri })
        if (era === "2026-07-28") await connected.client.listen({ resourceSubscriptions: [uri] })
        else await connected.client.subscribeResource({ uri })
        Fs.writeFileSync(Path.join(world.directory, "testing/shout/scripts/run.sh"), "tr A-Z a-z\n")
        await eventually("it was told", () => updated.length > 0)
        assert.deepStrictEqual(Array.from(new Set(updated)), [uri])
        const { contents } = await connected.client.readResource({ uri }, { cacheMode: "refresh" })
        assert.include(JSON.stringify(contents), "tr A-Z a-z")
      })
    }
  }

  inWorld("tells standard error as log messages, to who asks for them", async (world) => {
    await using serving = await serve(world)
    await using connected = await overHttp("2025-11-25", serving.url)
    const heard: Array<unknown> = []
    connected.client.setNotificationHandler("notifications/message", ({ params }) => void heard.push(params))
    addSkill(world.directory, "warning", "echo careful >&2; echo done\n")
    await eventually("it is there", () => connected.changed.includes("tools"))
    await call(connected, "warning")
    assert.deepStrictEqual(heard, [])
    await connected.client.setLoggingLevel("warning")
    await call(connected, "warning")
    assert.deepStrictEqual(heard, [])
    await connected.client.setLoggingLevel("info")
    await call(connected, "warning")
    assert.deepStrictEqual(heard, [{ level: "info", logger: "warning", data: "careful" }])
  })

  inWorld("says only so much of a run that says very much", async (world) => {
    addSkill(
      world.directory,
      "chatty",
      "i=0; while [ $i -lt 3000 ]; do echo \"::progress:: $i\" >&2; echo $i; i=$((i + 1)); done\n"
    )
    await using serving = await serve(world)
    await using connected = await overHttp("2026-07-28", serving.url)
    const isThere = async () => (await call(connected, "list_skills")).text.includes("chatty")
    while (!await isThere()) await new Promise((resolve) => setTimeout(resolve, 20))
    const messages: Array<string> = []
    const { text } = await call(connected, "chatty", {}, {
      onprogress: ({ message = "" }) => void messages.push(message)
    })
    assert.include(text, "2999")
    assert.isAtLeast(messages.length, 200)
    assert.isAtMost(messages.length, 400)
    assert.isAtMost(Math.max(...messages.map(({ length }) => length)), 1000)
  })
})

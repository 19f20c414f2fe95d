/** Skills in Google's Agent Development Kit: its own runner, with a server that speaks as Gemini's API does. */
import { assert, describe } from "@effect/vitest"
import {
  type BaseAgent,
  type Context,
  type Event,
  Gemini,
  InMemoryArtifactService,
  InMemorySessionService,
  LlmAgent,
  Runner,
  SkillToolset
} from "@google/adk"
import { fromToolbox, type Skills } from "@skillscale/adapters/GoogleAdk"
import type { Toolbox } from "@skillscale/tools/PromiseTools"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { addSkill, type Conversation, eventually, inWorld, suite } from "./frameworkSuite.ts"
import { runExample } from "./support/examples.ts"
import { declarations, gemini, responses } from "./support/gemini.ts"
import { type Asks, items, type Provider, serve } from "./support/providers.ts"

class ScriptedGemini extends Gemini {
  readonly baseUrl: string

  constructor(baseUrl: string) {
    super({ model: "scripted", apiKey: "none" })
    this.baseUrl = baseUrl
  }

  protected override getHttpOptions() {
    return { ...super.getHttpOptions(), baseUrl: this.baseUrl }
  }
}

interface Talk extends Conversation {
  readonly events: ReadonlyArray<Event>
  /** What the session has of them. */
  readonly stored: ReadonlyArray<Event>
  readonly requests: Provider["requests"]
}

const wire = gemini("scripted")

const appName = "tests"
const userId = "user"
const sessionId = "session"

const talk = async (
  make: (model: Gemini) => BaseAgent,
  asks: Asks,
  signal?: AbortSignal
): Promise<Talk> => {
  await using provider = await serve(wire, asks)
  const artifactService = new InMemoryArtifactService()
  const sessionService = new InMemorySessionService()
  await sessionService.createSession({ appName, userId, sessionId })
  const runner = new Runner({ appName, agent: make(new ScriptedGemini(provider.url)), artifactService, sessionService })
  const events: Array<Event> = []
  const newMessage = { role: "user", parts: [{ text: "go on" }] }
  for await (
    const event of runner.runAsync({
      userId,
      sessionId,
      newMessage,
      ...signal === undefined ? {} : { abortSignal: signal }
    })
  ) events.push(event)
  const files = await Promise.all(
    (await artifactService.listArtifactKeys({ appName, userId, sessionId })).map(async (filename) => {
      const part = await artifactService.loadArtifact({ appName, userId, sessionId, filename })
      return { path: filename, data: Buffer.from(part?.inlineData?.data ?? "", "base64") }
    })
  )
  const given = responses(provider.requests.at(-1)?.["contents"])
  return {
    given: wire.given(provider.requests.at(-1) ?? {}).map((text, index) => ({
      text,
      isError: given[index]?.["error"] !== undefined
    })),
    offered: declarations(provider.requests[asks.length - 1] ?? {}).map(({ name }) => String(name)),
    files,
    progress: events.flatMap(({ customMetadata, partial }) =>
      partial === true && customMetadata !== undefined ? [JSON.stringify(customMetadata)] : []
    ),
    events,
    stored: (await sessionService.getSession({ appName, userId, sessionId }))?.events ?? [],
    requests: provider.requests
  }
}

const agentOf = (skills: Skills) => (model: Gemini): LlmAgent =>
  new LlmAgent({ name: "helper", model, tools: [skills.toolset], instruction: () => skills.prompt() })

suite("the Agent Development Kit", {
  converse: (toolbox, asks, { signal }) => talk(agentOf(fromToolbox(toolbox)), asks, signal)
})

describe("skills in the Agent Development Kit", () => {
  inWorld("offers within one run what was added, and tells of it", async (world) => {
    await using toolbox = await world.connect()
    const { given, requests } = await talk(agentOf(fromToolbox(toolbox)), [
      async () => {
        addSkill(world.directory, "newcomer", "echo I am new\n")
        await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "newcomer"))
        return { tool: "shout", input: { input: "a" } }
      },
      { tool: "newcomer", input: {} }
    ])
    assert.notInclude(JSON.stringify(requests[0]), "newcomer")
    assert.include(declarations(requests[1] ?? {}).map(({ name }) => name), "newcomer")
    assert.include(JSON.stringify(requests[1]?.["systemInstruction"]), "newcomer")
    assert.strictEqual(given[1]?.text, "I am new")
  })

  inWorld("keeps progress out of the session, and a script out of what all sessions share", async (world) => {
    addSkill(world.directory, "sneaking", "echo mine > user:settings.json; echo '::progress:: there' >&2\n")
    await using toolbox = await world.connect()
    await eventually("the tool is there", () => toolbox.tools().some(({ name }) => name === "sneaking"))
    const { events, files, stored } = await talk(agentOf(fromToolbox(toolbox)), [{ tool: "sneaking", input: {} }])
    assert.deepStrictEqual(files.map(({ path }) => path), ["user_settings.json"])
    const progress = events.filter(({ partial }) => partial === true)
    assert.deepInclude(progress.map(({ customMetadata }) => customMetadata), {
      skill_progress: {
        tool: "sneaking",
        functionCallId: events[0]?.content?.parts?.[0]?.functionCall?.id,
        progress: { _tag: "Progress", message: "there" }
      }
    })
    assert.deepStrictEqual(
      stored.slice(1).map(({ id }) => id),
      events.flatMap(({ id, partial }) => partial ? [] : [id])
    )
  })
})

describe("a tool of the Agent Development Kit", () => {
  inWorld("declares what it takes and gives, and answers with that, also outside of a run", async (world) => {
    await using toolbox = await world.connect()
    const adding = fromToolbox(toolbox).tools.find(({ name }) => name === "adding")
    assert.deepNestedInclude(adding?._getDeclaration(), {
      "parametersJsonSchema.required": ["a", "b"],
      "responseJsonSchema.required": ["sum"]
    })
    // There is none outside of a run, which the type does not foresee.
    const toolContext = undefined as unknown as Context
    assert.deepStrictEqual(await adding?.runAsync({ args: { a: 1, b: 2 }, toolContext }), { sum: 3 })
  })
})

describe("a skill with an output schema in the Agent Development Kit", () => {
  const addAnswering = (directory: string, name: string, schema: object, script: string): void => {
    addSkill(directory, name, script)
    const root = Path.join(directory, "testing", name)
    Fs.writeFileSync(
      Path.join(root, "SKILL.md"),
      `---\nname: ${name}\ndescription: Answers.\nmetadata:\n  skillscale.output: output.json\n---\n`
    )
    Fs.writeFileSync(Path.join(root, "output.json"), JSON.stringify({ type: "object", ...schema }))
  }

  const answers = async (toolbox: Toolbox, names: ReadonlyArray<string>) => {
    for (const name of names) {
      await eventually(
        `${name} is there`,
        () => toolbox.tools().some((tool) => tool.name === name && tool.outputSchema !== undefined)
      )
    }
    const { requests } = await talk(agentOf(fromToolbox(toolbox)), names.map((tool) => ({ tool, input: {} })))
    return responses(requests.at(-1)?.["contents"])
  }

  inWorld("lists its files beside its answer, whatever keys that has or may have", async (world) => {
    const count = { type: "integer" }
    addAnswering(world.directory, "plainly", {}, `echo a > a.txt; echo '{"zipped":1}'\n`)
    addAnswering(world.directory, "counting", {}, `echo a > a.txt; echo '{"files":3,"files_2":4}'\n`)
    addAnswering(world.directory, "perhaps", { properties: { files: count } }, `echo a > a.txt; echo '{"zipped":1}'\n`)
    await using toolbox = await world.connect()
    const files = [{ artifact: "87428fc522803d31", path: "a.txt", mime: "text/plain", size: 2 }]
    assert.deepStrictEqual(await answers(toolbox, ["plainly", "counting", "perhaps"]), [
      { zipped: 1, files },
      { files: 3, files_2: 4, files_3: files },
      { zipped: 1, files_2: files }
    ])
  })

  inWorld(
    "answers with that although it makes a file stdout.txt, and with text where it is too long",
    async (world) => {
      addAnswering(world.directory, "naming", {}, `echo mine > stdout.txt; echo '{"ok":true}'\n`)
      addAnswering(
        world.directory,
        "lengthy",
        {},
        `printf '{"all":"'; head -c 5000 /dev/zero | tr '\\0' x; printf '"}'\n`
      )
      await using toolbox = await world.connect({ maxOutput: 1000 })
      const [naming, lengthy] = await answers(toolbox, ["naming", "lengthy"])
      assert.deepNestedInclude(naming, { ok: true, "files[0].path": "stdout.txt" })
      assert.deepStrictEqual(Object.keys(lengthy ?? {}), ["result"])
      assert.include(String(lengthy?.["result"]), "read_artifact")
    }
  )
})

describe("the example for the Agent Development Kit", () => {
  inWorld("runs", async (world) => {
    await using provider = await serve(gemini("gemini-2.5-flash"), [{ tool: "shout", input: { input: "hello" } }])
    const env = { GOOGLE_GEMINI_BASE_URL: provider.url, GEMINI_API_KEY: "none" }
    const { code, stderr, stdout } = await runExample("google-adk", world, env, ["Shout hello."])
    assert.deepStrictEqual({ code, stdout, stderr }, { code: 0, stdout: "It said: HELLO\n", stderr: "" })
    assert.include(JSON.stringify(provider.requests[0]), "<available_skills>")
  })
})

describe("skills in ADK's SkillToolset", () => {
  const resources = (root: string): void => {
    for (
      const [path, text] of Object.entries({
        "references/guide.md": "the guide\n",
        "assets/data.bin": Buffer.from([0, 255, 1]),
        "scripts/greet.py":
          "import sys\nopen('greeting.txt', 'w').write('hi')\nprint('args', sys.argv[1:])\nopen('references/guide.md').read()\n",
        "scripts/fail.sh": "echo partly; echo 'no paper' >&2; exit 7\n"
      })
    ) {
      Fs.mkdirSync(Path.dirname(Path.join(root, path)), { recursive: true })
      Fs.writeFileSync(Path.join(root, path), text)
    }
    Fs.writeFileSync(
      Path.join(root, "SKILL.md"),
      "---\nname: greeting\ndescription: Greets people.\nlicense: MIT\nmetadata:\n  a: b\n---\nRun greet.py.\n"
    )
  }

  inWorld("finds, loads and runs skills of the servers", async (world) => {
    resources(Path.join(world.directory, "testing", "greeting"))
    await using toolbox = await world.connect()
    await eventually("the skill is there", () => toolbox.skills().some(({ name }) => name === "greeting"))
    const { codeExecutor, registry } = fromToolbox(toolbox)
    const scriptOutputDir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-adk-"))
    try {
      const { requests } = await talk(
        (model) =>
          new LlmAgent({
            name: "helper",
            model,
            tools: [new SkillToolset([], { registry, codeExecutor, scriptOutputDir })]
          }),
        [
          { tool: "search_skills", input: { query: "greet" } },
          { tool: "load_skill", input: { name: "greeting" } },
          { tool: "load_skill_resource", input: { skill_name: "greeting", path: "references/guide.md" } },
          {
            tool: "run_skill_script",
            input: { skill_name: "greeting", script_path: "scripts/greet.py", args: { name: "Ada", times: 2 } }
          },
          { tool: "run_skill_script", input: { skill_name: "greeting", script_path: "fail.sh" } },
          { tool: "load_skill", input: { name: "nobody" } }
        ]
      )
      const given = responses(requests.at(-1)?.["contents"])
      assert.include(JSON.stringify(given[0]), "Greets people.")
      assert.deepStrictEqual(given[1], {
        skill_name: "greeting",
        instructions: "Run greet.py.\n",
        frontmatter: { name: "greeting", description: "Greets people.", license: "MIT", metadata: { a: "b" } },
        resources: { references: ["guide.md"], assets: ["data.bin"], scripts: ["fail.sh", "greet.py"] }
      })
      assert.include(JSON.stringify(given[2]), "the guide")
      assert.deepStrictEqual(given[3], {
        stdout: "args ['--name', 'Ada', '--times', '2']\n",
        stderr: "",
        outputFiles: [{ name: "greeting.txt", mimeType: "text/plain", contentEncoding: "base64" }],
        outputDirectory: scriptOutputDir
      })
      assert.strictEqual(Fs.readFileSync(Path.join(scriptOutputDir, "greeting.txt"), "utf8"), "hi")
      assert.strictEqual(given[4]?.["errorCode"], "EXECUTION_ERROR")
      assert.match(String(given[4]?.["error"]), /exited with 7[^]*no paper[^]*partly/)
      assert.include(JSON.stringify(given[5]), "there is no skill")
    } finally {
      Fs.rmSync(scriptOutputDir, { recursive: true })
    }
  })

  inWorld(
    "names the output file that has the whole of what is too long or no text, and no tool that it has not",
    async (world) => {
      addSkill(world.directory, "chatty", `seq 1 5000; echo small > stdout.txt\n`)
      addSkill(world.directory, "accented", `yes é | head -c 3000\n`)
      addSkill(world.directory, "binary", `printf '\\377\\376\\000'\n`)
      addSkill(world.directory, "broken", `seq 1 5000; seq 1 5000 >&2; echo file > left.txt; exit 4\n`)
      await using toolbox = await world.connect({ maxOutput: 1000 })
      await eventually("they are there", () => toolbox.skills().some(({ name }) => name === "broken"))
      const { codeExecutor, registry } = fromToolbox(toolbox)
      const scriptOutputDir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "skillscale-adk-"))
      const ask = (name: string) => ({
        tool: "run_skill_script",
        input: { skill_name: name, script_path: "scripts/run.sh" }
      })
      const reading = (name: unknown) => Fs.readFileSync(Path.join(scriptOutputDir, String(name)))
      try {
        const toolset = new SkillToolset([], { registry, codeExecutor, scriptOutputDir })
        const { events, requests } = await talk(
          (model) => new LlmAgent({ name: "helper", model, tools: [toolset] }),
          ["chatty", "chatty", "accented", "binary", "broken"].map(ask)
        )
        const given = responses(requests.at(-1)?.["contents"])
        assert.lengthOf(given, 5)
        assert.notInclude(JSON.stringify(given), "read_artifact")
        const lines = Array.from({ length: 5000 }, (_, index) => `${index + 1}\n`).join("")
        const wholes = given.slice(0, 4).map(({ outputFiles, stdout }) => {
          const [, name] = /the output file "([^"]+)"\]$/.exec(String(stdout)) ?? []
          assert.include(items(outputFiles).map((file) => file["name"]), name)
          return reading(name)
        })
        assert.strictEqual(wholes[0]?.toString(), lines)
        assert.deepStrictEqual(wholes[1], wholes[0])
        assert.strictEqual(wholes[2]?.toString(), "é\n".repeat(1000))
        assert.deepStrictEqual(wholes[3], Buffer.from([255, 254, 0]))
        const [text = "", note] = String(given[0]?.["stdout"]).split(/\n(?=\[)/)
        assert.isTrue(text.length > 500 && lines.startsWith(text))
        assert.match(note ?? "", /^\[the beginning of 23893 bytes; all of them are the output file/)
        assert.strictEqual(reading("stdout.txt").toString(), "small\n")
        const error = String(given[4]?.["error"])
        assert.match(error, /exited with 4/)
        assert.strictEqual(given[4]?.["errorCode"], "EXECUTION_ERROR")
        assert.strictEqual(reading("left.txt").toString(), "file\n")
        for (const stream of ["stdout", "stderr"]) {
          const name = new RegExp(`the output file "(${stream}-[^"]+)"`).exec(error)?.[1]
          // Of standard error the server tells the last 16 KiB.
          const kept = reading(name).toString()
          assert.isTrue(lines.endsWith(kept) && kept.length >= (stream === "stdout" ? lines.length : 16_000))
        }
        assert.isUndefined(events.find(({ errorMessage }) => errorMessage !== undefined))
      } finally {
        Fs.rmSync(scriptOutputDir, { recursive: true })
      }
    }
  )

  inWorld("ends a script's process when the run is aborted", async (world) => {
    await using toolbox = await world.connect()
    const { codeExecutor, registry } = fromToolbox(toolbox)
    const aborting = new AbortController()
    const ended = talk(
      (model) => new LlmAgent({ name: "helper", model, tools: [new SkillToolset([], { registry, codeExecutor })] }),
      [{ tool: "run_skill_script", input: { skill_name: "endless", script_path: "scripts/run.sh" } }],
      aborting.signal
    ).then(() => "ended", () => "rejected")
    await eventually("the script runs", () => world.endless() > 0)
    aborting.abort()
    await eventually("its process is gone", () => world.endless() === 0)
    await ended
  })
})

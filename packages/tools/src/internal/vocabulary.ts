/** The tools that are not of one skill, under the names that models know. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import mime from "mime"
import { isUtf8 } from "node:buffer"
import type * as Artifacts from "../Artifacts.ts"
import type * as SkillCatalog from "../SkillCatalog.ts"
import type * as SkillTools from "../SkillTools.ts"
import * as ToolError from "../ToolError.ts"
import * as InputFiles from "./inputFiles.ts"
import * as Instructions from "./instructions.ts"
import * as JsonInput from "./jsonInput.ts"
import * as Listing from "./listing.ts"
import * as ModelText from "./modelText.ts"
import type { Running } from "./running.ts"
import type { Definition } from "./skillTool.ts"
import type { Name } from "./vocabularyNames.ts"

export interface Options extends ModelText.Cap {
  readonly catalog: SkillCatalog.SkillCatalog["Service"]
  readonly running: Running
}

export interface Named extends Definition {
  readonly name: Name
}

const reading: SkillTools.Hints = { readOnly: true, destructive: false, idempotent: true, openWorld: false }
const running: SkillTools.Hints = { readOnly: false, destructive: true, idempotent: false, openWorld: true }

const count = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))
const offset = Schema.optionalKey(
  Schema.Natural.annotate({ description: "The character to begin at, from 0, for what does not fit at once" })
)
const skillName = Schema.String.annotate({ description: "The skill's name" })
const topicName = Schema.optionalKey(
  Schema.String.annotate({ description: "The skill's topic, where skills of several topics have its name" })
)

const inputs = {
  list_skills: JsonInput.make(Schema.Struct({
    limit: Schema.optionalKey(count(1000).annotate({ description: "How many at most; 100 without" })),
    offset: Schema.optionalKey(Schema.Natural.annotate({ description: "How many to pass over" }))
  })),
  search_skills: JsonInput.make(Schema.Struct({
    query: Schema.String.annotate({ description: "Words for what the skill should do" }),
    limit: Schema.optionalKey(count(100).annotate({ description: "How many at most; 10 without" }))
  })),
  load_skill: JsonInput.make(Schema.Struct({ skill: skillName, topic: topicName })),
  read_skill_resource: JsonInput.make(Schema.Struct({
    skill: skillName,
    topic: topicName,
    path: Schema.String.annotate({ description: "A file of the skill, from its root" }),
    offset
  })),
  run_skill_script: JsonInput.make(Schema.Struct({
    skill: skillName,
    topic: topicName,
    script: Schema.optionalKey(
      Schema.String.annotate({ description: "A file of the skill, from its root; its entry point without" })
    ),
    args: Schema.optionalKey(
      Schema.Array(Schema.String).annotate({ description: "Arguments of the script, one each, as on a command line" })
    ),
    stdin: Schema.optionalKey(Schema.String.annotate({ description: "What the script reads on standard input" })),
    files: Schema.optionalKey(InputFiles.InputFiles),
    timeout: Schema.optionalKey(
      Schema.Finite.check(Schema.isGreaterThan(0)).annotate({ description: "Seconds that it may take" })
    ),
    digest: Schema.optionalKey(
      Schema.String.annotate({ description: "Runs the skill only if it still has this digest" })
    )
  })),
  read_artifact: JsonInput.make(Schema.Struct({
    artifact: Schema.String.annotate({ description: "The artifact's id" }),
    offset
  }))
}

/** How many topics are named to who gives another. */
const maxTopics = 10

const text = { type: "string" } as const
const runSchema = {
  type: "object",
  properties: {
    exit_code: { type: "integer" },
    stdout: text,
    stderr: text,
    artifacts: {
      type: "array",
      items: {
        type: "object",
        properties: { id: text, path: text, mime: text, size: { type: "integer" }, sha256: text },
        required: ["id", "path", "mime", "size", "sha256"]
      }
    }
  },
  required: ["exit_code", "stdout", "stderr", "artifacts"]
} as const

export const make = (
  { catalog, running: runs, ...cap }: Options,
  wanted: ReadonlyArray<Name>
): ReadonlyArray<Named> => {
  const { artifacts, has, maxOutput } = cap
  const find = Effect.fnUntraced(function*(name: string, topic: string | undefined) {
    const named = (yield* catalog.skills).filter((skill) => skill.name === name)
    if (named.length === 0 || topic === undefined || named.some((skill) => skill.topic === topic)) {
      return yield* catalog.find(name, topic)
    }
    const topics = named.slice(0, maxTopics).map((skill) => skill.topic).join(", ")
    return yield* new ToolError.BadArguments({
      detail: `there is no skill ${JSON.stringify(name)} on the topic ${JSON.stringify(topic)}; it is on ${topics}`
    })
  })

  const readText = (
    label: string,
    data: Uint8Array,
    from: number,
    type: string
  ): SkillTools.Output => {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    if (!isUtf8(bytes)) {
      const artifact = artifacts.put({ path: label, mime: type, data })
      const what = `[${JSON.stringify(label)} is not text (${type}, ${ModelText.sizeOf(artifact.size)})${
        ModelText.reference(artifact, cap)
      }]`
      return { text: what, structured: undefined, artifacts: [artifact] }
    }
    const all = bytes.toString("utf8")
    const shown = ModelText.head(all.slice(from), maxOutput - 200)
    const next = from + shown.length
    const note = next < all.length ? `\n[characters ${from} to ${next} of ${all.length}; go on at offset ${next}]` : ""
    return { text: `${shown}${note}` || "(empty)", structured: undefined, artifacts: [] }
  }

  const readArtifact = (id: string): Effect.Effect<Artifacts.Artifact, ToolError.ArtifactNotFound> => {
    const artifact = artifacts.get(id)
    return artifact === undefined
      ? Effect.fail(new ToolError.ArtifactNotFound({ artifact: id }))
      : Effect.succeed(artifact)
  }

  const common = { skill: undefined, outputSchema: undefined, hints: reading }

  const all: ReadonlyArray<Named> = [
    {
      ...common,
      name: "list_skills",
      title: "List skills",
      description: "Lists the skills by name, with what each is for.",
      inputSchema: inputs.list_skills.schema,
      outputSchema: Listing.schema,
      call: Effect.fnUntraced(function*(input) {
        const { limit = 100, offset = 0 } = yield* inputs.list_skills.read(input)
        return Listing.page(yield* catalog.skills, { limit, offset }, maxOutput)
      })
    },
    {
      ...common,
      name: "search_skills",
      title: "Search skills",
      description: "Finds skills by words of their name, description and instructions, the best first.",
      inputSchema: inputs.search_skills.schema,
      outputSchema: Listing.schema,
      call: Effect.fnUntraced(function*(input) {
        const { limit = 10, query } = yield* inputs.search_skills.read(input)
        const found = (yield* catalog.search(query, { limit })).map(({ skill }) => skill)
        const output = Listing.found(found, yield* catalog.skills, maxOutput)
        return found.length > 0
          ? output
          : {
            ...output,
            text: `No skill matches ${JSON.stringify(query.slice(0, 200))}. Try other words${
              has("list_skills") ? ", or list_skills" : ""
            }.`
          }
      })
    },
    {
      ...common,
      name: "load_skill",
      title: "Load skill",
      description: "Reads the instructions of a skill and the list of its files. Do this before you use the skill.",
      inputSchema: inputs.load_skill.schema,
      call: Effect.fnUntraced(function*(input) {
        const { skill, topic } = yield* inputs.load_skill.read(input)
        return yield* Instructions.load({ catalog, ...cap }, yield* find(skill, topic))
      })
    },
    {
      ...common,
      name: "read_skill_resource",
      title: "Read skill resource",
      description: "Reads a file of a skill, as named in its instructions or in the list of its files.",
      inputSchema: inputs.read_skill_resource.schema,
      call: Effect.fnUntraced(function*(input) {
        const { offset = 0, path, skill, topic } = yield* inputs.read_skill_resource.read(input)
        const found = yield* find(skill, topic)
        const data = yield* Effect.mapError(catalog.resource(found, path), ({ reason }) => reason)
        return readText(path, data, offset, mime.getType(path) ?? "application/octet-stream")
      })
    },
    {
      ...common,
      name: "run_skill_script",
      title: "Run skill script",
      description: "Runs a script of a skill on the server and returns what it prints and the files that it makes. " +
        "It runs in a fresh copy of the skill's folder; nothing of it is left for the next run.",
      inputSchema: inputs.run_skill_script.schema,
      outputSchema: runSchema,
      hints: running,
      call: Effect.fnUntraced(function*(input, options) {
        const { args, digest, files = [], script, stdin, timeout, ...wanted } = yield* inputs.run_skill_script.read(
          input
        )
        const { name, topic } = yield* find(wanted.skill, wanted.topic)
        const placed = yield* InputFiles.read(files, artifacts)
        const { output, result, stdout } = yield* runs.run({
          skill: name,
          topic,
          script,
          args,
          stdin,
          files: placed,
          digest,
          timeoutSeconds: timeout
        }, options)
        return {
          ...output,
          structured: {
            exit_code: result.exitCode ?? 0,
            stdout,
            stderr: ModelText.tail(result.stderr, 4000),
            artifacts: output.artifacts.map(({ id, mime, path, sha256, size }) => ({ id, path, mime, size, sha256 }))
          }
        }
      })
    },
    {
      ...common,
      name: "read_artifact",
      title: "Read artifact",
      description: "Reads an artifact: a file that a run made, or output that was too long to be shown at once.",
      inputSchema: inputs.read_artifact.schema,
      call: Effect.fnUntraced(function*(input) {
        const { artifact: id, offset = 0 } = yield* inputs.read_artifact.read(input)
        const artifact = yield* readArtifact(id)
        const output = readText(artifact.path, artifact.data, offset, artifact.mime)
        return output.artifacts.length === 0 ? output : { ...output, artifacts: [artifact] }
      })
    }
  ]
  return all.filter(({ name }) => wanted.includes(name))
}

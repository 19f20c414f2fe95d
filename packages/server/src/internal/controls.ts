import * as Control from "@skillscale/core/Control"
import type * as Protocol from "@skillscale/core/Protocol"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as SchemaParser from "effect/SchemaParser"
import { createHash } from "node:crypto"
import type * as Dependencies from "../Dependencies.ts"
import type * as SkillRunner from "../SkillRunner.ts"
import * as Answer from "./answer.ts"

/** What the answers to control messages are made from. */
export interface Options {
  readonly id: string
  readonly topic: string
  readonly skills: Effect.Effect<ReadonlyArray<SkillDiscovery.Skill>>
  readonly discovery: SkillDiscovery.SkillDiscovery["Service"]
  readonly dependencies: Dependencies.Dependencies["Service"] | undefined
  readonly hints: SkillRunner.SkillRunner["Service"]["hints"]
  readonly reply: (to: string, response: Protocol.Response) => Effect.Effect<unknown>
  /** Questions that are answered at a time; further ones are refused. */
  readonly maxConcurrent: number
}

type Question = Exclude<
  Control.Control,
  { readonly kind: "cancel" | "grant" | "read" | "received" | "renew" | "waiting" }
>

const catalogJson = SchemaParser.encodeSync(Control.CatalogReply)
const skillJson = SchemaParser.encodeSync(Control.SkillReply)
const resourceJson = SchemaParser.encodeSync(Control.ResourceReply)

const stateOf = ({ detail, status }: Dependencies.State): Control.SkillState => ({
  status,
  ...detail === undefined ? {} : { detail }
})

const infoOf = ({ dependencies, hints }: Options) => (skill: SkillDiscovery.Skill): Control.SkillInfo => ({
  ...SkillDiscovery.info(skill),
  hints: hints(skill),
  ...dependencies === undefined ? {} : { state: stateOf(dependencies.state(skill)) }
})

/** Fails when a file was changed since the digest was computed that the caller asks for. */
const kept = (
  { digest }: Extract<Question, { readonly kind: "describe" | "resource" }>,
  skill: SkillDiscovery.Skill,
  path: string,
  sha256: string
): Effect.Effect<void, Answer.Refusal> =>
  digest === undefined || skill.files.some((file) => file.path === path && file.sha256 === sha256)
    ? Effect.void
    : Effect.fail(Answer.changing(skill, path))

/** Answers questions about the catalog, one fiber each, so that a slow disk does not hold up calls. */
export const make = Effect.fnUntraced(function*(options: Options) {
  const { discovery, id, reply, skills, topic } = options
  const info = infoOf(options)
  const fibers = yield* FiberSet.make()

  const catalog = (served: ReadonlyArray<SkillDiscovery.Skill>) => {
    const infos = served.map(info)
    const revision = createHash("sha256").update(JSON.stringify(infos)).digest("hex").slice(0, 16)
    return { server: id, topic, revision, skills: infos }
  }

  const here = Effect.map(skills, (found) => found.map((skill) => ({ ...skill, topic })))

  const content = Effect.fnUntraced(function*(question: Question) {
    const served = yield* here
    if (question.kind === "ping") return {}
    if (question.kind === "topology") return yield* Effect.fail(Answer.topologyElsewhere)
    if (question.kind === "catalog") return catalogJson(catalog(served))
    const skill = served.find((candidate) => candidate.name === question.skill)
    if (skill === undefined) return yield* Effect.fail(Answer.skillNotFound(question.skill, topic, served))
    if (question.digest !== undefined && question.digest !== skill.digest) {
      return yield* Effect.fail(Answer.skillChanged(skill, question.digest))
    }
    if (question.kind === "describe") {
      const document = yield* Effect.mapError(discovery.document(skill), Answer.unreadable("SKILL.md"))
      const { frontMatter, instructions, sha256, size } = document
      yield* kept(question, skill, "SKILL.md", sha256)
      const resources = discovery.resources(skill).map(({ path, sha256, size }) => ({ path, size, sha256 }))
      return skillJson({
        skill: info(skill),
        instructions,
        resources,
        frontMatter,
        document: { path: "SKILL.md", size, sha256 }
      })
    }
    const data = yield* Effect.mapError(discovery.resource(skill, question.path), Answer.unreadable(question.path))
    if (question.digest === undefined) return resourceJson({ path: question.path, data })
    yield* kept(question, skill, question.path, createHash("sha256").update(data).digest("hex"))
    return resourceJson({ path: question.path, data, digest: skill.digest })
  })

  const answer = Effect.fnUntraced(function*(question: Question) {
    const response = yield* content(question).pipe(
      Effect.catchDefect((defect) =>
        Effect.andThen(
          Effect.logError("a question failed inside the server", defect),
          Effect.fail(Answer.internal(defect))
        )
      ),
      Effect.match({
        onFailure: (refusal) => Answer.refusal(question.requestId, refusal),
        onSuccess: (value) => Answer.instructions(question.requestId, JSON.stringify(value))
      })
    )
    yield* reply(question.replyTo, response)
  })

  const ask = (question: Question) =>
    Effect.flatMap(FiberSet.size(fibers), (size) =>
      size < options.maxConcurrent
        ? FiberSet.run(fibers, answer(question))
        : reply(
          question.replyTo,
          Answer.refusal(question.requestId, Answer.overloaded("too many questions at a time"))
        ))

  return {
    ask,
    settled: FiberSet.awaitEmpty(fibers),
    /** Differs when what is answered to `catalog` does. */
    revision: Effect.map(here, (served) => catalog(served).revision)
  }
})

/**
 * The one error of tools and its reasons: those of the client, and what a model may get wrong about a tool itself.
 *
 * A skill that ran and failed is one of them (`SkillFailed`, with its exit code and the end of standard error), so that every
 * framework tells its model of it as of any tool that failed. `text` is what a model should read.
 *
 * @since 0.1.0
 */
import * as ClientError from "@skillscale/client/ClientError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Artifacts from "./Artifacts.ts"

/**
 * There is no tool of that name (any more).
 *
 * @category errors
 * @since 0.1.0
 */
export class ToolNotFound extends Schema.TaggedError<ToolNotFound>()("ToolNotFound", {
  near: Schema.Array(Schema.String)
}) {
  readonly isRetryable = false
  override get message() {
    return `there is no such tool${this.near.length === 0 ? "" : `; did you mean ${this.near.join(", ")}?`}`
  }
}

/**
 * The arguments of the tool are not what its schema says.
 *
 * @category errors
 * @since 0.1.0
 */
export class BadArguments extends Schema.TaggedError<BadArguments>()("BadArguments", { detail: Schema.String }) {
  readonly isRetryable = false
  override get message() {
    return this.detail
  }
}

/**
 * The artifact was never there, or had to make room for later ones.
 *
 * @category errors
 * @since 0.1.0
 */
export class ArtifactNotFound extends Schema.TaggedError<ArtifactNotFound>()("ArtifactNotFound", {
  artifact: Schema.String
}) {
  readonly isRetryable = false
  override get message() {
    return `there is no artifact ${JSON.stringify(this.artifact)}, or not any more; run the skill again`
  }
}

/**
 * The schema of every reason.
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Union([ToolNotFound, BadArguments, ArtifactNotFound, ...ClientError.Reason.members])

/**
 * The type of `Reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * The only error of this package's tools; `reason` says why the tool `tool` has no result. As JSON, as in logs, the artifacts are
 * without their bytes.
 *
 * @category errors
 * @since 0.1.0
 */
export class ToolError extends Schema.TaggedError<ToolError>()("ToolError", {
  tool: Schema.String,
  reason: Reason,
  /** What a model should read: what failed and why, and what the script printed. As long as the output of a tool at most. */
  text: Schema.String,
  /** Files that a run made that failed, and what was too long for `text`. */
  artifacts: Schema.Array(Artifacts.Artifact).pipe(Schema.withConstructorDefault(Effect.succeed([])))
}) {
  override readonly cause = this.reason
  readonly isRetryable: boolean = this.reason.isRetryable
  override get message() {
    return `tool ${this.tool}: ${this.reason.message}`
  }
  override toJSON() {
    return { ...this, artifacts: this.artifacts.map(({ data: _, ...file }) => file) }
  }
}

/**
 * What a skill gets of what its manifest asks for: the policy, the limits and the secrets of its runs. Read once for each
 * manifest.
 */
import type * as Control from "@skillscale/core/Control"
import type * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as SkillManifest from "@skillscale/core/SkillManifest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Executor from "../Executor.ts"
import * as Sandbox from "../Sandbox.ts"

const maxTold = 1024

/**
 * What a process may ask the kernel for beyond the memory that its tree may use: V8 alone reserves more than 512 MiB that it
 * hardly touches, and the tree's limit, which counts what is used, has to be the first that is reached.
 */
const reservedBytes = 1024 ** 3

export interface Terms {
  /** None for a run that is not confined. */
  readonly policy: Sandbox.Policy | undefined
  readonly refused: ReadonlyArray<string>
  readonly limits: Executor.Limits
  /** Their names. */
  readonly secrets: ReadonlyArray<string>
  readonly hints: Control.Hints
}

export interface RunTerms {
  readonly of: (skill: SkillDiscovery.Skill) => Terms
  /** Warns once of what a skill asks for and does not get. */
  readonly tell: (skill: SkillDiscovery.Skill) => Effect.Effect<void>
}

/** What the operator lets skills have, and the limits that hold where a policy sets none: the operator's own, or `defaults`. */
export const make = (
  grants: Sandbox.Grants | "off",
  own: Executor.Limits | undefined,
  defaults: Executor.Limits
): RunTerms => {
  const limits = own ?? defaults
  const limitsUnder = (policy: Sandbox.Policy): Executor.Limits => ({
    ...limits,
    ...own === undefined ? { memoryBytes: policy.memoryBytes + reservedBytes, fileBytes: policy.diskBytes } : {},
    treeBytes: policy.memoryBytes,
    treeTasks: policy.processes,
    diskBytes: policy.diskBytes,
    ...policy.cpuSeconds === undefined ? {} : { cpuSeconds: policy.cpuSeconds }
  })
  const known = new WeakMap<SkillManifest.SkillManifest, Terms>()
  const termsOf = ({ manifest }: SkillDiscovery.Skill): Terms => {
    const existing = known.get(manifest)
    if (existing !== undefined) return existing
    const { policy, refused }: Partial<Sandbox.Resolved> = grants === "off" ? {} : Sandbox.resolve(manifest, grants)
    // Nothing is left of a run that is confined and has no network, and nothing outside is reached.
    const isClosed = policy !== undefined && !policy.network
    const terms = {
      policy,
      refused: refused ?? [],
      limits: policy === undefined ? limits : limitsUnder(policy),
      secrets: SkillManifest.env(manifest),
      hints: {
        readOnly: isClosed,
        destructive: !isClosed,
        idempotent: Option.getOrElse(SkillManifest.idempotent(manifest), () => isClosed),
        openWorld: !isClosed
      }
    }
    known.set(manifest, terms)
    return terms
  }
  const told = new Set<string>()
  const tell = (skill: SkillDiscovery.Skill) => {
    const { refused } = termsOf(skill)
    if (refused.length === 0 || told.has(skill.digest)) return Effect.void
    if (told.size >= maxTold) told.clear()
    told.add(skill.digest)
    return Effect.logWarning("a skill asks for more than it gets").pipe(
      Effect.annotateLogs({ skill: skill.name, refused: refused.join(" ") })
    )
  }
  return { of: termsOf, tell }
}
